"""Given cells and conditions: what follows from them by relations, and which given rows break a relation themselves."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from difflm.errors import ConfigError
from difflm.records.kinds.codes import Allowed, IntervalSet, Restriction, ordered_codes, value_code, whole_domain
from difflm.records.kinds.columns import arrow_type
from difflm.records.notices import Notice
from difflm.records.relations.categories import broken_by
from difflm.records.relations.expressions import Column, interval
from difflm.records.relations.keeping import Keeper
from difflm.records.relations.model import Cell, Lookup, Relations, Rule
from difflm.records.relations.rules import CompiledRule, compile_rule, ranges_of
from difflm.records.relations.values import TableValues
from difflm.records.relations.words import name_of
from difflm.records.schema import BooleanField, DatetimeField, DecimalField, Field, IntegerField, Record, RecordSchema

_DAY_US: Final = 86_400_000_000
_ROUNDS: Final = 10


def broken_given(table: pa.Table, schema: RecordSchema, *, name: str) -> list[Notice]:
    """Say which relations given rows break by themselves: their cells stay, so these rows cannot keep them.

    `table` is in canonical types; rows of which a cell is missing are not counted.
    """
    values, notices = TableValues(table, schema), list[Notice]()
    for relation in schema.relations.kept:
        if isinstance(relation, Rule):
            rule = compile_rule(relation.model_copy(update={"missing_together": False}), schema)
            broken_N, columns = rule.broken(values), rule.columns
        else:
            broken_N = broken_by(relation, values)
            columns = (*relation.sources, relation.column) if isinstance(relation, Lookup) else relation.columns
            for column in columns:
                broken_N = broken_N & ~values.missing(column)
        if count := int(broken_N.sum()):
            message = (
                f"{name}: {name_of(relation)} does not hold among the given cells of {count:,} rows, the first is row "
                f"{int(broken_N.argmax())}; they are left as they are"
            )
            notices.append(Notice(column=columns[-1], code="relation", count=count, message=message))
    return notices


def completed(table: pa.Table, schema: RecordSchema, wanted: Collection[str]) -> pa.Table:
    """Fill in the missing cells of `wanted` columns that follow from the given ones of their row.

    `table` is in canonical types, as is what comes back.
    """
    keeper = Keeper(schema, schema.relations)
    if not keeper:
        return table
    gaps_N = pa.array([False] * len(table))
    for column in wanted:
        gaps_N = pc.or_(gaps_N, pc.is_null(table.column(column)).combine_chunks())
    values = TableValues(table, schema)
    lists = {each.name: values.canonical(each.name) for each in schema.fields}
    changed = set[str]()
    for row in pc.indices_nonzero(gaps_N).to_pylist():
        record: Record = {column: cells[row] for column, cells in lists.items()}
        for column, value in keeper.deduced(record, wanted).items():
            lists[column][row] = value
            changed.add(column)
    for column in changed:
        field = schema.field(column)
        cells = [_stored(field, value) for value in lists[column]]
        place = schema.names.index(column)
        table = table.set_column(place, column, pa.array(cells, arrow_type(field)))
    return table


def _stored(field: Field, value: Cell) -> Cell:
    """Return a value as tables store it."""
    if isinstance(field, BooleanField) and field.stored == "text" and value is not None:
        return field.true_text if value else field.false_text
    return value


def implied(allowed: Restriction, schema: RecordSchema, relations: Relations) -> Restriction:
    """Return what a condition leaves of each column once relations carry it on to the columns beside.

    A condition on a state leaves the cities in it, one on an end the starts before it: what is drawn under the narrower
    condition is rejected less often. Columns that are not restricted by it stay free.

    Raises:
        ConfigError: nothing is left of a column; names it and the relation.
    """
    if not allowed or not relations:
        return allowed
    narrowed = dict(allowed)
    rules = {r.text: compile_rule(r, schema) for r in relations.kept if isinstance(r, Rule)}
    ranges = ranges_of(schema)
    for _ in range(_ROUNDS):
        before = dict(narrowed)
        for relation in relations.kept:
            if isinstance(relation, Rule):
                rule = rules[relation.text]
                changes: Mapping[str, Allowed] = {
                    **_by_bounds(rule, narrowed, schema, ranges),
                    **_by_rule(rule, narrowed, schema),
                }
            elif isinstance(relation, Lookup) and len(relation.sources) == 1:
                changes = _by_lookup(relation, narrowed, schema)
            else:
                continue
            for column, left in changes.items():
                narrowed[column] = narrowed.get(column, whole_domain(schema.field(column))) & left
                if not narrowed[column]:
                    raise ConfigError(
                        f"it leaves no value of {column!r}, as {name_of(relation)} holds in every row; change it"
                    )
        if narrowed == before:
            break
    return narrowed


def _by_lookup(lookup: Lookup, allowed: Restriction, schema: RecordSchema) -> Mapping[str, Allowed]:
    source, target = schema.field(lookup.sources[0]), schema.field(lookup.column)
    if source.name not in allowed and target.name not in allowed:
        return {}
    pairs = [(value_code(source, row[0]), value_code(target, row[-1])) for row in lookup.rows]
    left = [
        (key, value)
        for key, value in pairs
        if _has(allowed.get(source.name), key) and _has(allowed.get(target.name), value)
    ]
    return {source.name: _points(key for key, _ in left), target.name: _points(value for _, value in left)}


def _points(codes: object) -> Allowed:
    found = list(codes)  # type: ignore[call-overload]
    present = [code for code in found if code is not None]
    return Allowed(codes=IntervalSet.points(present), null=None in found)


def _has(allowed: Allowed | None, code: int | None) -> bool:
    return allowed is None or (allowed.null if code is None else code in allowed.codes)


def _by_rule(rule: CompiledRule, allowed: Restriction, schema: RecordSchema) -> Mapping[str, Allowed]:
    """Carry bounds from one lone column to another over `<`, `<=` or `==`."""
    if not (isinstance(rule.left, Column) and isinstance(rule.right, Column)) or rule.operator == "!=":
        return {}
    left, right = schema.field(rule.left.name), schema.field(rule.right.name)
    changes: dict[str, Allowed] = {}
    for field, other, upward in ((left, right, False), (right, left, True)):
        bound = allowed.get(other.name)
        if bound is None or bound.null or not bound.codes or _unit(field) is None or _unit(other) is None:
            continue
        low, high = bound.codes.spans[0][0], bound.codes.spans[-1][1]
        unit, own = _unit(other), _unit(field)
        assert unit is not None
        assert own is not None
        least = math.ceil(low * unit / own - 1e-6)
        most = math.floor(high * unit / own + 1e-6)
        whole = whole_domain(field)
        first, last = whole.codes.spans[0][0], whole.codes.spans[-1][1]
        span = (least, most) if rule.operator == "==" else (least, last) if upward else (first, most)
        changes[field.name] = Allowed(codes=IntervalSet.of([span]) & whole.codes, null=whole.null)
    return changes


def _by_bounds(
    rule: CompiledRule, allowed: Restriction, schema: RecordSchema, ranges: Mapping[str, tuple[float, float]]
) -> Mapping[str, Allowed]:
    """Bound a lone column that is restricted by what the other side of a rule can be; words beside numbers stay."""
    changes: dict[str, Allowed] = {}
    for side, other, upward in ((rule.left, rule.right, False), (rule.right, rule.left, True)):
        if not isinstance(side, Column) or side.name not in allowed or rule.operator == "!=" or rule.kind == "text":
            continue
        field = schema.field(side.name)
        if (unit := _unit(field)) is None or not isinstance(field, IntegerField | DecimalField | DatetimeField):
            continue
        (low, high), numbers, whole = interval(other, ranges), ordered_codes(field), whole_domain(field)
        equal, slack = rule.operator == "==", rule.tolerance + 1e-6 * unit
        least, most = numbers.spans[0][0], numbers.spans[-1][1]
        if (equal or upward) and math.isfinite(low):
            least = max(least, math.ceil((low - slack) / unit))
        if (equal or not upward) and math.isfinite(high):
            most = min(most, math.floor((high + slack) / unit))
        left = IntervalSet.of([(least, most)] if least <= most else []) & numbers
        changes[side.name] = Allowed(codes=left | (whole.codes - numbers), null=whole.null)
    return changes


def _unit(field: Field) -> float | None:
    """Return what one code of a column is worth; None where its codes are no numbers."""
    match field:
        case IntegerField():
            return 1.0
        case DecimalField(decimals=decimals, exponent=exponent):
            return 10.0 ** (exponent - decimals)
        case DatetimeField():
            return 1.0 / _DAY_US
        case _:
            return None
