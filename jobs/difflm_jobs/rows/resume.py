"""Resuming: what the parts in an output folder belong to, and whether a job may go on from them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

import difflm
from difflm.artifacts.atomic import storage_errors
from difflm.artifacts.dataset import DATA, DATASET_MANIFEST, ENTRIES, EVALUATION_NAME, JOB_NAME, Dataset
from difflm.artifacts.storage import LocalStore
from difflm.errors import ConfigError, StorageError
from difflm.lifetime import lock_folder
from difflm.printable import printable
from difflm.telemetry import JSON

Resume = Literal["never", "always", "if-possible"]
KIND = "difflm-dataset"
FORMAT_VERSION = 1
DRAWING_VERSION = 4  # raised when the same bundle and settings would give other rows or other bytes
SHORT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class JobIdentity:
    """All that the bytes of a part depend on, but for its range."""

    bundle_sha256: str
    sampling: Mapping[str, JSON]
    plan: Mapping[str, JSON]
    seed: int
    rows_per_shard: int
    format: str
    screen: Mapping[str, JSON] | None = None
    safe_csv: bool = False
    written: str | None = None
    """In which form, if not that of the bundle: plain, or the hash of another one."""

    def facts(self) -> dict[str, JSON]:
        """Return the identity as JSON."""
        return {
            "bundle_sha256": self.bundle_sha256,
            "sampling": dict(self.sampling),
            "plan": dict(self.plan),
            "seed": self.seed,
            "rows_per_shard": self.rows_per_shard,
            "format": self.format,
            "screen": None if self.screen is None else dict(self.screen),
            "drawing_version": DRAWING_VERSION,
            **({"safe_csv": True} if self.safe_csv else {}),  # jobs of before have none
            **({} if self.written is None else {"written": self.written}),
        }

    @property
    def fingerprint(self) -> str:
        """The hash of the identity, in hex."""
        return hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode()).hexdigest()


def resume_mode(text: str) -> Resume:
    """Read a value of --resume.

    Raises:
        ConfigError: there is no such mode.
    """
    if text not in get_args(Resume):
        raise ConfigError(f"--resume {text}: unknown; give one of {', '.join(get_args(Resume))}")
    return cast("Resume", text)


@contextmanager
def claimed(dataset: Dataset, identity: JobIdentity, *, rows: int, resume: Resume) -> Iterator[None]:
    """Have a dataset for this command alone within, as of `claim`. Buckets know no locks.

    Raises:
        StorageError: another command writes there at this moment.
    """
    with ExitStack() as stack:
        if isinstance(dataset.store, LocalStore):  # first: a refused command is to leave all as it is
            stack.enter_context(_held(dataset.store.folder))
        claim(dataset, identity, rows=rows, resume=resume)
        yield


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Make a folder and hold its lock within; one that is still empty then is taken away again."""
    with ExitStack() as stack:
        while True:
            with storage_errors(folder), suppress(FileExistsError):
                folder.mkdir(parents=True, exist_ok=True)
            try:
                with storage_errors(folder):
                    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, descriptor)
                refusal = "another command writes there at this moment; wait for its end, or give another place"
                lock_folder(descriptor, f"{folder}: {refusal}")
                if os.path.samestat(os.fstat(descriptor), folder.stat()):
                    break
            except FileNotFoundError:
                if folder.is_symlink():
                    raise StorageError(
                        f"{folder}: a link that leads to nothing; remove it, or give another place"
                    ) from None
                # gone with the end of another command, as it may be for the lock of a folder that is no more
        try:
            yield
        finally:
            with suppress(OSError):
                folder.rmdir()


def claim(dataset: Dataset, identity: JobIdentity, *, rows: int, resume: Resume) -> None:
    """Make a dataset this job's own, or refuse; afterwards job.json is there, and no manifest until it is finished.

    Raises:
        ConfigError: the folder holds another job's parts, more rows than asked, or what ``resume`` rules out.
        StorageError: the folder cannot be written.
    """
    shown = dataset.store.shown
    found = dataset.read_json(JOB_NAME)
    parts = bool(dataset.store.sizes(ENTRIES) or dataset.store.sizes(DATA))
    if resume == "never" and (found is not None or parts):
        raise ConfigError(f"{shown}: already holds a job; give an empty folder, or --resume if-possible to go on")
    if resume == "always" and found is None:
        raise ConfigError(f"{shown}: holds no job to go on with; check the folder, or give --resume if-possible")
    if found is None and parts:
        raise ConfigError(f"{shown}: holds parts of no known job ({JOB_NAME} is missing); give another folder")
    if found is not None:
        _refuse_another(shown, found, identity)
        last = max((entry.stop for entry in dataset.entries()), default=0)
        if last > rows:
            raise ConfigError(
                f"{shown}: already holds indices up to {last:,}, and --rows {rows:,} are fewer; nothing is taken away, "
                "so give more rows or another folder"
            )
        for name in (DATASET_MANIFEST, EVALUATION_NAME):  # of the rows there were before
            dataset.store.remove(name)
    else:
        _refuse_anybodys(dataset)
    dataset.write_json(
        JOB_NAME,
        {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "fingerprint": identity.fingerprint,
            **identity.facts(),
            "rows": rows,
            "platform_version": difflm.__version__,
            "begun": (found or {}).get("begun") or datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )


def _refuse_anybodys(dataset: Dataset) -> None:
    """Refuse a folder that is no dataset's and has something in it; a bucket's, for files of a dataset's names.

    Raises:
        ConfigError: names the first.
    """
    if isinstance(dataset.store, LocalStore) and dataset.store.folder.is_dir():
        others = sorted(path.name for path in dataset.store.folder.iterdir() if not path.name.startswith("."))
        if others:
            shown = printable(f"{dataset.store.shown}: has {others[0]} in it")
            raise ConfigError(f"{shown} and is no dataset; give a new folder, or the name of a file such as rows.csv")
    for name in (JOB_NAME, DATASET_MANIFEST, EVALUATION_NAME):
        if dataset.store.read(name) is not None:
            raise ConfigError(
                f"{dataset.store.shown}/{name}: is none of a dataset, and would be replaced; give another folder"
            )


def _refuse_another(shown: str, found: Mapping[str, Any], identity: JobIdentity) -> None:
    if found.get("fingerprint") == identity.fingerprint:
        return
    facts = identity.facts()
    differing = [name for name, value in facts.items() if found.get(name) != value]
    there = str(found.get("fingerprint"))[:SHORT]
    raise ConfigError(
        f"{shown}: holds the job {there}, and this one is {identity.fingerprint[:SHORT]}: "
        f"another {', '.join(differing) or 'version'}; give another folder, or the settings of that job (in {JOB_NAME})"
    )
