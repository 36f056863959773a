"""Keeping: a record that was drawn becomes one that satisfies all relations, or is rejected with the reason.

Columns that are exact functions of others are computed, whatever was drawn for them; what cannot be computed is
checked. Given cells are never changed: where the column that a relation states is given, another one of it is solved
for, and a relation among given cells alone is left to whoever gave them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from difflm.records.relations.expressions import Column, Expression, columns_of, evaluate, interval, solved
from difflm.records.relations.model import Combinations, Lookup, Relation, Relations, Rule
from difflm.records.relations.rules import CompiledRule, compile_rule, ranges_of
from difflm.records.relations.values import is_word, number_of, value_of
from difflm.records.relations.words import name_of
from difflm.records.schema import DatetimeField, Record, RecordSchema, Value

RELATION: Final = "relation"
"""Why a record is rejected that breaks a relation."""


@dataclass(frozen=True, slots=True)
class Broken:
    """What a record breaks, in words."""

    detail: str


Compute: TypeAlias = Callable[[Mapping[str, Value]], Value | Broken]


@dataclass(frozen=True, slots=True)
class _Derivation:
    """One way to keep a relation: a column and how it is computed from others.

    `compute` heeds what was drawn, such as a missing value; `fresh` fills in a cell that is to have a value.
    """

    column: str
    inputs: tuple[str, ...]
    compute: Compute
    fresh: Compute


@dataclass(frozen=True, slots=True)
class _Program:
    """What is computed for records of which certain cells are given, in this order, and what is checked after."""

    steps: Sequence[_Derivation]
    checks: Sequence[_Kept]


class Keeper:
    """Keeps the relations of a schema."""

    def __init__(self, schema: RecordSchema, relations: Relations) -> None:
        """Compile the relations. Raises ConfigError where they are not about this schema."""
        self._kept = [_Kept.of(relation, schema) for relation in relations.kept]
        self._programs: dict[frozenset[str], _Program] = {}

    def __bool__(self) -> bool:
        return bool(self._kept)

    @property
    def derived(self) -> tuple[str, ...]:
        """The columns that are computed where no cell is given."""
        return tuple(step.column for step in self._program(frozenset()).steps)

    def keep(self, record: Record, given: frozenset[str] = frozenset()) -> Record | Broken:
        """Return the record with its computed columns, or what is broken in it; cells of `given` stay."""
        if not self._kept:
            return record
        program = self._program(given)
        kept = dict(record)
        for step in program.steps:
            value = step.compute(kept)
            if isinstance(value, Broken):
                return value
            kept[step.column] = value
        for check in program.checks:
            if (fault := check.fault(kept, given)) is not None:
                return fault
        return kept

    def deduced(self, record: Record, wanted: Collection[str]) -> Record:
        """Return the missing cells of `wanted` columns that follow from the cells that are there."""
        known, made = dict(record), Record()
        changed = True
        while changed:
            changed = False
            for each in self._kept:
                for way in each.ways:
                    open_ = known[way.column] is None and way.column in wanted
                    if not open_ or any(known[name] is None for name in way.inputs):
                        continue
                    value = way.fresh(known)
                    if value is None or isinstance(value, Broken):
                        continue
                    if each.fault({**known, way.column: value}, frozenset()) is None:
                        known[way.column] = made[way.column] = value
                        changed = True
        return made

    def _program(self, given: frozenset[str]) -> _Program:
        if given not in self._programs:
            self._programs[given] = _program(self._kept, given)
        return self._programs[given]


def _program(kept: Sequence[_Kept], given: frozenset[str]) -> _Program:
    """Choose a column for every relation, each at most once and none that it depends on itself."""
    chosen: dict[str, _Derivation] = {}
    for each in kept:
        for way in each.ways:
            free = way.column not in given and way.column not in chosen
            if free and way.column not in _ancestors(way.inputs, chosen):
                chosen[way.column] = way
                break
    steps: list[_Derivation] = []
    while len(steps) < len(chosen):
        done = {step.column for step in steps}
        for column, way in chosen.items():
            if column not in done and all(name not in chosen or name in done for name in way.inputs):
                steps.append(way)
                done.add(column)
    return _Program(steps, [each for each in kept if not given.issuperset(each.columns)])


def _ancestors(columns: Sequence[str], chosen: Mapping[str, _Derivation]) -> set[str]:
    found, waiting = set[str](), list(columns)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += chosen[name].inputs if name in chosen else ()
    return found


@dataclass(frozen=True, slots=True)
class _Kept:
    """A compiled relation: the ways to compute a column of it, best first, and how it is checked."""

    columns: tuple[str, ...]
    ways: tuple[_Derivation, ...]
    fault: Callable[[Record, frozenset[str]], Broken | None]

    @classmethod
    def of(cls, relation: Relation, schema: RecordSchema) -> _Kept:
        match relation:
            case Rule():
                rule = compile_rule(relation, schema)
                return cls(rule.columns, _rule_ways(rule, schema), _rule_check(rule))
            case Lookup(column=column, sources=sources):
                _known((*sources, column), schema)
                return cls((*sources, column), _lookup_ways(relation), _table_check(relation))
            case Combinations(columns=columns):
                _known(columns, schema)
                return cls(columns, (), _table_check(relation))


def _known(columns: Sequence[str], schema: RecordSchema) -> None:
    for name in columns:
        schema.field(name)


def _rule_ways(rule: CompiledRule, schema: RecordSchema) -> tuple[_Derivation, ...]:
    """Order the columns that an equation can be solved for.

    The first is the one whose computed value is likeliest within the range of training: of `nights == end - start` that
    is the end, as nearly every start and number of nights have one, and hardly any start and end have few nights
    between them.
    """
    if rule.operator != "==" or not isinstance(rule.left, Column):
        return ()
    ranges, places = ranges_of(schema), {name: place for place, name in enumerate(schema.names)}
    ways: list[tuple[tuple[bool, bool, float, int], _Derivation]] = []
    for name in rule.columns:
        lone = name == rule.left.name
        found = (rule.right, True) if lone else solved(rule.right, name, rule.left)
        target = rule.fields[name]
        if found is None or (isinstance(target, DatetimeField) and "%z" in target.format):
            continue
        (expression, exact), excess = found, 1.0
        if rule.kind != "text" and name in ranges:
            (low, high), (least, most) = interval(expression, ranges), ranges[name]
            excess = (high - low) / max(most - least, 1e-12)
        order = (not exact, rule.rule.missing_together and not lone, excess, -places[name])
        ways.append((order, _rule_way(rule, name, expression)))
    return tuple(way for _, way in sorted(ways, key=lambda item: item[0]))


def _rule_way(rule: CompiledRule, name: str, expression: Expression) -> _Derivation:
    inputs, target, text = columns_of(expression), rule.fields[name], rule.rule.text

    def compute(record: Mapping[str, Value]) -> Value | Broken:
        if any(record[each] is None for each in inputs):
            return None if rule.rule.missing_together and target.nullable else record[name]
        if record[name] is None and not rule.rule.missing_together:
            return None
        if any(is_word(rule.fields[each], record[each]) for each in rule.columns):
            return record[name]
        return fresh(record)

    def fresh(record: Mapping[str, Value]) -> Value | Broken:
        if any(is_word(rule.fields[each], record[each]) for each in inputs):
            return None
        values = {each: number_of(rule.fields[each], record[each]) for each in inputs}
        try:
            value = value_of(target, evaluate(expression, values))
        except (ZeroDivisionError, OverflowError):
            value = None
        if value is None:
            return Broken(f"{text}: no value that {name!r} had in training")
        return value

    return _Derivation(name, inputs, compute, fresh)


def _rule_check(rule: CompiledRule) -> Callable[[Record, frozenset[str]], Broken | None]:
    left, sources = columns_of(rule.left), columns_of(rule.right)

    def fault(record: Record, given: frozenset[str]) -> Broken | None:
        values = {name: number_of(rule.fields[name], record[name]) for name in rule.columns}
        if None not in values.values():
            return None if rule.holds(values) else Broken(f"{rule.rule.text}: {_cells(record, rule.columns)}")
        gaps = {name for name in rule.columns if record[name] is None}
        if not rule.rule.missing_together or not gaps.isdisjoint(given):
            return None
        together = (left[0] in gaps) == (not gaps.isdisjoint(sources))
        return None if together else Broken(f"{rule.rule.text}: {_cells(record, rule.columns)}")

    return fault


def _lookup_ways(lookup: Lookup) -> tuple[_Derivation, ...]:
    table = {row[:-1]: row[-1] for row in lookup.rows}

    def forward(record: Mapping[str, Value]) -> Value | Broken:
        key = tuple(record[name] for name in lookup.sources)
        if key in table:
            return table[key]
        return record[lookup.column] if None in key else Broken(_unseen(lookup, record))

    ways = [_Derivation(lookup.column, lookup.sources, forward, forward)]
    if len(lookup.sources) == 1:
        (source,) = lookup.sources
        counts = Counter(table.values())
        inverse = {value: key[0] for key, value in table.items() if counts[value] == 1}

        def backward(record: Mapping[str, Value]) -> Value | Broken:
            return inverse.get(record[lookup.column], record[source])

        ways.append(_Derivation(source, (lookup.column,), backward, backward))
    return tuple(ways)


def _table_check(relation: Lookup | Combinations) -> Callable[[Record, frozenset[str]], Broken | None]:
    rows = frozenset(relation.rows)
    columns = (*relation.sources, relation.column) if isinstance(relation, Lookup) else relation.columns
    keys = frozenset(row[:-1] for row in rows) if isinstance(relation, Lookup) else None

    def fault(record: Record, given: frozenset[str]) -> Broken | None:
        row = tuple(record[name] for name in columns)
        if row in rows or (None in row and (keys is None or row[:-1] not in keys)):
            return None
        return Broken(_unseen(relation, record))

    return fault


def _unseen(relation: Lookup | Combinations, record: Mapping[str, Value]) -> str:
    columns = (*relation.sources, relation.column) if isinstance(relation, Lookup) else relation.columns
    return f"{name_of(relation)}: {_cells(record, columns)}"


def _cells(record: Mapping[str, Value], columns: Sequence[str]) -> str:
    return ", ".join(f"{name} {str(record[name])[:40]!r}" for name in columns)
