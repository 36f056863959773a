"""Few rows told many times, each time with other numbers near their own: a smoothed bootstrap.

A model that reads the same hundred rows a hundred times knows them by heart, down to the last digit, and learns little
of what they have in common. So wherever rows are few, every number and date that it reads is drawn anew between the
values that come next in its column, some to either side (Silverman and Young 1987, doi 10.1093/biomet/74.3.469, with
ranks in place of a bandwidth). The shape of a column stays, what several columns have to do with each other is blurred
by as many ranks, and no exact value of a single row is told often enough to be remembered. A value that more rows
share stays, and is nobody's neighbour: zeros stay zeros.

Shape legend: N rows, V of them with a number in the column that moves, U distinct ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from difflm.records.json_codec import JsonRecordCodec
from difflm.records.protection.related import breaking_rows
from difflm.records.relations.model import Relations
from difflm.records.relations.values import TableValues, kind_of, number_of, readable, value_of
from difflm.records.relations.words import columns_in
from difflm.records.schema import DatetimeField, DecimalField, Field, IntegerField, RecordSchema, Value

FEW_ROWS = 2000
"""Tables of more rows are told as they are: within the usual passes nothing is learned by heart."""
TOLD_ROWS = 8_000
"""So many rows at least are told of a table of few; a fit reads each of them two or three times."""
NEIGHBOURS = 4
"""How far in the order of its column a value may move, to either side: among so many rows as share a value at least
that protection lets stand."""
SPREAD_SHARE = 0.25
"""Columns with fewer distinct values than this share of their rows are codes, grades or counts: nothing lies between
their values."""

_DAY_S = 86_400
_MOST_CODE = 2.0**53
_MOST_CELLS = 200_000
"""So many are drawn, for that takes some seconds; tables of hundreds of columns have fewer copies."""
_MOST_DIGITS = 8
_OFTEN, _OFTENER = 8, 2.0
"""Last digits are a habit of the column that more numbers have than this, and so many times more than chance makes."""
FloatArray: TypeAlias = npt.NDArray[np.float64]


def told_rows(table: pa.Table, schema: RecordSchema, *, most: int, seed: int) -> tuple[pa.Table, int]:
    """Return training rows as they are told to a fit that reads `most`, and how often each of them is among these.

    `table` has canonical types. Many rows are told as they are, and so are those of a table without numbers or dates.
    """
    values = TableValues(table, schema)
    movable = [] if len(values) >= FEW_ROWS else [field for field in schema.fields if _lies_between(field, values)]
    if not movable:
        return table, 1
    rows, generator = min(TOLD_ROWS, most, _MOST_CELLS / len(movable)), np.random.default_rng(seed)
    copies = math.ceil(rows / len(values))
    return pa.concat_tables([_copy(values, movable, generator) for _ in range(copies)]), copies


def _copy(values: TableValues, movable: list[Field], generator: np.random.Generator) -> pa.Table:
    """Draw the numbers and dates of some columns anew; texts, categories, codes and missing values stay.

    The relations that the schema keeps hold as they did: where a row would break one, its columns have their values.
    """
    codec = JsonRecordCodec(values.schema)
    drawn = {field.name: _drawn(field, values, generator) for field in movable}
    rows = codec.table_of(_replaced(codec, values.table, drawn))
    return _keeping(rows, values.table.cast(rows.schema), values.schema)


def _lies_between(field: Field, values: TableValues) -> bool:
    """Whether something lies between the values of a column, so that it can be drawn."""
    if kind_of(field) not in ("number", "date") or not readable(field) or not values.exact(field.name):
        return False
    if isinstance(field, DatetimeField) and field.others:
        return False
    numbers_N: FloatArray = np.asarray(values.numbers(field.name), dtype=np.float64)
    known, distinct = int(np.isfinite(numbers_N).sum()), len(np.unique(numbers_N[np.isfinite(numbers_N)]))
    return distinct >= SPREAD_SHARE * known and len(np.unique(_moving(field, values)[1])) > 2 * NEIGHBOURS


def _moving(field: Field, values: TableValues) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    """Mark the rows, (N,), whose number or date few share and is in the range of the column; return them, (V,)."""
    numbers_N: FloatArray = np.asarray(values.numbers(field.name), dtype=np.float64)
    moving_N = np.isfinite(numbers_N)
    points = [number_of(field, point) for point in getattr(field, "points", ())]
    if points:
        moving_N &= ~np.isin(numbers_N, np.array([point for point in points if point is not None]))
    found, counts = np.unique(numbers_N[moving_N], return_counts=True)
    moving_N &= ~np.isin(numbers_N, found[counts > NEIGHBOURS])
    return moving_N, numbers_N[moving_N]


def _drawn(field: Field, values: TableValues, generator: np.random.Generator) -> list[Value]:
    """Draw the column's values anew; None where a row keeps its own."""
    moving_N, numbers_V = _moving(field, values)
    near_V = _like(_near(numbers_V, generator), numbers_V, _unit(field))
    found: list[Value] = [None] * len(moving_N)
    for row, number in zip(np.flatnonzero(moving_N).tolist(), near_V.tolist(), strict=True):
        found[row] = value_of(field, number)
    return found


def _near(numbers_V: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Draw for each number another between those that come next, at most `NEIGHBOURS` places away."""
    ordered_U, own_V = np.unique(numbers_V, return_inverse=True)
    last = len(ordered_U) - 1
    place_V: FloatArray = own_V + generator.uniform(-NEIGHBOURS, NEIGHBOURS, len(numbers_V))
    place_V = last - np.abs(last - np.abs(place_V))  # turned back at both ends, where values would pile up
    drawn_V: FloatArray = np.interp(place_V, np.arange(last + 1), ordered_U)
    return drawn_V


def _unit(field: Field) -> float:
    """Return what the column's numbers are multiples of at least: what it prints, or a second."""
    match field:
        case IntegerField():
            return 1.0
        case DecimalField(decimals=decimals, exponent=exponent):
            return 10.0 ** (exponent - decimals)
        case _:
            return 1.0 / _DAY_S


def _like(drawn_V: FloatArray, numbers_V: FloatArray, unit: float) -> FloatArray:
    """Round numbers as those are written that they were drawn for: to what all are multiples of, and with the same last
    digits where many have these.

    Salaries end in `000`, prices in `.99`, and a column of days has no hours.
    """
    least = float(numbers_V.min())
    steps_V, codes_V = np.rint((numbers_V - least) / unit), np.rint(numbers_V / unit)
    if not np.all(np.maximum(steps_V, np.abs(codes_V)) < _MOST_CODE):
        return drawn_V
    step = float(np.gcd.reduce(steps_V.astype(np.int64))) or 1.0
    grain_V, origin_V = np.full(len(numbers_V), step), np.rint(np.full(len(numbers_V), least) / unit)
    for digits in range(1, _MOST_DIGITS if unit != 1.0 / _DAY_S else 1):  # decimal digits say nothing of times
        ends_V = np.mod(codes_V, 10.0**digits)
        found, place_V, counts = np.unique(ends_V, return_inverse=True, return_counts=True)
        usual = np.maximum(_OFTEN, _OFTENER * len(numbers_V) / 10.0**digits)
        kept_V = (counts[place_V] > usual) & (10.0**digits >= step)
        grain_V[kept_V], origin_V[kept_V] = 10.0**digits, found[place_V][kept_V]
    rounded_V: FloatArray = unit * (origin_V + grain_V * np.rint((drawn_V / unit - origin_V) / grain_V))
    return rounded_V


def _replaced(codec: JsonRecordCodec, table: pa.Table, drawn: dict[str, list[Value]]) -> Iterator[dict[str, Value]]:
    for row, record in enumerate(codec.records_of(table)):
        yield record | {name: found[row] for name, found in drawn.items() if found[row] is not None}


def _keeping(rows: pa.Table, table: pa.Table, schema: RecordSchema) -> pa.Table:
    """Give rows that break a relation the values of its columns back, until none is broken."""
    for _ in schema.relations.kept:
        broken = False
        for relation in schema.relations.kept:
            broken_N = breaking_rows(Relations(kept=(relation,)), rows, schema)
            if broken_N.any():
                broken = True
                for name in columns_in(relation, schema):
                    place = rows.column_names.index(name)
                    own = pc.if_else(pa.array(broken_N), table.column(name), rows.column(name))
                    rows = rows.set_column(place, rows.schema.field(place), own)
        if not broken:
            break
    return rows
