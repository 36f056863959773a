"""The folder of jobs on the disk, where each has a folder of its own, and which of those that ended have to go.

<jobs>/<id>/job.json       what was asked, by whom; written first
<jobs>/<id>/data.<format>  the rows; appears whole
<jobs>/<id>/rows.json      how many bytes they have, once they are there
<jobs>/<id>/error.txt      why there will be none
<jobs>/<id>/.lock          held by the server that runs the job, and by the job's own process
"""

from __future__ import annotations

import re
import shutil
import stat
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from difflm.artifacts.atomic import write_json_atomic
from difflm.config import Config
from difflm.errors import BundleError
from difflm.regular_files import read_file
from difflm.serving.backend import BundleRef, refuse_replaced
from difflm.serving.config import KeptConfig
from difflm.telemetry import parse_json

ID = re.compile(r"[0-9a-f]{32}")
_SPEC = "job.json"
_ROWS = "rows.json"
_ENTRY = re.compile(r"part-(\d+)-(\d+)\.json")
_OF_A_JOB = re.compile(r"\.|data\.|rows\.json$|error\.txt$")  # and no job.json
_STRAY_S = 3600.0  # until a folder without job.json is what a removal left, not one that is being made
_DAY_S = 86_400.0


class JobSpec(Config):
    """What a job makes; `folder` is the bundle's. `sampling` is a SamplingConfig as JSON."""

    owner: str
    bundle: str
    version: str
    folder: str
    n: int
    seed: int
    where: str | None
    constraints: tuple[str, ...] = ()
    sampling: str
    format: Literal["jsonl", "csv", "parquet", "arrow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A job that ended: when, and how many bytes its rows have."""

    name: str
    owner: str
    at: float
    size: int


class JobsFolder:
    """Where jobs lie."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ended: dict[str, Ended] = {}  # what was looked at; it changes no more

    def write(self, name: str, spec: JobSpec) -> None:
        """Make the folder of a job."""
        (self.path / name).mkdir(mode=0o700)
        write_json_atomic(self.path / name / _SPEC, spec.model_dump(mode="json"))

    def read(self, name: str) -> JobSpec | None:
        """Read what a job was asked for; None where nobody can tell."""
        try:
            return JobSpec.model_validate_json(read_file(self.path / name / _SPEC))
        except (ValueError, OSError):
            return None

    def unknown(self, known: Collection[str]) -> dict[str, JobSpec]:
        """Read the jobs that are none of the known ones, the oldest first."""
        times: dict[str, float] = {}
        for path in self.path.glob(f"*/{_SPEC}"):
            with suppress(OSError):
                times[path.parent.name] = path.stat().st_mtime
        names = [name for name in sorted(times, key=lambda name: times[name]) if name not in known]
        return {name: spec for name in names if (spec := self.read(name)) is not None}

    def has(self, name: str) -> bool:
        """Tell whether a job is still one."""
        return (self.path / name / _SPEC).is_file()

    def data(self, name: str, spec: JobSpec) -> Path:
        """Return where the rows of a job are, or will be."""
        return self.path / name / f"data.{spec.format}"

    def error(self, name: str) -> Path:
        """Return where it stands why a job failed."""
        return self.path / name / "error.txt"

    def has_ended(self, name: str, spec: JobSpec) -> bool:
        """Tell whether a job has its rows, or never will."""
        return any(path.exists() for path in (self.data(name, spec), self.path / name / _ROWS, self.error(name)))

    def note_rows(self, name: str, spec: JobSpec) -> None:
        """Write down how many bytes the rows of a job have."""
        write_json_atomic(self.path / name / _ROWS, {"bytes": self.data(name, spec).stat().st_size})

    def damage(self, name: str, spec: JobSpec) -> str | None:
        """Say that the rows of a job are not those that it made, where one can tell; None of one that made none yet."""
        try:
            noted = parse_json(read_file(self.path / name / _ROWS).decode())
        except FileNotFoundError:
            noted = None
        except (ValueError, OSError):
            return f"{_ROWS} is damaged; ask for the rows again"
        path = self.data(name, spec)
        try:
            found = path.lstat()
        except OSError:
            return None if noted is None else "its rows are gone; ask for them again"
        if not stat.S_ISREG(found.st_mode) or noted not in (None, {"bytes": found.st_size}):
            return f"{path.name} is not the file that was written; ask for the rows again"
        return None

    def rows_done(self, name: str) -> int:
        """Count the rows of a job that are written."""
        entries = (self.path / name).glob(".data.*/entries/part-*.json")
        ranges = [match for entry in entries if (match := _ENTRY.fullmatch(entry.name))]
        return sum(int(match[2]) - int(match[1]) for match in ranges)

    def withdraw(self, name: str) -> None:
        """Let a job be none any more, for all servers."""
        (self.path / name / _SPEC).unlink(missing_ok=True)
        self._ended.pop(name, None)

    def remove(self, name: str) -> None:
        """Remove all that there is of a job; what was asked goes first, without which no server goes on with it."""
        with suppress(OSError):
            self.withdraw(name)
        shutil.rmtree(self.path / name, ignore_errors=True)

    def remove_strays(self) -> None:
        """Remove what a removal left that did not come to its end."""
        for path in self.path.iterdir():
            with suppress(OSError):
                old = time.time() - path.lstat().st_mtime > _STRAY_S
                if old and ID.fullmatch(path.name) and all(_OF_A_JOB.match(one.name) for one in path.iterdir()):
                    shutil.rmtree(path, ignore_errors=True)

    def surplus(self, specs: Mapping[str, JobSpec], kept: KeptConfig) -> list[str]:
        """List the jobs that have ended and are kept no longer."""
        found = sorted(self._look(specs), key=lambda ended: ended.owner)
        owners = groupby(found, key=lambda ended: ended.owner)
        return [name for _, ended in owners for name in surplus(list(ended), kept, time.time())]

    def _look(self, specs: Mapping[str, JobSpec]) -> Iterator[Ended]:
        for name, spec in specs.items():
            if name not in self._ended:
                for path in (self.data(name, spec), self.error(name)):
                    with suppress(OSError):
                        at = path.stat()
                        self._ended[name] = Ended(name=name, owner=spec.owner, at=at.st_mtime, size=at.st_size)
                        break
            if name in self._ended:
                yield self._ended[name]


def surplus(ended: list[Ended], kept: KeptConfig, now: float) -> list[str]:
    """List the jobs of one key that have to go: those that are too old, and the oldest beyond the number and the bytes.

    The newest one is kept for its time, however large it is: whoever asked for it has to be able to fetch it.
    """
    gone, size = [], 0
    for place, one in enumerate(sorted(ended, key=lambda one: (one.at, one.name), reverse=True)):
        size += one.size
        if now - one.at > kept.days * _DAY_S or place >= kept.jobs or (place > 0 and size > kept.bytes):
            gone.append(one.name)
    return gone


def replaced(spec: JobSpec) -> str | None:
    """Say that another version lies in the folder of a job's bundle by now, if one does."""
    try:
        refuse_replaced(BundleRef(name=spec.bundle, folder=spec.folder, version=spec.version))
    except (BundleError, OSError) as error:
        return str(error).removeprefix(f"{spec.folder}: ")
    return None
