"""Mining: the relations that hold in every training row, and in every validation row as well.

Candidates come from a sample of the training rows, are verified on all of them, and are dropped, with a notice, where
a validation row breaks them. What holds by chance, or says nothing, is left out: with the columns shuffled against each
other at least `BROKEN_ROWS` training rows have to break a relation, and at least `BROKEN_SHARE` of the rows an order,
which leaves out that ages are below salaries. Equations need `FEWEST_ROWS` rows in which none of their columns is
missing, tables five training rows per entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from difflm.records.notices import Notice
from difflm.records.relations.model import Lookup, Relation, Relations, Rule
from difflm.records.relations.rules import compile_rule
from difflm.records.relations.values import TableValues, readable
from difflm.records.relations.words import name_of
from difflm.records.schema import RecordSchema

SAMPLE_ROWS: Final = 20_000
FEWEST_ROWS: Final = 30
BROKEN_ROWS: Final = 30
BROKEN_SHARE: Final = 0.05
NAMED: Final = 10
"""Notices about relations that were dropped; of more only the number is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """What was found, and what was dropped because validation rows break it."""

    relations: Relations
    notices: tuple[Notice, ...]


@dataclass(slots=True, kw_only=True)
class Search:
    """The rows that relations are looked for in, and what has been found so far.

    `derived` are the columns that are functions of others already, which further relations need not be about.
    """

    sample: TableValues
    train: TableValues
    validation: TableValues
    found: list[Relation] = field(default_factory=list)
    derived: set[str] = field(default_factory=set)
    dropped: list[Notice] = field(default_factory=list)

    @property
    def schema(self) -> RecordSchema:
        """The schema of all of the rows."""
        return self.train.schema

    def columns(self) -> list[str]:
        """The columns that relations can be about and that are not derived yet, in their order."""
        names = [each.name for each in self.schema.fields if readable(each) and "`" not in each.name]
        return [name for name in names if name not in self.derived]

    def accept_rule(self, text: str, *, missing_together: bool = False) -> bool:
        """Verify a rule on all rows; keep it, or say why not where only validation rows break it."""
        rule = compile_rule(Rule(text=text, missing_together=missing_together), self.schema)
        if rule.broken(self.sample).any() or rule.broken(self.train).any():
            return False
        return self.accept(rule.rule, rule.broken(self.validation))

    def accept(self, relation: Relation, broken_N: npt.NDArray[np.bool_]) -> bool:
        """Keep a relation that holds in all training rows, unless validation rows break it."""
        count = int(broken_N.sum())
        if not count:
            self.found.append(relation)
            return True
        rows = len(self.train)
        message = (
            f"{name_of(relation)} holds in all {rows:,} training rows, but {count:,} of {len(self.validation):,} "
            f"validation rows break it, the first is row {int(broken_N.argmax())} of them: not kept"
        )
        column = relation.column if isinstance(relation, Lookup) else None
        self.dropped.append(Notice(column=column, code="relation", count=count, message=message))
        return False


def mine_relations(train: pa.Table, validation: pa.Table, schema: RecordSchema) -> Mined:
    """Find the relations of a table; both splits as they were read, `schema` as inferred from `train`."""
    from difflm.records.relations.categories import find_combinations, find_copies, find_lookups
    from difflm.records.relations.equations import find_equations
    from difflm.records.relations.orders import find_orders

    whole = TableValues(train, schema)
    sample = whole
    if len(whole) > SAMPLE_ROWS:
        rows_N = np.random.default_rng(0).choice(len(whole), SAMPLE_ROWS, replace=False)
        sample = whole.take(np.sort(rows_N))
    search = Search(sample=sample, train=whole, validation=TableValues(validation, schema))
    finders: Sequence[Callable[[Search], None]] = (
        find_copies,
        find_equations,
        find_lookups,
        find_combinations,
        find_orders,
    )
    if len(whole) >= FEWEST_ROWS:
        for find in finders:
            find(search)
    return Mined(relations=Relations(kept=tuple(_unspoilt(search.found))), notices=tuple(_named(search.dropped)))


def _unspoilt(found: Iterable[Relation]) -> Iterator[Relation]:
    """Yield the relations, each once."""
    seen = set[str]()
    for relation in found:
        if (name := name_of(relation)) not in seen:
            seen.add(name)
            yield relation


def _named(dropped: Sequence[Notice]) -> list[Notice]:
    named = list(dropped[:NAMED])
    if len(dropped) > NAMED:
        more = len(dropped) - NAMED
        message = f"{more:,} more relations hold in all training rows, but not in all validation rows: not kept"
        named.append(Notice(column=None, code="relation", count=more, message=message))
    return named


def mixed_share(codes_N: npt.NDArray[np.int64]) -> float:
    """Return how likely two rows have different values of a column (codes from 0 on)."""
    shares = np.bincount(codes_N) / max(1, len(codes_N))
    return float(1.0 - (shares**2).sum())
