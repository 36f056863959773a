"""Tables of databases: types in are types out, and what is wrong is said in a line without a password."""

from __future__ import annotations

import sqlite3
import tracemalloc
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest

from difflm.errors import ConfigError, DataError, UserError
from difflm.records.databases import sqlite
from difflm.records.databases.tables import read_database
from difflm.records.databases.urls import DatabaseUrl, is_database, refuse_database
from difflm.records.databases.writing import check_destination, write_database
from difflm.records.files import compression

SECRET = "s3cret-w0rd"


def at(path: Path, rest: str = "table=people") -> DatabaseUrl:
    return DatabaseUrl.parse(f"sqlite:///{path}?{rest}")


def typed() -> pa.Table:
    """A table with a column of every type that comes back, some missing."""
    columns: dict[str, tuple[pa.DataType, list[Any]]] = {
        "small": (pa.int16(), [1, None]),
        "large": (pa.int64(), [2**40, -5]),
        "single": (pa.float32(), [0.5, None]),
        "double": (pa.float64(), [0.1, 1e300]),
        "price": (pa.decimal128(8, 2), [Decimal("12.50"), None]),
        "yes": (pa.bool_(), [True, None]),
        "day": (pa.date32(), [date(2024, 2, 29), None]),
        "moment": (pa.timestamp("us"), [datetime(2024, 2, 29, 1, 2, 3, 4), None]),
        "clock": (pa.time64("us"), [time(1, 2, 3), None]),
        "text": (pa.string(), ["Zoë; 'x'\n", ""]),
        "raw": (pa.binary(), [b"\x00\xff", None]),
    }
    return pa.table({name: pa.array(values, kind) for name, (kind, values) in columns.items()})


def test_types_in_are_types_out(tmp_path: Path) -> None:
    target = at(tmp_path / "a.db")
    write_database(typed(), target)
    assert read_database(target).equals(typed())


def of_values(path: Path, kind: str, *values: Any) -> DatabaseUrl:
    with sqlite3.connect(path) as connection:
        connection.execute(f"create table people (n {kind})")
        connection.executemany("insert into people values (?)", [(value,) for value in values])
    connection.close()
    return at(path)


@pytest.mark.parametrize("kind", ["real", "double", "float", "float(24)"])
def test_every_float_of_sqlite_has_64_bits(tmp_path: Path, kind: str) -> None:
    """`real` has 32 elsewhere; 123456789.123 was read as 123456790 here."""
    found = read_database(of_values(tmp_path / "a.db", kind, 3.141592653589793, 123456789.123, None))
    assert found["n"].to_pylist() == [3.141592653589793, 123456789.123, None]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("datetime", 1_600_000_000),
        ("date", 20200101),
        ("time", 5),
        ("numeric(10, 2)", "abc"),
        ("boolean", 7),
        ("boolean", "maybe"),
        ("date", "abc"),
    ],
)
def test_what_sqlite_lets_into_any_column_is_named(tmp_path: Path, kind: str, value: object) -> None:
    with pytest.raises(DataError, match=r"a\.db\?table=people: column 'n': .*; mend .*\?query="):
        read_database(of_values(tmp_path / "a.db", kind, None, value))


def test_a_precision_that_is_none_leaves_it_to_the_values(tmp_path: Path) -> None:
    assert read_database(of_values(tmp_path / "a.db", "decimal(0, 0)", 1)).num_rows == 1


def test_a_view_without_an_end_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute(
            "create view people as with recursive c(x) as (select 1 union all select x + 1 from c) select x from c"
        )
    connection.close()
    monkeypatch.setattr(compression, "_LEAST", 2**20)
    with pytest.raises(DataError, match=r"more than 1 MiB, as if a view were made to fill the memory"):
        read_database(at(tmp_path / "a.db"))


def test_a_table_of_a_server_is_held_to_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of PostgreSQL, whose views may have no end either, was read until the memory ended."""
    monkeypatch.setattr(sqlite, "free_memory", lambda: 2**22)
    assert sqlite.most_bytes(DatabaseUrl.parse("postgresql://ann@localhost/sales?table=people")) == 2**21


def made_of(path: Path, script: str) -> DatabaseUrl:
    with sqlite3.connect(path) as connection:
        connection.executescript(script)
    connection.close()
    return at(path)


ENDLESS = "with recursive c(x) as (select 1 union all select x + 1 from c) select"


def test_cells_that_a_view_makes_out_of_nothing_are_counted_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand of them were fetched before any was counted."""
    source = made_of(tmp_path / "a.db", f"create view people as {ENDLESS} hex(zeroblob(500000)) as a from c")
    monkeypatch.setattr(compression, "_LEAST", 2**24)
    taken = tracemalloc_peak(lambda: read_database(source), r"more than 16 MiB")
    assert taken < 2**26


def test_a_cell_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    """A row of seven took 7 GB."""
    source = made_of(tmp_path / "a.db", "create view people as select zeroblob(900000000) as a, zeroblob(9) as b")
    assert tracemalloc_peak(lambda: read_database(source), "a cell is larger than the file") < 2**26


def test_the_wrong_value_of_a_view_without_an_end_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it was read to find the column."""
    script = "create table d (w date); insert into d values (5);"
    script += f"create view people as {ENDLESS} x, (select w from d) as w from c"
    monkeypatch.setattr(sqlite, "_LOOKED_AT", 10)
    with pytest.raises(DataError, match=r"column 'w': .*; mend the value"):
        read_database(made_of(tmp_path / "a.db", script))


def tracemalloc_peak(call: Callable[[], object], refused: str) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=refused):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_database_whose_names_are_damaged_is_named(tmp_path: Path) -> None:
    of_values(tmp_path / "a.db", "integer", 1)
    content = (tmp_path / "a.db").read_bytes()
    (tmp_path / "a.db").write_bytes(content.replace(b"people (n integer)", b"people (\xff integer)"))
    with pytest.raises(DataError, match=r"is the file damaged|check the URL"):
        read_database(at(tmp_path / "a.db"))


def test_rows_are_appended_replace_or_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    few = pa.table({"n": [1, 2]})
    write_database(few, at(path))
    with pytest.raises(ConfigError, match=r"there is such a table; add &if_exists=append or &if_exists=replace"):
        write_database(few, at(path))
    write_database(few, at(path, "table=people&if_exists=append"))
    assert read_database(at(path))["n"].to_pylist() == [1, 2, 1, 2]
    write_database(pa.table({"m": ["x"]}), at(path, "table=people&if_exists=replace"))
    assert read_database(at(path)).to_pydict() == {"m": ["x"]}


def test_a_query_is_read_by_its_values_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    write_database(typed(), at(path))
    found = read_database(at(path, "query=SELECT large, text, NULL AS none FROM people WHERE yes"))
    assert found.schema.types == [pa.int64(), pa.string(), pa.null()]
    assert found.num_rows == 1
    with pytest.raises(DataError, match="a query may only read; give a SELECT"):
        read_database(at(path, "query=DELETE FROM people"))
    assert read_database(at(path)).num_rows == 2


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE people",
        "CREATE TABLE other (n)",
        "PRAGMA user_version=5",
        "ATTACH '{other}' AS other",
        "VACUUM INTO '{other}'",
        "UPDATE people SET large=0 RETURNING large",
    ],
)
def test_a_query_does_nothing_but_read(tmp_path: Path, query: str) -> None:
    """What becomes of tables and files Python's module commits by itself."""
    path, other = tmp_path / "a.db", tmp_path / "other.db"
    write_database(typed(), at(path))
    before = path.read_bytes()
    with pytest.raises(DataError, match="a query may only read; give a SELECT"):
        read_database(at(path, f"query={quote(query.format(other=other))}"))
    assert path.read_bytes() == before
    assert not other.exists()


def test_a_write_that_failed_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with pytest.raises(DataError, match="cannot be written"):
        write_database(pa.table({"n": pa.array([2**64 - 1], pa.uint64())}), at(path))
    assert not path.exists()


def test_a_table_that_does_not_exist_has_a_near_name(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    write_database(pa.table({"n": [1]}), at(path))
    with pytest.raises(DataError, match=r"there is no table 'poeple'; did you mean 'people'\?"):
        read_database(at(path, "table=poeple"))
    with pytest.raises(DataError, match=r"there is no table 'x'; it has 'people'"):
        read_database(at(path, "table=x"))


def test_a_file_that_does_not_exist_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; check the path"):
        read_database(at(tmp_path / "none.db"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="there is no folder"):
        check_destination(at(tmp_path / "none" / "x.db"))


def test_a_value_that_is_none_of_its_columns_type_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE people (n INTEGER)")
        connection.execute("INSERT INTO people VALUES ('many')")
    connection.close()
    with pytest.raises(DataError, match="column 'n': a value is no int64"):
        read_database(at(path))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:{}@h/db", r"give either \?table=NAME or \?query="),
        ("postgresql://u:{}@h:port/db?table=a", "cannot be read as a URL"),
        ("postgresql://u:{}@h/db?table=a&query=b", "give either"),
        ("postgresql://u:{}@h/db?table=a&table=b", "given twice"),
        ("postgresql://u:{}@h/db?table=a&if_exists=drop", "if_exists=drop: unknown"),
        ("postgresql://u:{}@${{NOT_SET_ANYWHERE}}/db?table=a", "NOT_SET_ANYWHERE is not set"),
        ("duckdb://u:{}@h/db?table=a", "speaks|driver"),
        ("mysql://u:{}@h/db?table=a", r"its driver MySQLdb is not installed"),
        ("postgresql://u:{}@127.0.0.1:1/db?table=a&connect_timeout=2", "check host, port and database"),
    ],
)
def test_what_is_wrong_with_a_url_is_said_without_its_password(url: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        read_database(DatabaseUrl.parse(url.format(SECRET)))
    assert SECRET not in str(caught.value) + repr(caught.value.__cause__)


def test_a_password_is_not_shown_and_comes_from_the_environment() -> None:
    environment = {"DB_PASSWORD": "a b@c"}
    found = DatabaseUrl.parse("postgresql://ann:${DB_PASSWORD}@h:5/sales?table=s.people&sslmode=require", environment)
    assert found.url.password == "a b@c"
    assert (found.schema, found.table, found.name) == ("s", "people", "people")
    assert str(found) == "postgresql://ann@h:5/sales?table=s.people"
    assert dict(found.url.query) == {"sslmode": "require"}
    assert found.hidden("wrong: a b@c\nthere") == "wrong: *** there"


def test_a_database_is_told_from_paths_and_stores() -> None:
    assert is_database("sqlite:///x.db?table=a")
    assert is_database("postgresql+psycopg://h/db?table=a")
    assert not any(map(is_database, ("people.csv", "s3://bucket/rows", "file:///x", Path("sqlite:/x"), None)))
    with pytest.raises(ConfigError, match=r"^data.train: postgresql://\.\.\. is a database") as caught:
        refuse_database(f"postgresql://u:{SECRET}@h/db?table=a", "data.train")
    assert SECRET not in str(caught.value)


def test_rows_on_postgresql_keep_their_types(postgresql: str) -> None:
    more = {
        "int": pa.array([7, None], pa.int32()),
        "zoned": pa.array([datetime(2024, 5, 1, 12, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
        "span": pa.array([timedelta(hours=30), None], pa.duration("us")),
        "list": pa.array([["a", "b"], None], pa.list_(pa.string())),
        "id": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([uuid.UUID(int=5).bytes, None], pa.binary(16))),
    }
    table = typed()
    for name, column in more.items():
        table = table.append_column(name, column)
    target = DatabaseUrl.parse(f"{postgresql}?table=people")
    write_database(table, target)
    read = read_database(target)
    assert read.schema.equals(table.schema)
    assert read.equals(table)
    with pytest.raises(DataError, match=r"no table 'poeple'; did you mean 'people'\?"):
        read_database(DatabaseUrl.parse(f"{postgresql}?table=poeple"))


def test_a_failed_write_to_postgresql_leaves_nothing(postgresql: str) -> None:
    target = DatabaseUrl.parse(f"{postgresql}?table=broken")
    with pytest.raises(DataError, match="broken"):
        write_database(pa.table({"text": ["fine", "a zero \x00 byte"]}), target)
    with pytest.raises(DataError, match="there is no table 'broken'"):
        read_database(target)


def test_a_wrong_password_is_one_line_without_it(postgresql: str) -> None:
    wrong = postgresql.replace(":difflm@", f":{SECRET}@")
    with pytest.raises(DataError, match=r"password authentication failed.*check user and password") as caught:
        read_database(DatabaseUrl.parse(f"{wrong}?table=people"))
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_part_of_a_password_is_taken_for_a_host_or_left_by_a_cut() -> None:
    """An @ that was not escaped let the end of a password be the beginning of the host, which is shown."""
    with pytest.raises(ConfigError, match=r"^postgresql://\.\.\.: holds more than one @; write %40") as caught:
        DatabaseUrl.parse("postgresql://ann:ge@heim@host/sales?table=people")
    assert "heim" not in str(caught.value)
    source = DatabaseUrl.parse("postgresql://ann:ge%40heim@host/sales?table=people")
    assert "ge@" not in source.hidden("x" * 296 + " ge@heim")
    assert source.hidden("two  words: ge@heim") == "two words: ***"
