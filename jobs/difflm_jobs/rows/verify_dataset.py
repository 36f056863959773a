"""`difflm verify` on a dataset: every hash, and every index exactly once or given up with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from difflm.artifacts.dataset import DATASET_MANIFEST, JOB_NAME, Dataset
from difflm.artifacts.storage import open_store
from difflm.errors import ArtifactError
from difflm_jobs.rows.resume import KIND

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
    job = Dataset(store=store).read_json(JOB_NAME)
    if job is None or job.get("kind") != KIND:
        raise ArtifactError(f"{store.shown}: no dataset ({JOB_NAME} is missing or cut short); check the place")
    dataset = Dataset(store=store, format=str(job["format"]))
    entries = dataset.entries()
    manifest = dataset.read_json(DATASET_MANIFEST)
    if manifest is None:
        done = sum(entry.stop - entry.start for entry in entries)
        raise ArtifactError(
            f"{store.shown}: not finished, {done:,} of {job['rows']:,} indices are done; give the same command again"
        )
    problems = [*islice(dataset.problems(entries, int(job["rows"])), _MAX_COUNTED)]
    listed = [(shard["start"], shard["stop"], shard["sha256"]) for shard in manifest["shards"]]
    if manifest["fingerprint"] != job["fingerprint"] or listed != [(e.start, e.stop, e.sha256) for e in entries]:
        problems.append(f"{store.shown}/{DATASET_MANIFEST}: does not list the parts that are there")
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ArtifactError(f"{problems[0]}{more}; remove what is damaged and give the same command again")
    rows, missing = sum(entry.rows for entry in entries), sum(entry.missing for entry in entries)
    return VerifiedDataset(where=store.shown, parts=len(entries), indices=int(job["rows"]), rows=rows, given_up=missing)
