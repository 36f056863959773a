"""Resuming: when a folder is gone on with, when it is refused, and what the refusal says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from difflm.artifacts.dataset import DATASET_MANIFEST, EVALUATION_NAME, JOB_NAME, Dataset
from difflm.artifacts.storage import LocalStore
from difflm.errors import ConfigError, StorageError
from difflm_jobs.rows.resume import JobIdentity, Resume, claim, claimed, resume_mode

JOB = JobIdentity(bundle_sha256="b" * 64, sampling={"steps": 5}, plan={}, seed=0, rows_per_shard=10, format="parquet")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(store=LocalStore(tmp_path / "rows"))


def begin(dataset: Dataset) -> None:
    """A job of 20 rows with its first part."""
    claim(dataset, JOB, rows=20, resume="if-possible")
    dataset.commit(0, 10, pa.table({"n": list(range(10))}), account={})


@pytest.mark.parametrize("resume", ["never", "if-possible"])
def test_an_empty_folder_is_claimed(dataset: Dataset, resume: Resume) -> None:
    claim(dataset, JOB, rows=20, resume=resume)
    job = dataset.read_json(JOB_NAME)
    assert job is not None
    assert (job["fingerprint"], job["rows"], job["seed"]) == (JOB.fingerprint, 20, 0)


@pytest.mark.parametrize("resume", ["always", "if-possible"])
@pytest.mark.parametrize("rows", [20, 30])
def test_the_same_job_goes_on_also_with_more_rows(dataset: Dataset, resume: Resume, rows: int) -> None:
    begin(dataset)
    for name in (DATASET_MANIFEST, EVALUATION_NAME):
        dataset.write_json(name, {})
    claim(dataset, JOB, rows=rows, resume=resume)
    for name in (DATASET_MANIFEST, EVALUATION_NAME):  # until it is finished again
        assert dataset.read_json(name) is None
    assert [entry.stop for entry in dataset.entries()] == [10]


@pytest.mark.parametrize("name", [DATASET_MANIFEST, EVALUATION_NAME, JOB_NAME, "thesis.tex"])
def test_files_of_somebody_elses_are_not_taken_away(dataset: Dataset, name: str) -> None:
    """A folder of the web has a manifest.json, which was removed, and its place taken by that of the rows."""
    path = Path(dataset.store.url) / name
    path.parent.mkdir()
    path.write_text("[]" if name == JOB_NAME else '{"name": "of an application"}')
    before = path.read_text()
    with pytest.raises(ConfigError, match=f"has {name} in it and is no dataset"):
        claim(dataset, JOB, rows=20, resume="if-possible")
    assert [one.name for one in path.parent.iterdir()] == [name]
    assert path.read_text() == before


def test_never_refuses_what_is_there(dataset: Dataset) -> None:
    begin(dataset)
    with pytest.raises(ConfigError, match=r"rows: already holds a job; give an empty folder, or --resume if-possible"):
        claim(dataset, JOB, rows=20, resume="never")


def test_always_refuses_an_empty_folder(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="holds no job to go on with"):
        claim(dataset, JOB, rows=20, resume="always")
    assert dataset.read_json(JOB_NAME) is None


@pytest.mark.parametrize("resume", ["always", "if-possible"])
def test_another_job_is_refused_by_name(dataset: Dataset, resume: Resume) -> None:
    begin(dataset)
    other = replace(JOB, seed=1, format="csv")
    with pytest.raises(ConfigError) as caught:
        claim(dataset, other, rows=20, resume=resume)
    message = str(caught.value)
    assert JOB.fingerprint[:12] in message
    assert other.fingerprint[:12] in message
    assert "another seed, format; give another folder" in message


def test_parts_without_a_job_are_refused(dataset: Dataset) -> None:
    begin(dataset)
    dataset.store.remove(JOB_NAME)
    with pytest.raises(ConfigError, match="holds parts of no known job"):
        claim(dataset, JOB, rows=20, resume="if-possible")


def test_fewer_rows_take_nothing_away(dataset: Dataset) -> None:
    begin(dataset)
    with pytest.raises(ConfigError, match="already holds indices up to 10, and --rows 9 are fewer"):
        claim(dataset, JOB, rows=9, resume="if-possible")
    claim(dataset, JOB, rows=10, resume="if-possible")


def test_everything_that_changes_bytes_changes_the_fingerprint() -> None:
    others = [
        replace(JOB, bundle_sha256="c" * 64),
        replace(JOB, sampling={"steps": 6}),
        replace(JOB, seed=1),
        replace(JOB, rows_per_shard=11),
        replace(JOB, format="csv"),
    ]
    assert len({job.fingerprint for job in (JOB, *others)}) == 6


def test_an_unknown_mode_names_the_known_ones() -> None:
    assert resume_mode("never") == "never"
    with pytest.raises(ConfigError, match="--resume maybe: unknown; give one of never, always, if-possible"):
        resume_mode("maybe")


def test_one_command_at_a_time_writes(dataset: Dataset) -> None:
    """Two of them took each other's parts away, and ended well."""
    for _ in range(2):
        with claimed(dataset, JOB, rows=20, resume="if-possible"):
            other = claimed(dataset, JOB, rows=20, resume="if-possible")
            dataset.write_json(DATASET_MANIFEST, {})
            with pytest.raises(StorageError, match="another command writes there at this moment"), other:
                pass
            assert dataset.read_json(DATASET_MANIFEST) == {}  # the refused one takes nothing away


def test_a_refused_command_leaves_no_folder(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no job"), claimed(dataset, JOB, rows=20, resume="always"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder_to_write_in(tmp_path: Path) -> None:
    (tmp_path / "rows").touch()
    whole = claimed(Dataset(store=LocalStore(tmp_path / "rows")), JOB, rows=20, resume="if-possible")
    with pytest.raises(StorageError, match=r"rows: cannot be written \(not a directory\)"), whole:
        pass


def test_a_link_that_leads_to_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    wanted = claimed(Dataset(store=LocalStore(tmp_path / "link")), JOB, rows=3, resume="if-possible")
    with pytest.raises(StorageError, match=r"link: a link that leads to nothing; remove it"), wanted:
        pass
