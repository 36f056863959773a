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
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from difflm.records.json_codec import JsonRecordCodec
from difflm.records.protection.related import breaking_rows
from difflm.records.relations.model import Relations
from difflm.records.relations.values import TableValues, kind_of, number_of, readable, step_of, value_of
from difflm.records.relations.words import columns_in
from difflm.records.schema import DatetimeField, Field, RecordSchema, Value

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
    found = [] if len(values) >= FEW_ROWS else [_moving(field, values) for field in schema.fields]
    moving = [column for column in found if column is not None]
    if not moving:
        return table, 1
    rows, generator = min(TOLD_ROWS, most, _MOST_CELLS / len(moving)), np.random.default_rng(seed)
    copies = math.ceil(rows / len(values))
    return pa.concat_tables([_copy(values, moving, generator) for _ in range(copies)]), copies


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writing:
    """How each of a column's numbers is written, in units of what the column prints: `origin_V` and a multiple of
    `grain_V`.
    """

    unit: float
    grain_V: FloatArray
    origin_V: FloatArray

    def rounded(self, drawn_V: FloatArray) -> FloatArray:
        """Round numbers as those are written that they were drawn for."""
        multiples_V = np.rint((drawn_V / self.unit - self.origin_V) / self.grain_V)
        rounded_V: FloatArray = self.unit * (self.origin_V + self.grain_V * multiples_V)
        return rounded_V


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moving:
    """The numbers or dates of a column that few rows share, and the rows that they stand in; all are drawn anew.

    Without `writing` they are too large to be rounded.
    """

    field: Field
    rows_V: npt.NDArray[np.int64]
    numbers_V: FloatArray
    writing: _Writing | None

    def drawn(self, generator: np.random.Generator) -> dict[int, Value]:
        """Draw them anew, by row; a row that is left out keeps its own."""
        near_V = _near(self.numbers_V, generator)
        if self.writing is not None:
            near_V = self.writing.rounded(near_V)
        values = (
            (row, value_of(self.field, near)) for row, near in zip(self.rows_V.tolist(), near_V.tolist(), strict=True)
        )
        return {row: value for row, value in values if value is not None}


def _moving(field: Field, values: TableValues) -> _Moving | None:
    """Find what moves of a column; None where nothing lies between its values, or they cannot be drawn."""
    if kind_of(field) not in ("number", "date") or not readable(field) or not values.exact(field.name):
        return None
    if isinstance(field, DatetimeField) and field.others:
        return None
    numbers_N: FloatArray = np.asarray(values.numbers(field.name), dtype=np.float64)
    moving_N = np.isfinite(numbers_N)
    if len(np.unique(numbers_N[moving_N])) < SPREAD_SHARE * moving_N.sum():
        return None
    points = [number_of(field, point) for point in getattr(field, "points", ())]
    if points:
        moving_N &= ~np.isin(numbers_N, np.array([point for point in points if point is not None]))
    found, counts = np.unique(numbers_N[moving_N], return_counts=True)
    moving_N &= ~np.isin(numbers_N, found[counts > NEIGHBOURS])
    numbers_V = numbers_N[moving_N]
    if len(np.unique(numbers_V)) <= 2 * NEIGHBOURS:
        return None
    rows_V = np.flatnonzero(moving_N)
    return _Moving(field=field, rows_V=rows_V, numbers_V=numbers_V, writing=_writing(field, numbers_V))


def _copy(values: TableValues, moving: list[_Moving], generator: np.random.Generator) -> pa.Table:
    """Draw the numbers and dates of some columns anew; texts, categories, codes and missing values stay.

    The relations that the schema keeps hold as they did: where a row would break one, its columns have their values.
    """
    codec = JsonRecordCodec(values.schema)
    drawn = {column.field.name: column.drawn(generator) for column in moving}
    rows = codec.table_of(_replaced(codec, values.table, drawn))
    return _keeping(rows, values.table.cast(rows.schema), values.schema)


def _near(numbers_V: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Draw for each number another between those that come next, at most `NEIGHBOURS` places away."""
    ordered_U, own_V = np.unique(numbers_V, return_inverse=True)
    last = len(ordered_U) - 1
    place_V: FloatArray = own_V + generator.uniform(-NEIGHBOURS, NEIGHBOURS, len(numbers_V))
    place_V = last - np.abs(last - np.abs(place_V))  # turned back at both ends, where values would pile up
    drawn_V: FloatArray = np.interp(place_V, np.arange(last + 1), ordered_U)
    return drawn_V


def _writing(field: Field, numbers_V: FloatArray) -> _Writing | None:
    """Find how a column's numbers are written: what all are multiples of, and last digits that many have.

    Salaries end in `000`, prices in `.99`, and a column of days has no hours.
    """
    dated = isinstance(field, DatetimeField)
    unit = 1.0 / _DAY_S if dated else 2 * step_of(field)
    least = float(numbers_V.min())
    steps_V, codes_V = np.rint((numbers_V - least) / unit), np.rint(numbers_V / unit)
    if not np.all(np.maximum(steps_V, np.abs(codes_V)) < _MOST_CODE):
        return None
    step = float(np.gcd.reduce(steps_V.astype(np.int64))) or 1.0
    grain_V, origin_V = np.full(len(numbers_V), step), np.rint(np.full(len(numbers_V), least) / unit)
    for digits in range(1, 1 if dated else _MOST_DIGITS):  # decimal digits say nothing of times
        ends_V = np.mod(codes_V, 10.0**digits)
        found, place_V, counts = np.unique(ends_V, return_inverse=True, return_counts=True)
        usual = max(_OFTEN, _OFTENER * len(numbers_V) / 10.0**digits)
        kept_V = (counts[place_V] > usual) & (10.0**digits >= step)
        grain_V[kept_V], origin_V[kept_V] = 10.0**digits, found[place_V][kept_V]
    return _Writing(unit=unit, grain_V=grain_V, origin_V=origin_V)


def _replaced(
    codec: JsonRecordCodec, table: pa.Table, drawn: dict[str, dict[int, Value]]
) -> Iterator[dict[str, Value]]:
    for row, record in enumerate(codec.records_of(table)):
        yield record | {name: found[row] for name, found in drawn.items() if row in found}


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
