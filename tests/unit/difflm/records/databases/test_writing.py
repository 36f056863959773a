"""Tables written to databases: all rows of them, or none and what was there before."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pyarrow as pa
import pytest

from difflm.errors import DataError
from difflm.records.databases import writing
from difflm.records.databases.urls import DatabaseUrl
from difflm.records.databases.writing import write_database

REFUSED = {
    "columns of one name": pa.table({"a": [1], "A": [2]}),
    "a name that is none": pa.table({"a\0b": [1]}),
    "more columns than there may be": pa.table({f"c{place}": [1] for place in range(2_001)}),
    "no columns": pa.table({}),
    "a number that is too large": pa.table({"a": pa.array([1] * 10_001 + [2**64 - 1], pa.uint64())}),
    "a time beyond all years": pa.table({"a": pa.array([2**60], pa.timestamp("s"))}),
    "a zone that is none": pa.table({"a": pa.array([1], pa.timestamp("us", "Nowhere/City"))}),
}


def target(path: Path, how: str) -> DatabaseUrl:
    return DatabaseUrl.parse(f"sqlite:///{path}?table=people&if_exists={how}")


def rows(path: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(path) as connection:
        found = connection.execute("select * from people").fetchall()
    connection.close()
    return found


@pytest.fixture
def people(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("create table people (name text)")
        connection.execute("insert into people values ('Ann')")
    connection.close()
    return tmp_path / "a.db"


@pytest.mark.parametrize("commits", [(), ("sqlite",)], ids=["in a transaction", "aside"])
@pytest.mark.parametrize("table", REFUSED.values(), ids=REFUSED)
def test_a_table_that_cannot_be_replaced_stays(
    people: Path, table: pa.Table, commits: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was dropped for good before the rows were written."""
    monkeypatch.setattr(writing, "_COMMIT_TABLES", commits)
    with pytest.raises(DataError):
        write_database(table, target(people, "replace"))
    assert rows(people) == [("Ann",)]
    with sqlite3.connect(people) as connection:
        assert connection.execute("select name from sqlite_master").fetchall() == [("people",)]
    connection.close()


@pytest.mark.parametrize("commits", [(), ("sqlite",)], ids=["in a transaction", "aside"])
def test_a_table_is_replaced(people: Path, commits: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_COMMIT_TABLES", commits)
    write_database(pa.table({"n": [1, 2]}), target(people, "replace"))
    assert rows(people) == [(1,), (2,)]


def test_rows_that_cannot_all_be_added_are_not_added(people: Path) -> None:
    with pytest.raises(DataError, match=r"a value cannot be written .*; nothing was written"):
        write_database(pa.table({"name": REFUSED["a number that is too large"]["a"]}), target(people, "append"))
    assert rows(people) == [("Ann",)]
