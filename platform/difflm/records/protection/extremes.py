"""Extremes: the smallest and largest numbers and dates of a column, which few rows have, become one that enough share.

The `least` rows of each end get one value: a round one just outside the others, but inside of what the rows have, so
that a range check of the source still holds; or, where there is none, the one of them that is nearest to the others.
Sentinels and words that enough rows have stand apart from the ends and stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from difflm.records.kinds.dress import cell_reader, in_text, print_cell, read_cell
from difflm.records.kinds.moments import field_moment, microseconds, parse_datetime, pieces
from difflm.records.protection.columns import BoolArray, Cells, IntArray
from difflm.records.schema import DatetimeField, DecimalField, IntegerField

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_US: Final = 86_400_000_000
_UNITS: Final = 50
"""Of the range of a column's bulk: how many of the coarsest round steps it has."""

Code: TypeAlias = int | float


class End(NamedTuple):
    """One end of a column: the places of the values that are cut, the nearest of them to the others, and the last."""

    cut: tuple[int, ...]
    nearest: int
    last: int
    sign: int


def cut_extremes(cells: Cells, field: IntegerField | DecimalField | DatetimeField, least: int) -> bool:
    """Cut both ends of a column; False where nothing is left between them.

    Values that are neither words nor numbers (or dates) of the field stay as they are.
    """
    codes = {place: code for place, code in enumerate(_codes(cells, field)) if code is not None}
    counts_V, apart = cells.counts_V, _apart(field)
    usual = [place for place in codes if not (cells.texts[place] in apart and counts_V[place] >= least)]
    if not usual:
        return bool(counts_V.max(initial=0) >= least)
    order = sorted(usual, key=codes.__getitem__)
    low, high = _end(order, codes, counts_V, least, 1), _end(order[::-1], codes, counts_V, least, -1)
    if low is None or high is None or codes[low.nearest] > codes[high.nearest]:
        return False
    span = codes[high.nearest] - codes[low.nearest]
    for end in (low, high):
        _cut(cells, field, codes, end, span, least)
    return True


def _codes(cells: Cells, field: IntegerField | DecimalField | DatetimeField) -> list[Code | None]:
    """Return the distinct values as numbers, dates in microseconds; None for words and what is none."""
    if isinstance(field, DatetimeField):
        moments = [None if text in field.words else field_moment(field, text) for text in cells.texts]
        return [None if moment is None else microseconds(moment) for moment in moments]
    if in_text(field) or field.dress is not None:
        values = map(cell_reader(field), cells.texts)
        return [None if isinstance(value, str) else value for value in values]
    return [_number(field, text) for text in cells.texts]


def _number(field: IntegerField | DecimalField, text: str) -> Code | None:
    for read in (int, float) if isinstance(field, IntegerField) else (float,):
        with suppress(ValueError):
            number: Code = read(text)
            return number if math.isfinite(number) else None
    return None


def _apart(field: IntegerField | DecimalField | DatetimeField) -> frozenset[str]:
    """Return the spellings of what stands apart from the ends."""
    if isinstance(field, DatetimeField):
        return frozenset(field.points)
    plain = (print_cell(field, point) for point in field.points)
    return frozenset((*map(str, field.points), *plain))


def _end(order: list[int], codes: Mapping[int, Code], counts_V: IntArray, least: int, sign: int) -> End | None:
    """Find the values, from the end inwards, that `least` rows have together; None where all rows are fewer."""
    rows = 0
    for place, value in enumerate(order):
        rows += int(counts_V[value])
        if rows >= least:
            last = place + 1
            while last < len(order) and codes[order[last]] == codes[value]:  # spelled in another way
                last += 1
            return End(cut=tuple(order[:last]), nearest=value, last=order[0], sign=sign)
    return None


def _cut(
    cells: Cells,
    field: IntegerField | DecimalField | DatetimeField,
    codes: Mapping[int, Code],
    end: End,
    span: Code,
    least: int,
) -> None:
    nearest, last = codes[end.nearest], codes[end.last]
    if nearest == last:
        return
    if cells.counts_V[end.nearest] >= least:  # enough rows have it as it is
        cells.copy(_rows(cells, end), end.nearest)
        return
    rows_N = _rows(cells, end)
    if isinstance(field, DatetimeField):
        steps = _round_dates(nearest, span, -end.sign)
    else:
        steps = _round_numbers(field, nearest, span, -end.sign)
    same = {code: place for place, code in codes.items()}
    for code in steps:
        if code == nearest or (code - last) * end.sign <= 0:
            continue
        if code in same:
            cells.copy(rows_N, same[code])
            return
        try:
            cells.give(rows_N, _cell(cells.type, field, code))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError, ValueError, OverflowError):
            continue
        return
    cells.copy(rows_N, end.nearest)


def _rows(cells: Cells, end: End) -> BoolArray:
    cut_V: BoolArray = np.zeros(len(cells.texts), dtype=np.bool_)
    cut_V[list(end.cut)] = True
    return cells.rows_of(cut_V)


def _round_numbers(field: IntegerField | DecimalField, value: Code, span: Code, way: int) -> Iterator[Code]:
    """Yield round numbers from `value` on in the direction `way`, coarse ones first."""
    decimals = field.decimals if isinstance(field, DecimalField) else 0
    if span <= 0 or (isinstance(field, DecimalField) and field.exponent) or not math.isfinite(span):
        return
    rounded: Callable[[float], float] = math.floor if way < 0 else math.ceil
    for power in range(math.floor(math.log10(span / _UNITS)), -decimals - 1, -1):
        for factor in (5, 2, 1):
            if power >= 0:
                unit = factor * 10**power
                yield -(-value // unit) * unit if way > 0 else value // unit * unit
            else:
                scale = 10**-power / factor
                yield round(rounded(round(value * scale, 6)) / scale, decimals)


def _round_dates(value: Code, span: Code, way: int) -> Iterator[Code]:
    """Yield the starts of a year, a month and a day before `value`, or behind it."""
    moment = _EPOCH + timedelta(microseconds=int(value))
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    month = day.replace(day=1)
    year = month.replace(month=1)
    starts: list[tuple[datetime, datetime]] = []
    with suppress(ValueError, OverflowError):
        if span > 3 * 365 * _DAY_US:
            starts.append((year, year.replace(year=year.year + 1)))
        if span > 90 * _DAY_US:
            starts.append((month, (month + timedelta(days=32)).replace(day=1)))
        starts.append((day, day + timedelta(days=1)))
    yield from (microseconds(before if way < 0 else behind) for before, behind in starts)


def _cell(kind: pa.DataType, field: IntegerField | DecimalField | DatetimeField, code: Code) -> Any:
    """Return a number or date as a cell of the column's type.

    Raises:
        ValueError, OverflowError: the column spells no such value.
    """
    if isinstance(field, DatetimeField):
        return _date_cell(kind, field, int(code))
    if not pa.types.is_string(kind) and not pa.types.is_large_string(kind):
        if isinstance(field, IntegerField) or pa.types.is_integer(kind):
            return int(code)
        return code
    text = print_cell(field, int(code) if isinstance(field, IntegerField) else float(code))
    if (read_cell(field, text) if field.dress or field.words else float(text)) != code:
        raise ValueError(text)
    return text


def _date_cell(kind: pa.DataType, field: DatetimeField, code: int) -> Any:
    moment = _EPOCH + timedelta(microseconds=code)
    if not pa.types.is_string(kind):
        if pa.types.is_date(kind):
            return moment.date()
        return moment if pa.types.is_timestamp(kind) and kind.tz else moment.replace(tzinfo=None)
    if field.zones or field.names not in ("", "title") or (field.fraction and 6 not in field.fraction):
        raise ValueError("dates are spelled in another way than strftime does")
    text = ""
    for piece in pieces(field.format):
        part = moment.strftime(piece) if piece[0] == "%" else piece
        text += (part.lstrip("0") or "0") if piece[1:] and piece[1:] in field.bare else part
    found = parse_datetime(text, field.format)
    if found is None or microseconds(found) != code:
        raise ValueError(text)
    return text
