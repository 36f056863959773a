"""`difflm verify` on a dataset: every hash, and every index exactly once or given up with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from difflm.artifacts.dataset import DATASET_MANIFEST, JOB_NAME, Dataset
from difflm.artifacts.storage import Store, open_store
from difflm.errors import ArtifactError
from difflm_jobs.pipeline.mapping import account_of

_MAX_COUNTED = 1000


def is_dataset(location: str) -> bool:
    """Tell whether a URL, or a folder with a dataset's job.json, is meant rather than an experiment."""
    return "://" in location or (Path(location) / JOB_NAME).is_file()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedDataset:
    """A dataset in which everything is as it was written: its parts, the indices it was asked for, and its rows."""

    where: str
    parts: int
    indices: int
    rows: int
    given_up: int


def verify_dataset(location: str) -> VerifiedDataset:
    """Compare a dataset with its manifest, its entries, and the indices it was asked for.

    Raises:
        ArtifactError: it is not finished, or something is missing, changed, doubled or strange; names the first and how
            many there are.
        ConfigError, StorageError: the place is no place, or cannot be reached.
    """
    store = open_store(location)
    job = _read(store, JOB_NAME, _Job, "no dataset")
    dataset = Dataset(store=store, format=job.format)
    entries = dataset.entries()
    if dataset.read_json(DATASET_MANIFEST) is None:
        done = sum(entry.stop - entry.start for entry in entries)
        raise ArtifactError(
            f"{store.shown}: not finished, {done:,} of {job.rows:,} indices are done; give the same command again"
        )
    manifest = _read(store, DATASET_MANIFEST, _Listed, "no manifest of a dataset")
    problems = [*islice(dataset.problems(entries, job.rows), _MAX_COUNTED)]
    listed = [(shard.start, shard.stop, shard.sha256) for shard in manifest.shards]
    if manifest.fingerprint != job.fingerprint or listed != [(e.start, e.stop, e.sha256) for e in entries]:
        problems.append(f"{store.shown}/{DATASET_MANIFEST}: does not list the parts that are there")
    else:
        counted = account_of(entries, job.rows)
        wrong = [f"totals.{key}" for key in counted if manifest.totals.get(key, counted[key]) != counted[key]]
        wrong += [
            f"shards.{place}.{key}"
            for place, (shard, entry) in enumerate(zip(manifest.shards, entries, strict=True))
            for key in ("file", "size", "rows")
            if getattr(shard, key) not in (None, getattr(entry, key))
        ]
        problems += [f"{store.shown}/{DATASET_MANIFEST}: {key} is not what the parts add up to" for key in wrong]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ArtifactError(f"{problems[0]}{more}; remove what is damaged and give the same command again")
    rows, missing = sum(entry.rows for entry in entries), sum(entry.missing for entry in entries)
    return VerifiedDataset(where=store.shown, parts=len(entries), indices=job.rows, rows=rows, given_up=missing)


class _Job(BaseModel):
    """What is looked at of job.json."""

    kind: Literal["difflm-dataset"]
    format: str
    rows: int = Field(ge=1)
    fingerprint: str


class _Part(BaseModel):
    start: int
    stop: int
    sha256: str | None
    file: str | None = None
    size: int | None = None
    rows: int | None = None


class _Listed(BaseModel):
    """What is looked at of manifest.json."""

    fingerprint: str
    shards: list[_Part]
    totals: dict[str, Any] = {}


ModelT = TypeVar("ModelT", bound=BaseModel)


def _read(store: Store, name: str, kind: type[ModelT], what: str) -> ModelT:
    try:
        return kind.model_validate_json(store.read(name) or b"", strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ArtifactError(f"{store.shown}: {what} ({name}: {place}: {first['msg']}); check the place") from None
