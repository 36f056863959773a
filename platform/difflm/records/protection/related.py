"""Relations between protected columns: entries of tables that few rows have are left out, and rows that break one.

What is said of protected data quotes no value of a row: quoted texts are kept only where they are known to be public.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from difflm.records.protection.columns import BoolArray
from difflm.records.relations.categories import broken_by, row_combinations
from difflm.records.relations.model import Combinations, Lookup, Relation, Relations, Rule
from difflm.records.relations.rules import compile_rule
from difflm.records.relations.values import TableValues
from difflm.records.schema import (
    BooleanField,
    CategoricalField,
    ConstantField,
    DatetimeField,
    DecimalField,
    IntegerField,
    RecordSchema,
)

MOST_BREAKING: Final = 0.02
"""Training rows that may be left out for the sake of a relation that was found."""
_QUOTED = re.compile(r"(?<![\w=])(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")(?!\w)")
_HIDDEN: Final = "…"
_SETTINGS: Final = ("data.", "schema.", "protect.", "relations")


def common_relations(relations: Relations, train: pa.Table, schema: RecordSchema, least: int) -> Relations:
    """Keep of tables of values the entries that at least `least` of the rows have; what is left without any is dropped.

    A found list of combinations is dropped as a whole where more than `MOST_BREAKING` of the rows have a rare one.
    """
    values = TableValues(train, schema)
    kept: list[Relation] = []
    for relation in relations.kept:
        if isinstance(relation, Rule):
            kept.append(relation)
            continue
        columns = (*relation.sources, relation.column) if isinstance(relation, Lookup) else relation.columns
        place_N, keys = row_combinations(values, columns)
        rows = dict(zip(keys, np.bincount(place_N, minlength=len(keys)).tolist(), strict=True))
        entries = tuple(row for row in relation.rows if rows.get(row, 0) >= least)
        lost = sum(rows.get(row, 0) for row in relation.rows if rows.get(row, 0) < least)
        spoilt = isinstance(relation, Combinations) and lost > MOST_BREAKING * len(values)
        if entries and not (spoilt and relation.origin == "found"):
            kept.append(relation.model_copy(update={"rows": entries}))
    return Relations(kept=tuple(kept))


def breaking_rows(relations: Relations, table: pa.Table, schema: RecordSchema) -> BoolArray:
    """Mark, (N,), the rows that break a relation."""
    values = TableValues(table, schema)
    broken_N: BoolArray = np.zeros(len(values), dtype=np.bool_)
    for relation in relations.kept:
        broken_N |= (
            compile_rule(relation, schema).broken(values) if isinstance(relation, Rule) else broken_by(relation, values)
        )
    return broken_N


def public_words(schema: RecordSchema) -> Iterator[str]:
    """Yield what a protected schema says anyway: names and values of columns."""
    for field in schema.fields:
        yield field.name
        match field:
            case CategoricalField(values=values):
                yield from values
            case BooleanField(true_text=true, false_text=false):
                yield from (true, false)
            case IntegerField() | DecimalField() | DatetimeField():
                yield from (*field.words, *map(str, field.points), str(field.minimum), str(field.maximum))
            case ConstantField(value=value):
                yield str(value)
            case _:
                pass


def without_quotes(message: str, known: Iterable[str]) -> str:
    """Return a message whose quoted texts are hidden, but for known ones, single characters and formats of dates."""
    public: Collection[str] = known if isinstance(known, set) else frozenset(known)  # there may be a million

    def shown(found: re.Match[str]) -> str:
        quote, inside = found[0][0], found[0][1:-1]
        said = len(inside) <= 1 or "%" in inside or inside in public or inside.startswith(_SETTINGS)
        return found[0] if said else f"{quote}{_HIDDEN}{quote}"

    return _QUOTED.sub(shown, message)
