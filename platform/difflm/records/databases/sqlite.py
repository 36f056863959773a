"""SQLite, in which a column of any type may hold anything, all floats have 64 bits, and a view may never end."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from difflm.records.databases.urls import DatabaseUrl

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy import Column, Connection, Table

LOOSE: Final = "sqlite"
"""What SQLAlchemy calls it."""
_STEPS = 100_000  # of its machine, between two looks at signals


def interruptible(connection: Connection) -> None:
    """Let Ctrl-C end a statement of SQLite's, which a view may keep at work for ever."""
    raw: Any = connection.connection.dbapi_connection
    if hasattr(raw, "set_progress_handler"):
        raw.set_progress_handler(lambda: 0, _STEPS)


def most_bytes(source: DatabaseUrl) -> int:
    """Return how many bytes the rows of a file may take; those of a server have no limit."""
    from difflm.records.files.compression import Expansion

    path = Path(source.url.database or "")
    if source.url.get_backend_name() != LOOSE or not path.is_file():
        return 2**63 - 1
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
    """Name the column with a value that SQLAlchemy cannot convert."""
    for column in table.columns:
        try:
            connection.execute(selected([column], connection.dialect.name)).all()
        except (ValueError, TypeError):
            return f"column {column.name!r}: "
    return ""


def narrowed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return numbers as float32 where all of them are such, as those that were written from it."""
    import pyarrow as pa

    single = column.cast(pa.float32(), safe=False)
    return single if single.cast(pa.float64()).equals(column) else column
