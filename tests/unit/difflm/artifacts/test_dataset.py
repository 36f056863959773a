"""Datasets: a part counts with its entry and in full length, overlaps are resolved, and verification sees damage."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from difflm.artifacts.dataset import DATA, ENTRIES, Dataset, GivenUp
from difflm.artifacts.storage import LocalStore, open_store
from difflm.errors import StorageError
from difflm.telemetry import json_bytes, parse_json


@pytest.fixture(params=["disk", "s3"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    where = f"{request.getfixturevalue('bucket')}/rows" if request.param == "s3" else str(tmp_path / "rows")
    return Dataset(store=open_store(where))


def numbers(start: int, stop: int) -> pa.Table:
    return pa.table({"n": list(range(start, stop))})


def test_parts_count_in_order(dataset: Dataset) -> None:
    assert dataset.entries() == []
    second = dataset.commit(5, 9, numbers(5, 9), account={"seconds": 1.5})
    first = dataset.commit(0, 5, numbers(0, 5), account={})
    assert dataset.commit(0, 5, numbers(0, 5), account={}) == first
    assert dataset.entries() == [first, second]
    assert list(dataset.problems(dataset.entries(), 9)) == []


def test_a_folder_of_parts_can_be_given_to_readers(tmp_path: Path) -> None:
    dataset = Dataset(store=LocalStore(tmp_path))
    dataset.commit(5, 9, numbers(5, 9), account={})
    dataset.commit(0, 5, numbers(0, 5), account={})
    assert pq.read_table(tmp_path / DATA)["n"].to_pylist() == list(range(9))


def test_every_index_has_a_row_or_a_reason(dataset: Dataset) -> None:
    with pytest.raises(ValueError, match="4 rows and 0 given up are not the 5 indices 0 to 5"):
        dataset.commit(0, 5, numbers(0, 4), account={})
    given_up = GivenUp(start=3, stop=4, reason="unfinished")
    dataset.commit(0, 5, numbers(0, 4), given_up=[given_up], account={})
    dataset.give_up(5, 6, "its process died", account={})
    assert [(entry.rows, entry.missing, entry.file is None) for entry in dataset.entries()] == [
        (4, 1, False),
        (0, 1, True),
    ]
    assert list(dataset.problems(dataset.entries(), 6)) == []


@pytest.mark.parametrize("damage", ["shorter", "gone", "entry cut", "no entry"])
def test_what_is_damaged_does_not_count(dataset: Dataset, damage: str) -> None:
    entry = dataset.commit(0, 5, numbers(0, 5), account={})
    store = dataset.store
    match damage:
        case "shorter":
            store.write(str(entry.file), b"PAR1")
        case "gone":
            store.remove(str(entry.file))
        case "entry cut":
            store.write(f"{ENTRIES}/{entry.name}.json", b'{"start": 0, "st')
        case _:
            store.remove(f"{ENTRIES}/{entry.name}.json")
    assert dataset.entries() == []
    dataset.remove_others([])
    assert store.sizes(DATA) == store.sizes(ENTRIES) == {}


def test_of_overlapping_parts_one_counts(dataset: Dataset) -> None:
    half = dataset.commit(0, 5, numbers(0, 5), account={})
    other = dataset.commit(5, 10, numbers(5, 10), account={})
    assert dataset.entries() == [half, other]
    whole = dataset.commit(0, 10, numbers(0, 10), account={})
    assert dataset.entries() == [whole]
    assert any("belongs to no entry" in problem for problem in dataset.problems([whole], 10))
    dataset.remove_others([whole])
    assert list(dataset.problems(dataset.entries(), 10)) == []
    assert set(dataset.store.sizes(ENTRIES)) == {f"{whole.name}.json"}


def test_problems_name_gaps_changes_and_the_end(dataset: Dataset) -> None:
    entry = dataset.commit(5, 9, numbers(5, 9), account={})
    content = dataset.store.read(str(entry.file))
    assert content is not None
    dataset.store.write(str(entry.file), b"X" + content[1:])
    found = list(dataset.problems(dataset.entries(), 12))
    assert len(found) == 3
    assert "indices 0 to 5 are missing" in found[0]
    assert "changed since it was written" in found[1]
    assert "ends at index 9, not at 12" in found[2]


def test_json_that_is_cut_is_no_json(dataset: Dataset) -> None:
    assert dataset.read_json("job.json") is None
    dataset.write_json("job.json", {"a": 1})
    assert dataset.read_json("job.json") == {"a": 1}
    dataset.store.write("job.json", b'{"a"')
    assert dataset.read_json("job.json") is None


def test_a_link_in_the_place_of_the_parts_leads_nowhere(tmp_path: Path) -> None:
    """What does not belong to a dataset is taken away, also from the folder that `data` led to."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis").write_text("mine")
    dataset = Dataset(store=LocalStore(tmp_path / "rows"))
    dataset.write_json("job.json", {})
    (tmp_path / "rows" / DATA).symlink_to(home)
    for call in (dataset.entries, lambda: dataset.remove_others([])):
        with pytest.raises(StorageError, match=r"rows/data: is a link"):
            call()
    assert (home / "thesis").read_text() == "mine"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "job.json")
    with pytest.raises(StorageError, match=r"job\.json: is no file"):
        Dataset(store=LocalStore(tmp_path)).read_json("job.json")


def test_half_a_surrogate_pair_is_written_as_its_escape(dataset: Dataset) -> None:
    dataset.write_json("job.json", {"text": "a\ud800"})
    assert dataset.read_json("job.json") == {"text": "a\ud800"}


@pytest.mark.parametrize(
    "account",
    [
        {"rejections": 5},
        {"rejections": {"length": "x"}},
        {"attempts": "many"},
        {"attempts": -1},
        {"precision": "bogus"},
        {"precision": [1]},
    ],
)
def test_a_part_with_an_account_of_another_form_does_not_count(dataset: Dataset, account: dict[str, object]) -> None:
    good = {"attempts": 12, "rejections": {"length": 2}, "precision": "float32", "pid": 3}
    for start in (0, 10):
        dataset.commit(start, start + 10, pa.table({"n": list(range(10))}), account=good)
    name = f"{ENTRIES}/part-000000000-000000010.json"
    entry = parse_json(dataset.store.read(name) or b"")
    dataset.store.write(name, json_bytes({**entry, "account": {**good, **account}}))
    assert [(entry.start, entry.account) for entry in dataset.entries()] == [(10, good)]
