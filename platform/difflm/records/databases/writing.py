"""Arrow tables as tables of a database: all rows of them, or none and what was there before."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from difflm.errors import ConfigError, DataError
from difflm.records.databases.sqlite import begin
from difflm.records.databases.tables import ROWS_AT_ONCE
from difflm.records.databases.urls import DatabaseUrl

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy import Connection, Table
    from sqlalchemy.types import TypeEngine

_LISTS = "postgresql"  # the one dialect with columns of lists
_COMMIT_TABLES = ("mysql", "mariadb", "oracle")  # what becomes of tables there is in no transaction


def check_destination(target: DatabaseUrl) -> None:
    """Refuse, before any work, a destination that cannot be written to.

    Raises:
        ConfigError: it is no table, or one that is there already, and nothing says what becomes of it.
        DataError: the database cannot be reached.
    """
    from sqlalchemy import inspect

    if target.table is None:
        raise ConfigError(f"{target}: rows are written to a table; give ?table=NAME")
    with target.connected(reading=False) as connection:
        there = inspect(connection).has_table(target.table, schema=target.schema)
    if there and target.if_exists == "fail":
        raise ConfigError(
            f"{target}: there is such a table; add &if_exists=append or &if_exists=replace, or give another name"
        )


def write_database(table: pa.Table, target: DatabaseUrl) -> None:
    """Write rows into a table, which is made if it is not there; all of them, or none where something fails.

    Raises:
        ConfigError: see `check_destination`.
        DataError: the database cannot be reached, or refuses a row.
    """
    from sqlalchemy import Column, MetaData, Table

    check_destination(target)
    with target.connected(reading=False) as connection:
        begin(connection)
        kinds = [Column(field.name, _sql_type(field.type, connection.dialect.name)) for field in table.schema]
        assert target.table is not None
        wanted = Table(target.table, MetaData(), *kinds, schema=target.schema)
        aside = connection.dialect.name in _COMMIT_TABLES and target.if_exists != "append"
        made = wanted.to_metadata(MetaData(), name=f"difflm_{uuid.uuid4().hex[:12]}") if aside else wanted
        if target.if_exists == "replace" and not aside:
            wanted.drop(connection, checkfirst=True)
        made.create(connection, checkfirst=True)
        try:
            _insert(table, made, target, connection)
        except BaseException:
            if aside:
                made.drop(connection)
            raise
        if aside:
            wanted.drop(connection, checkfirst=True)
            quoted = connection.dialect.identifier_preparer.format_table
            connection.exec_driver_sql(f"ALTER TABLE {quoted(made)} RENAME TO {quoted(wanted)}")


def _insert(table: pa.Table, made: Table, target: DatabaseUrl, connection: Connection) -> None:
    """Write rows into a table that is there. Raises DataError for a value that no column takes."""
    import pyarrow as pa
    from sqlalchemy import insert

    for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE):
        try:
            if batch.num_rows:
                connection.execute(insert(made), _rows(batch, lists=connection.dialect.name == _LISTS))
        except (pa.ArrowException, OverflowError, ValueError, TypeError, LookupError) as error:
            reason = target.hidden(f"{type(error).__name__}: {error}")
            raise DataError(f"{target}: a value cannot be written ({reason}); nothing was written") from None


def _rows(batch: pa.RecordBatch, *, lists: bool) -> list[dict[str, Any]]:
    """Return rows as a driver takes them: objects, and lists unless it has them, as JSON, NaN as missing."""
    import pyarrow as pa

    columns: dict[str, list[Any]] = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        values = column.to_pylist()
        if pa.types.is_nested(field.type) and not (lists and pa.types.is_list(field.type)):
            values = [None if value is None else json.dumps(value, default=str) for value in values]
        elif pa.types.is_floating(field.type):
            values = [None if value is None or value != value else value for value in values]
        columns[field.name] = values
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _sql_type(kind: pa.DataType, dialect: str) -> TypeEngine[Any]:
    """Return the type of a column that holds values of an Arrow type."""
    import pyarrow as pa
    from sqlalchemy import types as sql

    if pa.types.is_dictionary(kind):
        return _sql_type(kind.value_type, dialect)
    if pa.types.is_list(kind) and dialect == _LISTS:
        return sql.ARRAY(_sql_type(kind.value_type, dialect))
    if kind == pa.uuid():
        return sql.Uuid()
    if pa.types.is_decimal(kind):
        return sql.Numeric(kind.precision, kind.scale)
    if pa.types.is_timestamp(kind):
        return sql.DateTime(timezone=kind.tz is not None)
    known = (
        *(
            (pa.types.is_boolean, sql.Boolean),
            (pa.types.is_int8, sql.SmallInteger),
            (pa.types.is_uint8, sql.SmallInteger),
        ),
        *((pa.types.is_int16, sql.SmallInteger), (pa.types.is_uint16, sql.Integer), (pa.types.is_int32, sql.Integer)),
        *((pa.types.is_integer, sql.BigInteger), (pa.types.is_float32, sql.REAL), (pa.types.is_float16, sql.REAL)),
        *((pa.types.is_floating, sql.Double), (pa.types.is_date, sql.Date), (pa.types.is_time, sql.Time)),
        *((pa.types.is_duration, sql.Interval), (pa.types.is_binary, sql.LargeBinary)),
    )
    return next((made() for holds, made in known if holds(kind)), sql.Text())
