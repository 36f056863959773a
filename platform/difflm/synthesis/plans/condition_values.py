"""Values in conditions: the codes of a column for which a comparison with a literal is true."""

from __future__ import annotations

import difflib
import math
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import TypeAlias

from difflm.errors import ConfigError
from difflm.records.kinds.codes import IntervalSet, ordered_codes, whole_domain, word_codes
from difflm.records.kinds.codes_of_form import numbered_code
from difflm.records.kinds.dress import plain_text
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
)

Literal: TypeAlias = str | int | float | bool | None
_SHOWN = 8


def codes_where(field: Field, operator: str, value: Literal) -> IntervalSet:
    """Codes c of the field's domain with `c operator value`. Raises ConfigError naming the column and the remedy."""
    if value is None:
        raise ConfigError(f"{field.name!r} cannot be compared with null; write 'is null' or 'is not null'")
    whole = whole_domain(field).codes
    match field:
        case IntegerField() | DecimalField() | DatetimeField() if value in field.words:
            if operator not in ("==", "!="):
                raise ConfigError(f"{field.name!r}: the word {value!r} has no order for {operator!r}; use == or !=")
            chosen = IntervalSet.points([word_codes(field)[str(value)]])
            return chosen if operator == "==" else whole - chosen
        case IntegerField() | DecimalField() | DatetimeField():
            bound = Fraction(_moment(field, value)) if isinstance(field, DatetimeField) else _number(field, value)
            numbers = ordered_codes(field)
            words = IntervalSet.points(word_codes(field).values() if operator == "!=" else ())
            return (_compared(field, numbers, operator, bound) & numbers) | words
        case TextField() | CodeField() | IdentifierField() | JsonField():
            what = "free text" if isinstance(field, TextField) else field.kind
            raise ConfigError(f"{field.name!r} is {what}, which conditions can only ask to be null or not")
        case CategoricalField(ordered=True) if operator not in ("==", "!="):
            return _compared(field, whole, operator, Fraction(_place(field, value)))
        case CategoricalField() | BooleanField() | ConstantField():
            if operator not in ("==", "!="):
                raise ConfigError(
                    f"{field.name!r} ({field.kind}) has no order for {operator!r}; use ==, !=, in, not in"
                )
            chosen = IntervalSet.points([_place(field, value)]) & whole
            return chosen if operator == "==" else whole - chosen


def known_values(field: Field) -> str:
    """Describe in a few words the values of a column in training."""
    missing = ", or missing" if field.nullable else ""
    match field:
        case IntegerField(minimum=low, maximum=high) | DatetimeField(minimum=low, maximum=high):
            return f"training has {low} to {high}{_beside(field)}{missing}"
        case DecimalField(minimum=least, maximum=most):
            return f"training has {least:.{field.decimals}f} to {most:.{field.decimals}f}{_beside(field)}{missing}"
        case CategoricalField(values=values):
            more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
            return f"training has {', '.join(map(repr, values[:_SHOWN]))}{more}{missing}"
        case BooleanField(counts=counts):
            seen = [word for word, count in zip(("true", "false"), counts, strict=True) if count]
            return f"training has {' and '.join(seen)}{missing}"
        case ConstantField(value=value):
            return f"it is always {value!r}"
        case CodeField():
            return f"codes of {len(field.shapes)} forms, such as {numbered_code(field.shapes, 0)!r}{missing}"
        case IdentifierField():
            return "it names the row"
        case TextField() | JsonField():
            return f"it is free text{missing}"


def _beside(field: IntegerField | DecimalField | DatetimeField) -> str:
    others = [*map(str, field.points), *map(repr, field.words)]
    return f", and {', '.join(others)}" if others else ""


def _compared(field: Field, whole: IntervalSet, operator: str, bound: Fraction) -> IntervalSet:
    low, high = whole.spans[0][0], whole.spans[-1][1]
    below, above = math.ceil(bound) - 1, math.floor(bound) + 1
    exact = bound.denominator == 1
    match operator:
        case "==" if not exact and isinstance(field, DecimalField):
            raise ConfigError(
                f"{field.name!r} is written with {field.decimals} decimals; no value of it equals this one"
            )
        case "==":
            return IntervalSet.of([(int(bound), int(bound))] if exact else []) & whole
        case "!=":
            return IntervalSet.of([(low, min(below, high)), (max(above, low), high)])
        case "<":
            return IntervalSet.of([(low, min(below, high))])
        case "<=":
            return IntervalSet.of([(low, min(math.floor(bound), high))])
        case ">":
            return IntervalSet.of([(max(above, low), high)])
        case _:
            return IntervalSet.of([(max(math.ceil(bound), low), high)])


def _number(field: IntegerField | DecimalField, value: Literal) -> Fraction:
    """Convert the literal to the unit of the field's codes, exactly as it was written."""
    if isinstance(value, str) and field.dress is not None and (plain := plain_text(field.dress, value)) is not None:
        value = float(plain) if "." in plain or "e" in plain else int(plain)
    if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
        raise ConfigError(f"{field.name!r} holds numbers, not {value!r}; {known_values(field)}")
    exact = Fraction(value) if isinstance(value, int) else Fraction(Decimal(repr(value)))
    return exact * Fraction(10) ** (field.decimals - field.exponent) if isinstance(field, DecimalField) else exact


def _moment(field: DatetimeField, value: Literal) -> int:
    if not isinstance(value, str):
        raise ConfigError(f"{field.name!r} holds dates; write them in quotes, such as {field.minimum!r}")
    moment = field_moment(field, value)
    if moment is None:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ConfigError(
                f"{field.name!r}: {value!r} is no date that can be read; write it like {field.minimum!r} or 2020-01-31"
            ) from None
    return microseconds(moment)


def _place(field: CategoricalField | BooleanField | ConstantField, value: Literal) -> int:
    match field:
        case BooleanField():
            spelled = {True: 1, False: 0, field.true_text: 1, field.false_text: 0}
            if isinstance(value, bool | str) and value in spelled:
                return spelled[value]
            raise ConfigError(f"{field.name!r} is true or false, not {value!r}")
        case ConstantField(value=only):
            return 0 if value == only and isinstance(value, bool) == isinstance(only, bool) else -1
        case CategoricalField(values=values):
            if isinstance(value, str) and value in values:
                return values.index(value)
            if not isinstance(value, str):
                raise ConfigError(f"{field.name!r} holds text, not {value!r}; write the category in quotes")
            close = difflib.get_close_matches(value, values, n=1, cutoff=0.6)
            remedy = f"did you mean {close[0]!r}?" if close else known_values(field)
            raise ConfigError(f"{field.name!r} has no category {value!r} in training; {remedy}")
