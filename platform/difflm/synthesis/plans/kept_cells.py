"""Kept cells: the given cells of a table whose gaps are filled in, put back as they were, byte for byte.

A record states a number as its column prints it, so what was drawn around a given cell says it rounded or spelled like
the others. What is written has the cell itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from difflm.records.kinds.columns import arrow_schema, as_text, conform_column, parse_decimals
from difflm.records.schema import RecordSchema
from difflm.spelled_numbers import PRINTED, printer


def kept_cells(given: pa.Table, schema: RecordSchema, *, spelling: bool = True) -> pa.Table:
    """Return the given cells in the schema's columns, in the types in which they can be written as they are.

    Numbers that a text file gives are numbers where they are printed as given, all of a column, else texts; without
    `spelling` they are numbers.
    """
    columns = [
        _kept(given.column(field.name), wanted, conform_column(given.column(field.name), field), spelling=spelling)
        for field, wanted in zip(schema.fields, arrow_schema(schema), strict=True)
    ]
    return pa.Table.from_arrays(columns, names=list(schema.names))


def _kept(given: pa.ChunkedArray, wanted: pa.Field, conformed: pa.ChunkedArray, *, spelling: bool) -> pa.ChunkedArray:
    if pa.types.is_string(wanted.type):
        return as_text(given)
    if not pa.types.is_string(given.type):
        if pa.types.is_floating(wanted.type):
            return given.cast(wanted.type)
        return conformed if _says(conformed, given) else given
    numbers = parse_decimals(given) if pa.types.is_floating(wanted.type) else conformed
    return numbers if not spelling or _texts(numbers, wanted).equals(given) else given


def _says(conformed: pa.ChunkedArray, given: pa.ChunkedArray) -> bool:
    """Say whether a column says what the given one does, and not 30 of 30.5 or a day of an hour."""
    if not any(is_one(given.type) for is_one in (pa.types.is_floating, pa.types.is_decimal, pa.types.is_timestamp)):
        return True
    try:
        back = conformed.cast(given.type)
    except pa.ArrowInvalid:
        return False
    return bool(pc.all(pc.or_(pc.is_null(given, nan_is_null=True), pc.fill_null(pc.equal(back, given), False))).as_py())


def put_back(made: pa.Table, indices: Sequence[int], kept: pa.Table) -> pa.Table:
    """Return the rows of these indices with the kept cells of their records: record `index` modulo their number."""
    places = pa.array([index % len(kept) for index in indices], pa.int64())
    fields, columns = list[pa.Field](), list[pa.ChunkedArray]()
    for field, column in zip(made.schema, made.columns, strict=True):
        cells = kept.column(field.name).take(places)
        if cells.type != column.type:
            column, field, cells = _alike(column, field, cells)
        fields.append(field)
        columns.append(pc.coalesce(cells, column))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _alike(
    column: pa.ChunkedArray, field: pa.Field, cells: pa.ChunkedArray
) -> tuple[pa.ChunkedArray, pa.Field, pa.ChunkedArray]:
    """Return a column and cells of another type in one type: numbers as float64, all else as texts."""
    number = pa.float64()
    if not pa.types.is_string(cells.type):
        try:
            return column.cast(number), pa.field(field.name, number), cells.cast(number)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            cells = as_text(cells)
    return _texts(column, field), pa.field(field.name, pa.string()), cells


def _texts(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    """Return numbers and booleans as text files print them."""
    if pa.types.is_floating(column.type):
        spell = printer((field.metadata or {}).get(PRINTED, b"{}"))
        texts = [None if value is None else spell(value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    return column.cast(pa.string())
