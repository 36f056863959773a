"""Constraints: relations that somebody asks for, read, compared with the rows, and refused where no row can have them.

`start <= end`, `total == n * unit`, `fixed(country, city)`, `determines(city, state)`; `keep:` in front keeps one that
training rows break.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from difflm.errors import ConfigError, DataError
from difflm.records.relations.categories import learn_combinations, learn_lookup
from difflm.records.relations.expressions import Column, Reader, interval, quoted
from difflm.records.relations.model import Relation, Rule
from difflm.records.relations.rules import (
    Comparison,
    CompiledRule,
    Learned,
    compiled,
    ranges_of,
    read_constraint,
    refuse_names,
)
from difflm.records.relations.values import TableValues
from difflm.records.schema import RecordSchema

ANYWAY: Final = "keep:"
_ROUNDS: Final = 10


def check_constraints(texts: Sequence[str]) -> None:
    """Read constraints before any table is known.

    Raises:
        ConfigError: one cannot be read, or two say what no row can satisfy, such as `a < b` and `b < a`.
    """
    read = [each for text in texts for each in read_constraint(stated(text))]
    _refuse_circles([(each.operator, each.left, each.right) for each in read if isinstance(each, Comparison)])


def stated(text: str) -> str:
    """Return a constraint without `keep:`."""
    return text.strip().removeprefix(ANYWAY).strip()


def asked_rules(texts: Sequence[str], schema: RecordSchema, *, beside: Iterable[Relation] = ()) -> tuple[Rule, ...]:
    """Read the constraints of a finished bundle, whose training rows are gone; `beside` are kept as well.

    Raises:
        ConfigError: one cannot be read, names no column, compares what cannot be compared, is to be learned from
            training rows, or no row within the ranges of training satisfies all.
    """
    rules: list[CompiledRule] = []
    for text in texts:
        for each in read_constraint(stated(text), schema.names):
            if isinstance(each, Learned):
                raise ConfigError(
                    f"constraint {text!r}: {each.function} is learned from training rows; give it to run or fit"
                )
            rules.append(_rule(each, schema))
    if rules:
        found = (read for rule in beside if isinstance(rule, Rule) for read in read_constraint(rule.text, schema.names))
        known = [_rule(each, schema) for each in found if isinstance(each, Comparison)]
        refuse_impossible([*known, *rules], schema)
    return tuple(rule.rule for rule in rules)


def asked_relations(
    texts: Sequence[str], *, table: TableValues, train: TableValues, source: str
) -> tuple[Relation, ...]:
    """Read constraints and compare them with all rows of `table`; what is learned is learned from `train` alone.

    Raises:
        ConfigError: as of `asked_rules`.
        DataError: rows break one that is not to be kept anyway; says how many, and the first of them in `source`.
    """
    schema = table.schema
    found: list[Relation] = []
    rules: list[CompiledRule] = []
    for text in texts:
        anyway = text.strip().startswith(ANYWAY)
        for each in read_constraint(stated(text), schema.names):
            if isinstance(each, Comparison):
                rule = _rule(each, schema)
                rules.append(rule)
                found.append(rule.rule)
                broken_N, where, columns = rule.broken(table), source, rule.columns
            else:
                fields = {field.name: field for field in schema.fields}
                refuse_names(each.columns, fields, Reader(stated(text), schema.names))
                relation, broken_N = _learned(each, train)
                found.append(relation)
                where, columns = f"{source}, training split", each.columns
            if broken_N.any() and not anyway:
                raise _broken(str(each), broken_N, table if isinstance(each, Comparison) else train, columns, where)
    refuse_impossible(rules, schema)
    return tuple(found)


def _rule(comparison: Comparison, schema: RecordSchema) -> CompiledRule:
    return compiled(comparison, Rule(text=str(comparison), origin="asked"), schema)


def _learned(asked: Learned, train: TableValues) -> tuple[Relation, npt.NDArray[np.bool_]]:
    if asked.function == "fixed":
        combinations = learn_combinations(train, asked.columns)
        return combinations.model_copy(update={"origin": "asked"}), np.zeros(len(train), np.bool_)
    lookup, clashing_N = learn_lookup(train, asked.columns[:-1], asked.columns[-1])
    return lookup.model_copy(update={"origin": "asked"}), clashing_N


def _broken(
    text: str, broken_N: npt.NDArray[np.bool_], table: TableValues, columns: Sequence[str], where: str
) -> DataError:
    row = int(broken_N.argmax())
    cells = ", ".join(f"{name} {str(table.column(name)[row].as_py())[:40]!r}" for name in columns)
    return DataError(
        f"{where}: constraint {text!r}: {int(broken_N.sum()):,} of {len(table):,} rows break it, the first is row "
        f"{row} ({cells}); mend the rows, drop the constraint, or write "
        f"'{ANYWAY} {text}' to have it in synthetic rows anyway"
    )


def refuse_impossible(rules: Sequence[CompiledRule], schema: RecordSchema) -> None:
    """Refuse rules that no row within the ranges of training satisfies together, as far as bounds tell.

    Raises:
        ConfigError: there is no such row; names the rules.
    """
    _refuse_circles([(rule.operator, rule.left, rule.right) for rule in rules])
    ranges = ranges_of(schema)
    nullable = {field.name for field in schema.fields if field.nullable}
    sure = [rule for rule in rules if rule.kind != "text" and not nullable.intersection(rule.columns)]
    for _ in range(_ROUNDS):
        before = dict(ranges)
        for rule in sure:
            if not rule.possible(ranges):
                shown = ", ".join(f"{name} {_span(ranges, name)}" for name in rule.columns if name in ranges)
                others = ", ".join(repr(each.rule.text) for each in rules if each is not rule)
                beside = f" beside {others}" if others else ""
                raise ConfigError(
                    f"constraint {rule.rule.text!r}: no row can satisfy it{beside}: of the ranges of training there "
                    f"remains {shown}; drop or change one"
                )
            _tighten(rule, ranges)
        if ranges == before:
            return


def _span(ranges: Mapping[str, tuple[float, float]], name: str) -> str:
    low, high = ranges[name]
    return f"{low:g} to {high:g}"


def _tighten(rule: CompiledRule, ranges: dict[str, tuple[float, float]]) -> None:
    """Narrow the ranges of lone columns of an order or equation by the other side."""
    sides = ((rule.left, rule.right), (rule.right, rule.left))
    for place, (side, other) in enumerate(sides):
        if not isinstance(side, Column) or side.name not in ranges or rule.operator == "!=":
            continue
        (low, high), (first, last) = ranges[side.name], interval(other, ranges)
        if rule.operator == "==":
            first, last = first - rule.tolerance, last + rule.tolerance
        elif place == 0:
            first = low
        else:
            last = high
        if max(low, first) <= min(high, last):
            ranges[side.name] = max(low, first), min(high, last)


def _refuse_circles(rules: Sequence[tuple[str, object, object]]) -> None:
    """Refuse orders of columns that lead round in a circle in which one is strict."""
    above: dict[str, dict[str, bool]] = {}
    for operator, left, right in rules:
        if isinstance(left, Column) and isinstance(right, Column) and operator in ("<", "<=", "=="):
            pairs = [(left.name, right.name)] + ([(right.name, left.name)] if operator == "==" else [])
            for one, other in pairs:
                strict = operator == "<" or above.get(one, {}).get(other, False)
                above.setdefault(one, {})[other] = strict
    for one, others in above.items():
        for other, strict in others.items():
            if strict and (way := _way(other, one, above)) is not None:
                chain = " <= ".join(quoted(name) for name in way)
                raise ConfigError(
                    f"constraints: {quoted(one)} < {quoted(other)} and {chain} cannot both hold in any row; drop one"
                )


def _way(start: str, goal: str, above: Mapping[str, Mapping[str, bool]]) -> list[str] | None:
    """Find a chain of columns from one to another."""
    before: dict[str, str | None] = {start: None}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name == goal:
            way = [name]
            while (step := before[way[-1]]) is not None:
                way.append(step)
            return way[::-1]
        for following in above.get(name, {}):
            if following not in before:
                before[following] = name
                waiting.append(following)
    return None
