"""Codes: the values of a column as whole numbers, so that every set of values is a union of closed intervals.

Codes: the values of a column as whole numbers, so that every set of values is a union of intervals.

A category's code is its place in the schema, false is 0 and true is 1, an integer is its own code, a decimal counts its
last decimal place (12.50 is 1250), a date or time counts microseconds (since 1970 in UTC where it states a zone, as if
in UTC where it does not). Words beside numbers or dates come behind the largest of them, with a gap. A constant is
code 0. Free text, codes of a fixed form and identifiers have no codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from difflm.records.kinds.dress import in_text, read_cell
from difflm.records.kinds.literals import decimal_literal, dictionary_of
from difflm.records.kinds.moments import field_moment, microseconds
from difflm.records.schema import (
    BooleanField,
    CategoricalField,
    CodeField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Field,
    IdentifierField,
    IntegerField,
    JsonField,
    TextField,
    Value,
)


@dataclass(frozen=True, slots=True)
class IntervalSet:
    """Whole numbers as disjoint closed intervals (low, high), in order and never adjacent; build it with `of`."""

    spans: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, intervals: Iterable[tuple[int, int]]) -> IntervalSet:
        """Return the union of intervals in any order; an interval whose low exceeds its high is empty."""
        spans: list[tuple[int, int]] = []
        for low, high in sorted(span for span in intervals if span[0] <= span[1]):
            if spans and low <= spans[-1][1] + 1:
                spans[-1] = (spans[-1][0], max(spans[-1][1], high))
            else:
                spans.append((low, high))
        return cls(tuple(spans))

    @classmethod
    def points(cls, values: Iterable[int]) -> IntervalSet:
        """Return the set of single numbers."""
        return cls.of((value, value) for value in values)

    def __bool__(self) -> bool:
        return bool(self.spans)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and any(low <= value <= high for low, high in self.spans)

    def __iter__(self) -> Iterator[int]:
        """Iterate over every number in order; for small sets."""
        for low, high in self.spans:
            yield from range(low, high + 1)

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return sum(high - low + 1 for low, high in self.spans)

    def __or__(self, other: IntervalSet) -> IntervalSet:
        return IntervalSet.of((*self.spans, *other.spans))

    def __and__(self, other: IntervalSet) -> IntervalSet:
        return IntervalSet.of(
            (max(low, first), min(high, last)) for low, high in self.spans for first, last in other.spans
        )

    def __sub__(self, other: IntervalSet) -> IntervalSet:
        left = self
        for first, last in other.spans:
            left = IntervalSet.of(
                part for low, high in left.spans for part in ((low, min(high, first - 1)), (max(low, last + 1), high))
            )
        return left


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Values of one column: codes, and whether it may be missing."""

    codes: IntervalSet
    null: bool

    def __bool__(self) -> bool:
        return bool(self.codes) or self.null

    def __and__(self, other: Allowed) -> Allowed:
        return Allowed(codes=self.codes & other.codes, null=self.null and other.null)

    def __or__(self, other: Allowed) -> Allowed:
        return Allowed(codes=self.codes | other.codes, null=self.null or other.null)


Restriction: TypeAlias = Mapping[str, Allowed]
"""By column name, what is left of its values; columns that it does not name are free."""


def whole_domain(field: Field) -> Allowed:
    """Return all codes in the range of training, and missing where training has it; code 0 stands for any free text."""
    match field:
        case IntegerField() | DecimalField() | DatetimeField():
            codes = ordered_codes(field) | IntervalSet.points(word_codes(field).values())
        case CategoricalField(values=values):
            codes = IntervalSet.of([(0, len(values) - 1)])
        case BooleanField(counts=(true, false)):
            codes = IntervalSet.points([*([0] if false else []), *([1] if true else [])])
        case ConstantField() | TextField() | CodeField() | IdentifierField() | JsonField():
            codes = IntervalSet.points([0])
    return Allowed(codes=codes, null=field.nullable)


def ordered_codes(field: IntegerField | DecimalField | DatetimeField) -> IntervalSet:
    """Return the codes of a field's numbers or dates: its range, and the points outside. Words are left out."""
    match field:
        case IntegerField(minimum=low, maximum=high, points=points):
            return IntervalSet.of([(low, high), *((point, point) for point in points)])
        case DecimalField(minimum=least, maximum=most):
            ends = [(least, most), *((point, point) for point in field.points)]
            return IntervalSet.of((decimal_code(field, low), decimal_code(field, high)) for low, high in ends)
        case DatetimeField(minimum=first, maximum=last):
            bounds = [(first, last), *((point, point) for point in field.points)]
            return IntervalSet.of((moment_code(field, low), moment_code(field, high)) for low, high in bounds)


def word_codes(field: IntegerField | DecimalField | DatetimeField) -> dict[str, int]:
    """Return the codes of the words of a field."""
    first = ordered_codes(field).spans[-1][1] + 2 if field.words else 0
    return {word: first + place for place, word in enumerate(field.words)}


def decimal_code(field: DecimalField, value: float) -> int:
    """Return a decimal in units of its last printed place."""
    return int(decimal_literal(value, field.decimals, field.exponent).partition("e")[0].replace(".", ""))


def moment_code(field: DatetimeField, text: str) -> int:
    """Return the microseconds of a date or time in a format of the field. Raises ValueError when it does not fit."""
    moment = field_moment(field, text)
    if moment is None:
        raise ValueError(f"column {field.name!r}: {text!r} does not fit {' or '.join(map(repr, field.formats))}")
    return microseconds(moment)


def value_code(field: Field, value: Value) -> int | None:
    """Return the code of a normalised value, None when it is missing; ValueError for a value outside the schema."""
    if value is None:
        return None
    match field:
        case IntegerField() | DecimalField() | DatetimeField() if isinstance(value, str) and value in field.words:
            return word_codes(field)[value]
        case IntegerField() if isinstance(value, int):
            return value
        case DecimalField() if isinstance(value, int | float):
            return decimal_code(field, value)
        case CategoricalField(values=values) if isinstance(value, str):
            return values.index(value)
        case BooleanField():
            return int(bool(value))
        case DatetimeField() if isinstance(value, str):
            return moment_code(field, value)
        case ConstantField() | TextField() | CodeField() | IdentifierField() | JsonField():
            return 0
        case _:
            raise ValueError(f"column {field.name!r} ({field.kind}) cannot hold {value!r}")


def column_codes(field: Field, column: pa.ChunkedArray) -> list[int | None]:
    """Return the codes of a normalised column in its canonical type."""
    if isinstance(field, IntegerField) and not in_text(field):
        numbers: list[int | None] = column.to_pylist()
        return numbers
    if isinstance(field, TextField | CodeField | IdentifierField | JsonField | ConstantField):
        return [None if missing else 0 for missing in column.is_null().to_pylist()]
    places, values = dictionary_of(column)
    if isinstance(field, BooleanField):
        values = [value is True or value == field.true_text for value in values]
    if isinstance(field, IntegerField | DecimalField) and in_text(field):
        values = [read_cell(field, str(value)) for value in values]
    known = {value: code for code, value in enumerate(field.values)} if isinstance(field, CategoricalField) else {}
    codes = [known[str(value)] if known else value_code(field, value) for value in values]
    return [None if place is None else codes[place] for place in places]
