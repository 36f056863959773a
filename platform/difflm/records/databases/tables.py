"""Tables of a database as Arrow tables: a column's type in the database decides that in Arrow.

Where the database says nothing of a column's type (a query, or SQLite's columns without one), its values do.
"""

from __future__ import annotations

import difflib
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, time, timedelta
from typing import TYPE_CHECKING, Any

from difflm.errors import DataError
from difflm.records.databases.sqlite import (
    LOOSE,
    bound_cells,
    culprit,
    interruptible,
    most_bytes,
    narrowed,
    only_read,
    partitions,
    selected,
)
from difflm.records.databases.urls import DatabaseUrl

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy import Connection, Table
    from sqlalchemy.types import TypeEngine

ROWS_AT_ONCE = 10_000
_MAX_DIGITS = 38  # of Arrow's decimals
_SINGLE_BITS = 24  # of the mantissa of a float32


def read_database(source: DatabaseUrl) -> pa.Table:
    """Read all rows of a table, or of a query, whose transaction is rolled back.

    Raises:
        DataError: it cannot be reached, there is no such table, or a value is none of its column's type.
        ConfigError: the driver is not installed.
    """
    import pyarrow as pa
    from sqlalchemy import text

    with source.connected(reading=True) as connection, _told(source):
        interruptible(connection)
        types: list[pa.DataType | None] | None = None
        statement: Any
        if source.query is not None:
            only_read(connection)
            statement = text(source.query)
        else:
            table = _reflected(source, connection)
            statement = selected(table.columns, connection.dialect.name)
            types = [arrow_type(column.type, connection.dialect.name) for column in table.columns]
        most = most_bytes(source)
        try:
            names, parts = _parts(source, connection, statement, types, most)
        except (ValueError, TypeError) as error:  # of SQLite's numbers and texts that are no dates
            named = "" if source.query is not None else culprit(table, connection)
            reason = source.hidden(str(error))
            raise DataError(f"{source}: {named}{reason}; mend the value, or read it with ?query=") from None
    kinds = types or [None] * len(names)
    columns = [_joined(chunks, kind) for chunks, kind in zip(parts, kinds, strict=True)]
    if types is not None and source.url.get_backend_name() == LOOSE:
        singles = [_is_single(column.type) for column in table.columns]
        columns = [narrowed(column) if single else column for column, single in zip(columns, singles, strict=True)]
    return pa.Table.from_arrays(columns, names=names)


@contextmanager
def _told(source: DatabaseUrl) -> Iterator[None]:
    """Name the database where its own texts, such as names of columns, cannot be read."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: {source.hidden(str(error))}; is the file damaged?") from None


def _parts(
    source: DatabaseUrl, connection: Connection, statement: Any, types: Sequence[pa.DataType | None] | None, most: int
) -> tuple[list[str], list[list[pa.Array]]]:
    """Read the names and the chunks of all columns, of at most so many bytes."""
    loose = connection.dialect.name == LOOSE
    if not loose:
        connection = connection.execution_options(stream_results=True, yield_per=ROWS_AT_ONCE)
    bound_cells(connection, len(types or ()), most)
    rows = connection.execute(statement)
    if not rows.returns_rows:
        raise DataError(f"{source}: the query returns no rows; give a SELECT")
    names = list(rows.keys())
    refusal = DataError(
        f"{source}: rows of more than {most >> 20:,} MiB, as if a view were made to fill the memory; if you trust it, "
        "read fewer columns or rows with ?query=SELECT..."
    )
    kinds = types or [None] * len(names)
    parts: list[list[pa.Array]] = [[] for _ in names]
    size = 0
    for partition in partitions(rows, ROWS_AT_ONCE, most, refusal) if loose else rows.partitions(ROWS_AT_ONCE):
        for place, values in enumerate(zip(*partition, strict=True)):
            parts[place].append(_array(values, kinds[place], f"{source}: column {names[place]!r}"))
            size += parts[place][-1].nbytes
        if size > most:
            raise refusal
    return names, parts


def _reflected(source: DatabaseUrl, connection: Connection) -> Table:
    from sqlalchemy import MetaData, Table, inspect

    inspector = inspect(connection)
    assert source.table is not None
    if not inspector.has_table(source.table, schema=source.schema):
        known = [*inspector.get_table_names(schema=source.schema), *inspector.get_view_names(schema=source.schema)]
        close = difflib.get_close_matches(source.table, known, n=1, cutoff=0.5)
        hint = (
            f"did you mean {close[0]!r}?" if close else f"it has {', '.join(map(repr, sorted(known)[:10])) or 'none'}"
        )
        raise DataError(f"{source}: there is no table {source.table!r}; {hint}")
    return Table(source.table, MetaData(), schema=source.schema, autoload_with=connection, resolve_fks=False)


def arrow_type(kind: TypeEngine[Any], dialect: str) -> pa.DataType | None:
    """Return the Arrow type that holds a column's values; None where the values themselves have to say.

    SQLite's INTEGER has 64 bits, everybody else's 32.
    """
    import pyarrow as pa
    from sqlalchemy import types as sql

    if isinstance(kind, sql.Integer):
        wide = isinstance(kind, sql.BigInteger) or (dialect == "sqlite" and not isinstance(kind, sql.SmallInteger))
        return pa.int64() if wide else pa.int16() if isinstance(kind, sql.SmallInteger) else pa.int32()
    if isinstance(kind, sql.Float):
        return pa.float32() if _is_single(kind) and dialect != LOOSE else pa.float64()
    if isinstance(kind, sql.Numeric):
        fits = kind.precision is not None and 1 <= kind.precision <= _MAX_DIGITS
        return pa.decimal128(kind.precision, kind.scale or 0) if fits else None
    if isinstance(kind, sql.DateTime):
        return pa.timestamp("us", "UTC" if kind.timezone else None)
    if isinstance(kind, sql.ARRAY):
        inner = arrow_type(kind.item_type, dialect)
        return None if inner is None or kind.dimensions not in (None, 1) else pa.list_(inner)
    known = {bool: pa.bool_(), date: pa.date32(), time: pa.time64("us"), timedelta: pa.duration("us")}
    known |= {bytes: pa.binary(), str: pa.string(), dict: pa.string(), uuid.UUID: pa.uuid()}
    try:
        return known.get(kind.python_type)
    except NotImplementedError:
        return None


def _is_single(kind: TypeEngine[Any]) -> bool:
    """Tell whether a type is called one of 32 bits, which SQLite's never are."""
    from sqlalchemy import types as sql

    if not isinstance(kind, sql.Float):
        return False
    return isinstance(kind, sql.REAL) or (kind.precision is not None and kind.precision <= _SINGLE_BITS)


def _array(values: Sequence[Any], kind: pa.DataType | None, what: str) -> pa.Array:
    """Put a column's values into Arrow, in its type where it has one."""
    import pyarrow as pa

    plain = [_plain(value, kind) for value in values]
    try:
        if kind == pa.uuid():
            stored = pa.array([None if value is None else value.bytes for value in plain], pa.binary(16))
            return pa.ExtensionArray.from_storage(kind, stored)
        return pa.array(plain, kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        if kind is not None and not pa.types.is_nested(kind):
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{what}: a value is no {kind} ({reason}); mend it, or read it with ?query=") from None
    return pa.array([None if value is None else _spelled(value) for value in plain], pa.string())


def _plain(value: Any, kind: pa.DataType | None) -> Any:
    """Return a value as Arrow takes it: JSON and what only the driver knows become text."""
    import pyarrow as pa

    if isinstance(value, memoryview):
        return bytes(value)
    if kind is not None and pa.types.is_boolean(kind) and type(value) is int and value in (0, 1):
        return bool(value)
    if kind is not None and pa.types.is_string(kind) and value is not None and not isinstance(value, str):
        return _spelled(value)
    return value


def _spelled(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else str(value)


def _joined(chunks: Sequence[pa.Array], kind: pa.DataType | None) -> pa.ChunkedArray:
    """Join the chunks of a column; of those whose types the values decided, as a type that holds all."""
    import pyarrow as pa

    if kind is not None and all(chunk.type == kind for chunk in chunks):
        return pa.chunked_array(chunks, kind)
    tables = [pa.table({"it": chunk}) for chunk in chunks]
    try:
        return pa.concat_tables(tables, promote_options="permissive").column("it")
    except (pa.ArrowException, ValueError):
        texts = [[None if value is None else _spelled(value) for value in chunk.to_pylist()] for chunk in chunks]
        return pa.chunked_array(texts, pa.string())
