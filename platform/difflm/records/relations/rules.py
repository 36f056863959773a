"""Rules: comparisons of expressions, read from text and checked against the kinds of the columns they are about."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from difflm.records.relations.expressions import (
    EXAMPLE,
    Binary,
    Column,
    Constant,
    Expression,
    Reader,
    columns_of,
    evaluate,
    interval,
    quoted,
    shown,
)
from difflm.records.relations.model import Rule
from difflm.records.relations.values import Kind, TableValues, kind_of, number_of, range_of, step_of
from difflm.records.schema import DatetimeField, Field, IdentifierField, RecordSchema

Operator: TypeAlias = Literal["==", "!=", "<", "<="]
_OPERATORS: Mapping[type[ast.cmpop], tuple[Operator, bool]] = {
    ast.Eq: ("==", False),
    ast.NotEq: ("!=", False),
    ast.Lt: ("<", False),
    ast.LtE: ("<=", False),
    ast.Gt: ("<", True),
    ast.GtE: ("<=", True),
}
_RELATIVE: Final = 1e-12
_ABSOLUTE: Final = 1e-9
"""Sums and products of decimals are off by rounding in binary, by far less than these."""
FUNCTIONS: Final = ("fixed", "determines")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two expressions and how they compare, as they were written; `>` has been turned round."""

    operator: Operator
    left: Expression
    right: Expression

    def __str__(self) -> str:
        return f"{shown(self.left)} {self.operator} {shown(self.right)}"


@dataclass(frozen=True, slots=True)
class Learned:
    """`fixed(country, city)`, combinations of training only, or `determines(city, state)`: the last follows."""

    function: str
    columns: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(quoted, self.columns))})"


def read_constraint(text: str, names: Sequence[str] | None = None) -> list[Comparison | Learned]:
    """Read what a constraint states; `and` and chains (`a <= b <= c`) state several things.

    Raises:
        ConfigError: it cannot be read, or names a column that is not among `names`.
    """
    reader = Reader(text, names)
    found: list[Comparison | Learned] = []
    for part in _conjuncts(reader.tree()):
        match part:
            case ast.Compare(left=left, ops=operators, comparators=others) if all(
                type(operator) in _OPERATORS for operator in operators
            ):
                sides = [reader.expression(side) for side in (left, *others)]
                for operator, one, other in zip(operators, sides, sides[1:], strict=False):
                    sign, turned = _OPERATORS[type(operator)]
                    found.append(Comparison(sign, other, one) if turned else Comparison(sign, one, other))
            case ast.Call(func=ast.Name(id=function), args=arguments, keywords=[]) if function in FUNCTIONS:
                columns = tuple(reader.column(argument) for argument in arguments)
                if len(columns) < 2 or len(set(columns)) < len(columns):
                    raise reader.error(f"{function} takes two columns or more, such as {function}(country, city)")
                found.append(Learned(function, columns))
            case _:
                raise reader.error(
                    f"is no comparison; {EXAMPLE}, fixed(country, city) or determines(city, state); "
                    "several are joined by 'and'"
                )
    for each in found:
        if isinstance(each, Comparison) and not columns_of(each.left) + columns_of(each.right):
            raise reader.error(f"is about no column; {EXAMPLE}")
    return found


def _conjuncts(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        return [part for value in node.values for part in _conjuncts(value)]
    return [node]


def _finite(slack: Any) -> Any:
    """Return a slack, none where a side is infinite: everything would be as near to it as anything."""
    if isinstance(slack, np.ndarray):
        return np.where(np.isfinite(slack), slack, 0.0)
    return slack if math.isfinite(slack) else 0.0


@dataclass(frozen=True)
class CompiledRule:
    """A rule whose columns exist and can be compared so; an equation's lone column, where it has one, stands left."""

    rule: Rule
    operator: Operator
    left: Expression
    right: Expression
    kind: Kind
    fields: Mapping[str, Field]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns it is about."""
        return tuple(dict.fromkeys((*columns_of(self.left), *columns_of(self.right))))

    @cached_property
    def tolerance(self) -> float:
        """How far two sides of an equation may lie apart, beside rounding in binary."""
        if isinstance(self.left, Column) and not isinstance(self.right, Column) and self.kind != "text":
            return step_of(self.fields[self.left.name]) * (1.0 + 1e-6)
        return 0.0

    def holds(self, values: Mapping[str, Any]) -> Any:
        """Whether it holds of values that are all there, or (N,) booleans for columns; of NaN it does not."""
        try:
            left, right = evaluate(self.left, values), evaluate(self.right, values)
        except (ZeroDivisionError, OverflowError):
            return False
        if self.kind == "text":
            return left == right if self.operator == "==" else left != right
        plain = isinstance(self.left, Column | Constant) and isinstance(self.right, Column | Constant)
        slack = 0.0
        if self.operator == "==" or not plain:
            slack = _finite(_RELATIVE * (abs(left) + abs(right)) + (not plain) * _ABSOLUTE)
        match self.operator:
            case "==":
                return abs(left - right) <= self.tolerance + slack
            case "!=":
                return abs(left - right) > slack
            case "<":
                return left < right - slack
            case _:
                return left <= right + slack

    def broken(self, table: TableValues) -> npt.NDArray[np.bool_]:
        """Return (N,) booleans, True for the rows that it does not hold for."""
        present_N = ~np.logical_or.reduce([table.missing(name) for name in self.columns])
        with np.errstate(all="ignore"):
            holds_N = np.asarray(self.holds({name: table.numbers(name) for name in self.columns}), dtype=np.bool_)
        worded_N = np.logical_or.reduce([table.worded(name) for name in self.columns])
        broken_N: npt.NDArray[np.bool_] = present_N & ~worded_N & ~holds_N
        if self.rule.missing_together and isinstance(self.left, Column):
            sources_N = np.logical_or.reduce([table.missing(name) for name in columns_of(self.right)])
            broken_N |= table.missing(self.left.name) != sources_N
        return broken_N

    def possible(self, ranges: Mapping[str, tuple[float, float]]) -> bool:
        """Whether some values within these ranges satisfy it, as far as the ends of both sides tell."""
        if self.kind == "text":
            return True
        (low, high), (first, last) = interval(self.left, ranges), interval(self.right, ranges)
        match self.operator:
            case "==":
                return low <= last + self.tolerance and first <= high + self.tolerance
            case "!=":
                return not low == high == first == last
            case "<":
                return low < last
            case _:
                return low <= last


def compile_rule(rule: Rule, schema: RecordSchema) -> CompiledRule:
    """Compile a stored rule. Raises ConfigError where the schema lacks its columns, or it compares what it cannot."""
    (comparison,) = read_constraint(rule.text, schema.names)
    assert isinstance(comparison, Comparison)
    return compiled(comparison, rule, schema)


def compiled(comparison: Comparison, rule: Rule, schema: RecordSchema) -> CompiledRule:
    """Check a comparison against the kinds of its columns; `rule` is how it is kept. Raises ConfigError."""
    reader = Reader(rule.text, schema.names)
    fields = {field.name: field for field in schema.fields}
    left, right = comparison.left, comparison.right
    refuse_names((*columns_of(left), *columns_of(right)), fields, reader)
    left, right = _dated(left, right, fields, reader), _dated(right, left, fields, reader)
    kinds = _kind(left, fields, reader), _kind(right, fields, reader)
    if kinds[0] != kinds[1]:
        raise reader.error(
            f"{shown(comparison.left)} is a {kinds[0]} and {shown(comparison.right)} a {kinds[1]}; compare like with "
            "like (the difference of two dates is a number of days)"
        )
    if kinds[0] == "text" and comparison.operator not in ("==", "!="):
        raise reader.error(f"{shown(comparison.left)} is no number or date and has no order; use == or !=")
    if comparison.operator == "==" and not isinstance(left, Column) and isinstance(right, Column):
        left, right = right, left
    if comparison.operator == "==" and isinstance(left, Column) and left.name in columns_of(right):
        raise reader.error(f"{left.name!r} stands on both sides; write it with one column alone on a side")
    return CompiledRule(rule, comparison.operator, left, right, kinds[0], fields)


def refuse_names(columns: Sequence[str], fields: Mapping[str, Field], reader: Reader) -> None:
    """Refuse columns that only name the rows: their cells are made for each row, and follow from nothing in it."""
    for name in columns:
        if isinstance(fields[name], IdentifierField):
            raise reader.error(
                f"{name!r} only names the rows and is made anew for each; if it says something of them, set "
                f"schema.kinds.{name}=number, code or text"
            )


def ranges_of(schema: RecordSchema) -> dict[str, tuple[float, float]]:
    """Return the training ranges of numbers and dates."""
    return {field.name: span for field in schema.fields if (span := range_of(field)) is not None}


def _dated(side: Expression, other: Expression, fields: Mapping[str, Field], reader: Reader) -> Expression:
    """Turn a date in quotes into days, where it is compared with dates."""
    dates = [fields[name] for name in columns_of(other) if isinstance(fields[name], DatetimeField)]
    if not isinstance(side, Constant) or not isinstance(side.value, str) or not dates:
        return side
    days = number_of(dates[0], side.value)
    if days is None:
        try:
            moment = datetime.fromisoformat(side.value)
        except ValueError:
            example = dates[0].minimum if isinstance(dates[0], DatetimeField) else ""
            raise reader.error(
                f"{side.value!r} is no date that can be read; write it like {example!r} or 2020-01-31"
            ) from None
        days = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() / 86_400.0
    return Constant(float(days), is_date=True)


def _kind(node: Expression, fields: Mapping[str, Field], reader: Reader) -> Kind:
    match node:
        case Column(name):
            return kind_of(fields[name])
        case Constant(value, is_date):
            return "text" if isinstance(value, str) else "date" if is_date else "number"
        case Binary(sign, left, right):
            kinds = _kind(left, fields, reader), _kind(right, fields, reader)
            match kinds:
                case ("number", "number"):
                    return "number"
                case ("date", "date") if sign == "-":
                    return "number"
                case ("date", "number") if sign in "+-":
                    return "date"
                case ("number", "date") if sign == "+":
                    return "date"
    raise reader.error(f"{shown(node)}: a {kinds[0]} and a {kinds[1]} have no {sign!r}")
