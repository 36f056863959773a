"""Masking: real rows with nothing in them that a protected schema does not say, to compare synthetic rows with.

What a report shows of real rows is then what the schema shows: rare categories are one, and numbers and dates end
where the schema's do. Where nothing was protected, rows stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from difflm.records.kinds.literals import dictionary_of
from difflm.records.normalizing import normalize_column
from difflm.records.schema import (
    CategoricalField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Field,
    IntegerField,
    RecordSchema,
)

RARE = "(rare)"


def masked(table: pa.Table, schema: RecordSchema, *, private: bool = False) -> pa.Table:
    """Return rows in canonical types with what is rare replaced, where the schema is protected, or `private`: made of
    measurements with noise.
    """
    if schema.protected is None and not private:
        return table
    shown = () if schema.protected is None else schema.protected.unprotected
    for place, field in enumerate(schema.fields):
        if field.name not in shown:
            column = _masked(table.column(field.name), field)
            table = table.set_column(place, table.schema.field(place), column)
    return table


def _masked(column: pa.ChunkedArray, field: Field) -> pa.ChunkedArray:
    match field:
        case CategoricalField(values=values):
            label = next(text for text in (RARE, f"{RARE} ", f"{RARE}?") if text not in values)
            return _unless(column, set(values).__contains__, label)
        case ConstantField(value=str(value)):
            return _unless(column, value.__eq__, RARE)
        case IntegerField() | DecimalField() | DatetimeField():
            return _within(column, field)
        case _:
            return column


def _unless(column: pa.ChunkedArray, known: Callable[[str], bool], label: str) -> pa.ChunkedArray:
    """Replace the texts that are not known."""
    places, texts = dictionary_of(column)
    shown = [str(text) if known(str(text)) else label for text in texts]
    return pa.chunked_array([pa.array([None if place is None else shown[place] for place in places], pa.string())])


def _within(column: pa.ChunkedArray, field: IntegerField | DecimalField | DatetimeField) -> pa.ChunkedArray:
    """Bring numbers and dates into the range of the schema; missing ones stay missing."""
    present = pc.is_valid(column)
    inside = normalize_column(column.filter(present), field)
    places = pc.cumulative_sum(pc.cast(present, pa.int64()))
    return inside.take(pc.if_else(present, pc.subtract(places, 1), pa.scalar(None, pa.int64())))
