"""Values in relations: numbers and dates as floating-point numbers, everything else as it is, cell by cell or whole.

A date is days since 1970 with their fraction; texts, categories and booleans are compared for equality only. Words
beside the numbers or dates of a column (`n/d`) are none: no comparison says anything of a row that has one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from difflm.records.kinds.codes import moment_code
from difflm.records.kinds.columns import conform_column
from difflm.records.kinds.dress import in_text, read_cell
from difflm.records.kinds.literals import decimal_literal, dictionary_of
from difflm.records.kinds.moments import parse_datetime, pieces
from difflm.records.large.encoded import by_value
from difflm.records.relations.expressions import Interval
from difflm.records.schema import (
    BooleanField,
    CategoricalField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Field,
    IntegerField,
    RecordSchema,
    TextField,
    Value,
)

Kind: TypeAlias = Literal["number", "date", "text"]
FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
_DAY_US: Final = 86_400_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EXACT: Final = 2.0**53
_MOST_CELLS: Final = 2**23
"""Cells that are kept once they are converted: of a large table few columns are looked at twice."""
_SAMPLED: Final = 2**15
"""Rows of which every column is looked at again and again."""
_FAST: Final = frozenset("YmdHMS")  # directives that Arrow reads as Python does
DATE_STEP: Final = 1e-8
"""Dates closer than this, in days, are the same: about a millisecond."""


def kind_of(field: Field) -> Kind:
    """Return what a column's values are in an expression."""
    match field:
        case IntegerField() | DecimalField():
            return "number"
        case ConstantField(value=value) if isinstance(value, int | float) and not isinstance(value, bool):
            return "number"
        case DatetimeField():
            return "date"
        case _:
            return "text"


def number_of(field: Field, value: Value) -> Any:
    """Return a normalised value as expressions see it; None for a missing one, a word, an unreadable date."""
    if is_word(field, value) or value is None:
        return None
    match kind_of(field):
        case "number":
            return float(value)
        case "date":
            assert isinstance(field, DatetimeField)
            return _days(field, str(value))
        case _:
            return value


def is_word(field: Field, value: Value) -> bool:
    """Whether a value is one of the words beside the numbers or dates of a column."""
    return isinstance(field, IntegerField | DecimalField | DatetimeField) and value in field.words


def value_of(field: Field, number: Any) -> Value:
    """Return the value of a column that a number stands for, rounded to what it prints; None where it has none.

    A number or date outside the range of training, or a text that the column does not know, is none.
    """
    match field:
        case IntegerField(minimum=low, maximum=high):
            whole = round(number) if math.isfinite(number) else high + 1
            return whole if low <= whole <= high or whole in field.points else None
        case DecimalField(minimum=least, maximum=most):
            if not math.isfinite(number):
                return None
            printed = float(decimal_literal(number, field.decimals, field.exponent))
            return printed if least <= printed <= most or printed in field.points else None
        case DatetimeField():
            return _date(field, number)
        case CategoricalField(values=values):
            return number if number in values else None
        case BooleanField():
            return number if isinstance(number, bool) else None
        case TextField(max_characters=longest):
            return number if isinstance(number, str) and len(number) <= longest else None
        case ConstantField(value=only):
            return only if number == only else None
        case _:
            return None


def range_of(field: Field) -> Interval | None:
    """Return the range of training as expressions see it; None for texts."""
    match field:
        case IntegerField(minimum=low, maximum=high) | DecimalField(minimum=low, maximum=high):
            return float(low), float(high)
        case DatetimeField(minimum=first, maximum=last):
            ends = _days(field, first), _days(field, last)
            return None if None in ends else ends  # type: ignore[return-value]
        case ConstantField(value=value) if kind_of(field) == "number":
            return float(value), float(value)
        case _:
            return None


def step_of(field: Field) -> float:
    """Return how far an exact result may lie from the value of a column that is written in its decimals."""
    match field:
        case IntegerField():
            return 0.5
        case DecimalField(decimals=decimals, exponent=exponent):
            return 0.5 * 10.0 ** (exponent - decimals)
        case _:
            return DATE_STEP


def _days(field: DatetimeField, text: str) -> float | None:
    try:
        return moment_code(field, text) / _DAY_US
    except ValueError:
        return None


def _date(field: DatetimeField, days: float) -> str | None:
    """Write a date in the form of its column; None outside the range, or where that form cannot state it."""
    span = range_of(field)
    if span is None or not span[0] - DATE_STEP <= days <= span[1] + DATE_STEP:
        return None
    moment = _EPOCH + timedelta(microseconds=round(days * _DAY_US))
    written = ""
    for piece in pieces(field.format):
        part = moment.strftime(piece) if piece[0] == "%" and piece != "%%" else piece
        if piece == "%f" and field.fraction:
            part = part[: max(field.fraction)].ljust(min(field.fraction), "0")
        written += (part.lstrip("0") or "0") if piece[1:] and piece[1:] in field.bare else part
    read = _days(field, written)
    return written if read is not None and abs(read - days) <= DATE_STEP else None


@dataclass(slots=True)
class TableValues:
    """The columns of a table, each converted when it is first asked for and kept."""

    table: pa.Table
    schema: RecordSchema
    _fields: Mapping[str, Field] = field(init=False)
    _columns: dict[str, pa.ChunkedArray] = field(default_factory=dict)
    _numbers: dict[str, Any] = field(default_factory=dict)
    _codes: dict[str, tuple[IntArray, list[Value]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._fields = {each.name: each for each in self.schema.fields}

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def _forget(self, kept: dict[str, Any]) -> None:
        if len(kept) * len(self) > _MOST_CELLS and len(self) > _SAMPLED:
            kept.clear()

    def field(self, name: str) -> Field:
        """Return the field of a column."""
        return self._fields[name]

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column in its canonical type, as records print it."""
        if name not in self._columns:
            self._forget(self._columns)
            each = self._fields[name]
            self._columns[name] = by_value(self.table.column(name), lambda column: conform_column(column, each))
        return self._columns[name]

    def numbers(self, name: str) -> Any:
        """Return numbers or dates as float64 (N,), NaN where a row has none; texts as objects, None where missing."""
        if name not in self._numbers:
            self._forget(self._numbers)
            column, each = self.column(name), self._fields[name]
            match kind_of(each):
                case "number" if in_text(each):
                    read = (number_of(each, value) for value in self.canonical(name))
                    self._numbers[name] = np.array([math.nan if value is None else value for value in read])
                case "number":
                    self._numbers[name] = pc.cast(column, pa.float64(), safe=False).to_numpy().astype(np.float64)
                case "date":
                    assert isinstance(each, DatetimeField)
                    self._numbers[name] = _column_days(each, column)
                case _:
                    self._numbers[name] = np.array(self.canonical(name), dtype=object)
        return self._numbers[name]

    def codes(self, name: str) -> tuple[IntArray, list[Value]]:
        """Return the place of every row's value among the distinct ones (N,), and these; a missing value is one too."""
        if name not in self._codes:
            self._forget(self._codes)
            encoded = self.column(name).combine_chunks().dictionary_encode()
            if isinstance(encoded, pa.ChunkedArray):
                encoded = encoded.combine_chunks()
            values = _canonical(self._fields[name], encoded.dictionary.to_pylist())
            codes_N = pc.fill_null(encoded.indices.cast(pa.int64()), len(values)).to_numpy()
            self._codes[name] = codes_N, [*values, None] if encoded.null_count else values
        return self._codes[name]

    def canonical(self, name: str) -> list[Value]:
        """Return a column's values as records have them."""
        return _canonical(self._fields[name], self.column(name).to_pylist())

    def first(self, name: str, rows: int) -> list[Value]:
        """Return the first of a column's values as records have them."""
        return _canonical(self._fields[name], self.column(name).slice(0, rows).to_pylist())

    def missing(self, name: str) -> npt.NDArray[np.bool_]:
        """Return (N,) booleans, True where the column has no value."""
        found: npt.NDArray[np.bool_] = self.column(name).is_null().to_numpy()
        return found

    def worded(self, name: str) -> npt.NDArray[np.bool_]:
        """Return (N,) booleans, True where the column has a word in the place of a number or date."""
        words = getattr(self._fields[name], "words", ())
        if not words:
            return np.zeros(len(self), np.bool_)
        found: npt.NDArray[np.bool_] = pc.is_in(self.column(name), pa.array(words, pa.string())).to_numpy()
        return found

    def take(self, rows_N: IntArray) -> TableValues:
        """Return some rows of it."""
        return TableValues(self.table.take(pa.array(rows_N)), self.schema)

    def exact(self, name: str) -> bool:
        """Whether floating-point numbers hold its values exactly: not so for whole numbers beyond 2**53."""
        each = self._fields[name]
        return not isinstance(each, IntegerField) or max(abs(each.minimum), abs(each.maximum)) < _EXACT


def _canonical(field: Field, values: list[Value]) -> list[Value]:
    """Return a column's values as records have them."""
    if isinstance(field, BooleanField) and field.stored == "text":
        meaning: Mapping[Value, Value] = {field.true_text: True, field.false_text: False}
        return [None if value is None else meaning.get(value) for value in values]
    if isinstance(field, IntegerField | DecimalField) and in_text(field):
        return [None if value is None else read_cell(field, str(value)) for value in values]
    return values


def _column_days(field: DatetimeField, column: pa.ChunkedArray) -> FloatArray:
    form = pieces(field.format)
    if all(piece[1] in _FAST for piece in form if piece[0] == "%") and "%Y" in form:
        read = pc.strptime(column, format=field.format, unit="us", error_is_null=True)
        whole = pc.cast(read, pa.int64()).to_numpy().astype(np.float64)
        return np.asarray(whole / _DAY_US)
    places, texts = dictionary_of(column)
    days = [_days(field, str(text)) for text in texts]
    return np.array([math.nan if place is None or (found := days[place]) is None else found for place in places])


def readable(field: Field) -> bool:
    """Whether a column can stand in relations that are looked for: dates of one zone, and no free text."""
    if isinstance(field, DatetimeField):
        return "%z" not in field.format and parse_datetime(field.minimum, field.format) is not None
    return isinstance(field, IntegerField | DecimalField | CategoricalField | BooleanField)
