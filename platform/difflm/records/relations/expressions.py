"""Expressions over columns: what constraints are written in, read by Python's own parser and never evaluated by it.

Numbers are numbers, dates are days since 1970 with their fraction, so the difference of two dates is a number of days
and a date plus a number is a date. The same tree is evaluated on single values and on whole columns.
"""

from __future__ import annotations

import ast
import difflib
import keyword
import math
import re
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from difflm.errors import ConfigError

EXAMPLE: Final = "write it like 'start <= end' or 'total == n * unit'"
UNREADABLE: Final = (SyntaxError, ValueError, RecursionError, MemoryError, SystemError)
_PARSING: Final = threading.Lock()
Sign: TypeAlias = Literal["+", "-", "*", "/"]
_SIGNS: Mapping[type[ast.operator], Sign] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_BINDS: Mapping[str, int] = {"+": 1, "-": 1, "*": 2, "/": 2}


@dataclass(frozen=True, slots=True)
class Column:
    """The value of a column."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """A number or a text as it was written; a date, in days, where it was compared with one."""

    value: float | str
    is_date: bool = False


@dataclass(frozen=True, slots=True)
class Binary:
    """Two expressions and the sign between them."""

    sign: Sign
    left: Expression
    right: Expression


Expression: TypeAlias = Column | Constant | Binary
Interval: TypeAlias = tuple[float, float]
DEEPEST: Final = 100
"""Of operations one inside another: a sum of so many columns is deeper than anybody's."""
LARGEST: Final = 1.7e308
"""Of a number in an expression: one beyond is no double."""
_ANY: Final[Interval] = (-math.inf, math.inf)


def columns_of(node: Expression) -> tuple[str, ...]:
    """Return the names of its columns, each once, in the order in which they stand."""
    match node:
        case Column(name):
            return (name,)
        case Constant():
            return ()
        case Binary(_, left, right):
            return tuple(dict.fromkeys((*columns_of(left), *columns_of(right))))


def evaluate(node: Expression, values: Mapping[str, Any]) -> Any:
    """Evaluate on numbers or arrays of them. ZeroDivisionError for single numbers, infinities in arrays."""
    match node:
        case Column(name):
            return values[name]
        case Constant(value):
            return value
        case Binary("+", left, right):
            return evaluate(left, values) + evaluate(right, values)
        case Binary("-", left, right):
            return evaluate(left, values) - evaluate(right, values)
        case Binary("*", left, right):
            return evaluate(left, values) * evaluate(right, values)
        case Binary(_, left, right):
            return evaluate(left, values) / evaluate(right, values)


def interval(node: Expression, of: Mapping[str, Interval]) -> Interval:
    """Bound an expression by the ranges of its columns; columns without one may be anything."""
    match node:
        case Column(name):
            return of.get(name, _ANY)
        case Constant(value):
            return _ANY if isinstance(value, str) else (value, value)
        case Binary(sign, left, right):
            (low, high), (first, last) = interval(left, of), interval(right, of)
            if sign == "+":
                return low + first, high + last
            if sign == "-":
                return low - last, high - first
            if sign == "/" and first <= 0.0 <= last:
                return _ANY
            if math.inf in map(abs, (low, high, first, last)):
                return _ANY
            ends = [a * b if sign == "*" else a / b for a in (low, high) for b in (first, last)]
            return min(ends), max(ends)


def solved(node: Expression, name: str, value: Expression) -> tuple[Expression, bool] | None:
    """Solve `node == value` for a column that stands in it once; with it whether only sums had to be undone.

    None where it cannot be solved.
    """
    match node:
        case Column():
            return (value, True) if node.name == name else None
        case Constant():
            return None
        case Binary(sign, left, right):
            in_left, in_right = name in columns_of(left), name in columns_of(right)
            if in_left == in_right:
                return None
            if in_left:
                undone: Mapping[Sign, Sign] = {"+": "-", "-": "+", "*": "/", "/": "*"}
                found = solved(left, name, Binary(undone[sign], value, right))
            elif sign in ("+", "*"):
                found = solved(right, name, Binary("-" if sign == "+" else "/", value, left))
            else:
                found = solved(right, name, Binary(sign, left, value))
            exact = sign in ("+", "-")
            return None if found is None else (found[0], found[1] and exact)


def shown(node: Expression, *, inside: int = 0) -> str:
    """Write an expression as it is read, with no more parentheses than it needs."""
    match node:
        case Column(name):
            return quoted(name)
        case Constant(value):
            return repr(value) if isinstance(value, str) else f"{value:.15g}"
        case Binary(sign, left, right):
            strength = _BINDS[sign]
            text = f"{shown(left, inside=strength)} {sign} {shown(right, inside=strength + (sign in '-/'))}"
            return f"({text})" if strength < inside else text


def quoted(name: str) -> str:
    """Write a column's name as expressions have it: in backticks where it is no plain word."""
    plain = name.isidentifier() and name.isascii() and not keyword.iskeyword(name)
    return name if plain and name not in ("null", "true", "false") else f"`{name}`"


def parsed(source: str) -> ast.expr:
    """Return Python's tree of an expression, or raise one of UNREADABLE.

    One at a time: CPython 3.11 counts the depth of all threads together, and fails where two of them parse.
    """
    with _PARSING, warnings.catch_warnings():  # warnings are about escapes in the user's texts
        warnings.simplefilter("ignore")
        return ast.parse(source, mode="eval").body


class Reader:
    """A constraint's text, on its way through Python's own parser; `names` are the columns, None where unknown yet."""

    def __init__(self, text: str, names: Sequence[str] | None) -> None:
        self.text, self.names = text, names
        self._quoted: dict[str, str] = {}
        self._source = unquoted(text, self._quoted).strip()

    def tree(self) -> ast.expr:
        """Return Python's tree of it. Raises ConfigError where there is none."""
        try:
            return parsed(self._source)
        except UNREADABLE:
            raise self.error(
                f"cannot be read; {EXAMPLE} (a column name that is no plain word goes in backticks, text in quotes)"
            ) from None

    def expression(self, node: ast.expr, depth: int = 0) -> Expression:
        """Read one side of a comparison. Raises ConfigError naming what is no part of an expression."""
        if depth > DEEPEST:  # whoever walks over the tree calls itself so often
            raise self.error(
                f"has more than {DEEPEST} operations one inside another; make it shorter, or several of it"
            )
        match node:
            case ast.Constant(value=bool()):
                pass
            case ast.Constant(value=int() | float() as number) if -LARGEST <= number <= LARGEST:
                return Constant(float(number))
            case ast.Constant(value=str() as text):
                return Constant(text)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)) if (
                -LARGEST <= number <= LARGEST
            ):
                return Constant(-float(number))
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _SIGNS:
                sign, first = _SIGNS[type(operator)], self.expression(left, depth + 1)
                second = self.expression(right, depth + 1)
                if sign == "/" and second == Constant(0.0):
                    raise self.error("divides by 0, which no row can; give another number")
                return Binary(sign, first, second)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return Binary("-", Constant(0.0), self.expression(operand, depth + 1))
            case ast.Name() | ast.Attribute():  # the latter such as default.payment
                return Column(self.column(node))
            case _:
                pass
        raise self.error(f"{self._written(node)!r} is none of columns, numbers, quoted text and + - * /; {EXAMPLE}")

    def column(self, node: ast.expr) -> str:
        """Return the column that a word names. Raises ConfigError naming the existing ones."""
        name = self._written(node)
        if self.names is None or name in self.names:
            return name
        close = difflib.get_close_matches(name, self.names, n=1, cutoff=0.5)
        remedy = f"did you mean {close[0]!r}?" if close else f"columns are {', '.join(map(repr, self.names))}"
        raise self.error(f"there is no column {name!r}; {remedy}")

    def error(self, message: str) -> ConfigError:
        """Return an error about the constraint."""
        return ConfigError(f"constraint {self.text!r}: {message}")

    def _written(self, node: ast.expr) -> str:
        written = ast.get_source_segment(self._source, node) or "it"
        return self._quoted.get(written, written)


def unquoted(text: str, names: dict[str, str]) -> str:
    """Replace names in backticks by words that Python can read, which `names` gets; text in quotes stays."""

    def word(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        made = f"_column_{len(names)}_"
        names[made] = match[1]
        return made

    return re.sub(r"`([^`]*)`|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'", word, text)
