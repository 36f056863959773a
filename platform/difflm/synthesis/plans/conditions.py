"""Conditions: a small expression over columns becomes the set of values that each column may take.

`age >= 40 and age < 60 and workclass in ["Private", "State-gov"] and income == ">50K"`

Comparisons (`==  !=  <  <=  >  >=`, chains of them), `in` and `not in` a list, `is null` and `is not null`, a boolean
column on its own, joined by `and`, `or`, `not` and parentheses. An `or` joins tests of one column only: what remains is
one set per column, which is what grammar and latents can be restricted to. A missing value passes no comparison, also
no negated one. A column name that is no plain word goes in backticks.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from difflm.errors import ConfigError
from difflm.records.kinds.codes import Allowed, IntervalSet, column_codes, whole_domain
from difflm.records.relations.expressions import UNREADABLE, parsed
from difflm.records.schema import BooleanField, DatetimeField, Field, RecordSchema
from difflm.synthesis.grammar.dates import any_date
from difflm.synthesis.plans.condition_values import Literal, codes_where, known_values

_OPERATORS: Mapping[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_FLIPPED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_WORDS: Mapping[str, Literal] = {"null": None, "true": True, "false": False}
_EXAMPLE = """write it like age >= 40 and workclass in ["Private", "State-gov"]"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A condition as it was written, and what it leaves of each column that it restricts (a `Restriction`)."""

    text: str
    allowed: Mapping[str, Allowed]

    def rows(self, table: pa.Table, schema: RecordSchema) -> npt.NDArray[np.bool_]:
        """Which rows of a normalised table satisfy it."""
        satisfied = np.ones(len(table), dtype=np.bool_)
        for place, field in enumerate(schema.fields):
            if (allowed := self.allowed.get(field.name)) is not None:
                codes = column_codes(field, table.column(place))
                satisfied &= [allowed.null if code is None else code in allowed.codes for code in codes]
        return satisfied


def parse_condition(text: str, schema: RecordSchema) -> Condition:
    """Parse the condition that `text` states. Raises ConfigError naming the text, the column and the remedy."""
    return _Parser(text, schema).parse()


@dataclass(frozen=True, slots=True)
class _Test:
    """For which values of a column a test is true and for which it is false; a missing value may be neither."""

    field: Field
    true: Allowed
    false: Allowed

    def negated(self) -> _Test:
        return _Test(self.field, self.false, self.true)


class _Parser:
    """One condition's text, on its way through Python's own parser; nothing of it is ever evaluated."""

    def __init__(self, text: str, schema: RecordSchema) -> None:
        self.text, self.schema = text, schema
        self.fields = {field.name: field for field in schema.fields}
        self.quoted: dict[str, str] = {}

    def parse(self) -> Condition:
        self.source = re.sub(r"`([^`]*)`|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'", self._unquoted, self.text).strip()
        self.line = self.source.encode(errors="surrogatepass") if len(self.source.splitlines()) == 1 else None
        allowed: dict[str, Allowed] = {}
        try:
            for part in self._conjuncts(parsed(self.source)):
                test = self._test(part)
                before = allowed.get(test.field.name, whole_domain(test.field))
                allowed[test.field.name] = before & test.true
        except UNREADABLE:
            hint = "a column name that is no plain word goes in backticks, text in quotes"
            raise self._error(f"cannot be read; {_EXAMPLE} ({hint})") from None
        for name, left in allowed.items():
            field = self.fields[name]
            unwritten = isinstance(field, DatetimeField) and not left.null and not any_date(field, left.codes)
            if not left or unwritten:
                raise self._error(f"no value of {name!r} satisfies it; {known_values(field)}")
        kept = {name: left for name, left in allowed.items() if left != whole_domain(self.fields[name])}
        return Condition(text=self.text, allowed=kept)

    def _unquoted(self, match: re.Match[str]) -> str:
        """Replace a name in backticks by a word that Python can read; text in quotes stays."""
        if match[1] is None:
            return match[0]
        word = f"_column_{len(self.quoted)}_"
        self.quoted[word] = match[1]
        return word

    def _conjuncts(self, node: ast.expr) -> list[ast.expr]:
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
            return [part for value in node.values for part in self._conjuncts(value)]
        return [node]

    def _test(self, node: ast.expr) -> _Test:
        match node:
            case ast.BoolOp(op=operator, values=values):
                return self._joined([self._test(value) for value in values], isinstance(operator, ast.And))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self._test(operand).negated()
            case ast.Compare(left=left, ops=operators, comparators=others):
                sides = [left, *others]
                pairs = zip(sides, operators, others, strict=False)
                return self._joined([self._comparison(*pair) for pair in pairs], True)
            case _:
                field = self._column(node)
                if isinstance(field, BooleanField):
                    return self._where(field, "==", True)
                raise self._error(f"{self._shown(node)} is not a test; {_EXAMPLE}")

    def _joined(self, tests: list[_Test], conjunction: bool) -> _Test:
        first = tests[0]
        for test in tests[1:]:
            if test.field.name != first.field.name:
                raise self._error(
                    f"{first.field.name!r} and {test.field.name!r} are joined by 'or' or inside 'not'; "
                    "different columns can only be joined by 'and': make one data set for each alternative"
                )
            true, false = (first.true & test.true, first.false | test.false) if conjunction else (
                first.true | test.true,
                first.false & test.false,
            )  # fmt: skip
            first = _Test(first.field, true, false)
        return first

    def _comparison(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> _Test:
        field, value, flipped = self._column(left), right, False
        if field is None:
            field, value, flipped = self._column(right), left, True
        if field is None:
            raise self._unknown(left if not self._is_literal(left) else right)
        if isinstance(operator, ast.Is | ast.IsNot):
            return self._missing(field, value, isinstance(operator, ast.IsNot))
        if isinstance(operator, ast.In | ast.NotIn):
            return self._member(field, value, isinstance(operator, ast.NotIn), flipped)
        if not self._is_literal(value):
            raise self._error(f"{self._shown(value)} is no value that {field.name!r} can be compared with; {_EXAMPLE}")
        sign = _OPERATORS[type(operator)]
        return self._where(field, _FLIPPED[sign] if flipped else sign, self._literal(value))

    def _missing(self, field: Field, value: ast.expr, negated: bool) -> _Test:
        if not self._is_literal(value) or self._literal(value) is not None:
            raise self._error(f"'is' only goes with null; compare {field.name!r} with ==")
        whole = whole_domain(field)
        if not field.nullable and not negated:
            raise self._error(f"{field.name!r} was never missing in training; leave out 'is null'")
        test = _Test(field, Allowed(codes=IntervalSet(), null=field.nullable), Allowed(codes=whole.codes, null=False))
        return test.negated() if negated else test

    def _member(self, field: Field, value: ast.expr, negated: bool, flipped: bool) -> _Test:
        if flipped or not isinstance(value, ast.List | ast.Tuple | ast.Set) or not value.elts:
            raise self._error(f"'in' goes with a list, such as {field.name} in [1, 2]")
        for item in value.elts:
            if not self._is_literal(item):
                raise self._error(f"{self._shown(item)} in the list of {field.name!r} is no value; {_EXAMPLE}")
        tests = [self._where(field, "==", self._literal(item)) for item in value.elts]
        test = self._joined(tests, False)
        return test.negated() if negated else test

    def _where(self, field: Field, operator: str, value: Literal) -> _Test:
        try:
            codes = codes_where(field, operator, value)
        except ConfigError as error:
            raise self._error(str(error)) from None
        others = whole_domain(field).codes - codes
        return _Test(field, Allowed(codes=codes, null=False), Allowed(codes=others, null=False))

    def _column(self, node: ast.expr) -> Field | None:
        if isinstance(node, ast.Constant):
            return None
        written = self._written(node)
        return self.fields.get(self.quoted.get(written, written))

    def _is_literal(self, node: ast.expr) -> bool:
        match node:
            case ast.Constant(value=value):
                return value is None or isinstance(value, str | int | float)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant(value=int() | float())):
                return True
            case ast.Name(id=name):
                return name in _WORDS
            case _:
                return False

    def _literal(self, node: ast.expr) -> Literal:
        if isinstance(node, ast.Name):
            return _WORDS[node.id]
        value: Literal = ast.literal_eval(node)
        return value

    def _written(self, node: ast.expr) -> str:
        """Return the text of a node. Python's own function goes through all of the source for each."""
        if self.line is None:
            return ast.get_source_segment(self.source, node) or ""
        return self.line[node.col_offset : node.end_col_offset].decode()

    def _shown(self, node: ast.expr) -> str:
        written = self._written(node) or "it"
        return repr(self.quoted.get(written, written))

    def _unknown(self, node: ast.expr) -> ConfigError:
        name = self._shown(node)
        close = difflib.get_close_matches(name.strip("'\""), self.schema.names, n=1, cutoff=0.5)
        remedy = f"did you mean {close[0]!r}?" if close else f"columns are {', '.join(map(repr, self.schema.names))}"
        return self._error(f"there is no column {name}; {remedy}")

    def _error(self, message: str) -> ConfigError:
        return ConfigError(f"condition {self.text!r}: {message}")
