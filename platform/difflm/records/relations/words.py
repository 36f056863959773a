"""Relations in words, for reports, terminals and error messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from difflm.records.relations.expressions import quoted
from difflm.records.relations.model import Combinations, Lookup, Relation, Relations, Rule
from difflm.records.relations.rules import compile_rule
from difflm.records.schema import ConstantField, RecordSchema


def name_of(relation: Relation) -> str:
    """Return a relation as a constraint is written."""
    match relation:
        case Rule(text=text):
            return text
        case Lookup(column=column, sources=sources):
            return f"determines({', '.join(map(quoted, (*sources, column)))})"
        case Combinations(columns=columns):
            return f"fixed({', '.join(map(quoted, columns))})"


def columns_in(relation: Relation, schema: RecordSchema) -> tuple[str, ...]:
    """Return the columns that a relation is about."""
    match relation:
        case Rule():
            return compile_rule(relation, schema).columns
        case Lookup(column=column, sources=sources):
            return (*sources, column)
        case Combinations(columns=columns):
            return columns


def describe(relations: Relations | Sequence[Relation], schema: RecordSchema | None = None) -> list[str]:
    """Say each relation in a sentence; with a schema also which columns are constant."""
    kept = relations.kept if isinstance(relations, Relations) else relations
    constants = [field for field in schema.fields if isinstance(field, ConstantField)] if schema is not None else []
    return [*(f"{field.name} is always {field.value!r}" for field in constants), *map(_sentence, kept)]


def _sentence(relation: Relation) -> str:
    asked = " (as asked)" if relation.origin == "asked" else ""
    match relation:
        case Rule(text=text):
            return f"{text}{asked}"
        case Lookup(column=column, sources=sources, rows=rows):
            return f"{column} follows from {_joined(sources)} ({len(rows):,} {_values(len(rows))}){asked}"
        case Combinations(columns=columns, rows=rows):
            return f"{_joined(columns)} come in {len(rows):,} combinations only{asked}"


def _values(count: int) -> str:
    return "value" if count == 1 else "values"


def _joined(names: Sequence[Any]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else str(names[0])
