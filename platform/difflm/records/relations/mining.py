"""Mining: the relations that hold in every training row, and in every validation row as well.

Candidates come from a sample of the training rows, are verified on all of them, and are dropped, with a notice, where
a validation row breaks them. What holds by chance, or says nothing, is left out: with the columns shuffled against each
other at least `BROKEN_ROWS` training rows have to break a relation, and at least `BROKEN_SHARE` of the rows an order,
which leaves out that ages are below salaries. Equations need `FEWEST_ROWS` rows in which none of their columns is
missing, tables five training rows per entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from difflm.records.notices import Notice
from difflm.records.relations.categories import find_combinations, find_copies, find_lookups
from difflm.records.relations.equations import find_equations
from difflm.records.relations.model import Relation, Relations
from difflm.records.relations.orders import find_orders
from difflm.records.relations.search import FEWEST_ROWS, Search
from difflm.records.relations.values import TableValues
from difflm.records.relations.words import name_of
from difflm.records.schema import RecordSchema

SAMPLE_ROWS: Final = 20_000
NAMED: Final = 10
"""Notices about relations that were dropped; of more only the number is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """What was found, and what was dropped because validation rows break it."""

    relations: Relations
    notices: tuple[Notice, ...]


def mine_relations(train: pa.Table, validation: pa.Table, schema: RecordSchema) -> Mined:
    """Find the relations of a table; both splits as they were read, `schema` as inferred from `train`."""
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
