"""SQLite, in which a column of any type may hold anything, all floats have 64 bits, and a view may never end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from difflm.errors import DataError
from difflm.records.databases.urls import DatabaseUrl
from difflm.telemetry import free_memory

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy import Column, Connection, Table

LOOSE: Final = "sqlite"
"""What SQLAlchemy calls it."""
_STEPS = 100_000  # of its machine, between two looks at signals
_CELL = 2**20  # bytes that any cell may have
_COLUMNS = 64  # of which a row is thought where nothing says so
_LOOKED_AT = 10_000  # rows


def interruptible(connection: Connection) -> None:
    """Let Ctrl-C end a statement of SQLite's, which a view may keep at work for ever."""
    if connection.dialect.name == LOOSE:
        _raw(connection).set_progress_handler(lambda: 0, _STEPS)


def begin(connection: Connection) -> None:
    """Begin a transaction that also holds what becomes of tables: Python's module begins one before rows alone, and
    what it dropped before would stay dropped.
    """
    if connection.dialect.name == LOOSE:
        _raw(connection).isolation_level = None  # it begins none by itself then
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def only_read(connection: Connection) -> None:
    """Let a query read, and nothing else: what it does to tables no transaction holds (see `begin`), nor what it does
    to other files.
    """
    import sqlite3

    reads = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)

    def allowed(action: int, *_: object) -> int:
        return sqlite3.SQLITE_OK if action in reads else sqlite3.SQLITE_DENY

    if connection.dialect.name == LOOSE:
        _raw(connection).set_authorizer(allowed)


def bound_cells(connection: Connection, columns: int, most: int) -> None:
    """Refuse, before a statement is begun, cells of which a row would be as large as all rows may be: a view makes them
    out of nothing. What lies in the file itself is smaller (see `most_bytes`).
    """
    import sqlite3

    if connection.dialect.name == LOOSE:
        size = min(most // max(columns, _COLUMNS), 2**30)
        _raw(connection).setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(_CELL, size))


def _raw(connection: Connection) -> Any:
    return connection.connection.dbapi_connection


def partitions(rows: Iterable[Any], size: int, most: int, refusal: DataError) -> Iterator[list[Any]]:
    """Part rows, which are taken one by one and counted: each may be large.

    Raises:
        DataError: the refusal, where their texts and bytes are more than there may be.
    """
    part: list[Any] = []
    taken = 0
    for row in rows:
        taken += sum(len(value) for value in row if isinstance(value, str | bytes))
        if taken > most:
            raise refusal
        part.append(row)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def most_bytes(source: DatabaseUrl) -> int:
    """Return how many bytes the rows of a file may take; those of a server half of the free memory: a view there may
    have no end either.
    """
    from difflm.records.files.compression import Expansion

    path = Path(source.url.database or "")
    if source.url.get_backend_name() != LOOSE or not path.is_file():
        return free_memory() // 2
    return Expansion.of(path).most


def selected(columns: Iterable[Column[Any]], dialect: str) -> Any:
    """Select columns, SQLite's truth values as they are stored: any number is true to SQLAlchemy, and any text."""
    from sqlalchemy import select, type_coerce
    from sqlalchemy import types as sql

    return select(
        *(
            type_coerce(column, sql.NullType()).label(column.name)
            if dialect == LOOSE and isinstance(column.type, sql.Boolean)
            else column
            for column in columns
        )
    )


def culprit(table: Table, connection: Connection) -> str:
    """Name the column with a value that SQLAlchemy cannot convert. Looks at more and more rows of all of them: a view
    may have no end.
    """
    most, ended = _LOOKED_AT, False
    while not ended:
        ended = True
        for column in table.columns:
            rows = connection.execute(selected([column], connection.dialect.name).limit(most))
            try:
                ended = sum(1 for _ in rows) < most and ended
            except (ValueError, TypeError):
                return f"column {column.name!r}: "
        most *= 8
    return ""


def narrowed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return numbers as float32 where all of them are such, as those that were written from it."""
    import pyarrow as pa

    single = column.cast(pa.float32(), safe=False)
    return single if single.cast(pa.float64()).equals(column) else column
