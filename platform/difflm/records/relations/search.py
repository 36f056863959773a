"""The search for relations: the rows that they are looked for in, what counts as one, and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from difflm.records.notices import Notice
from difflm.records.relations.model import Lookup, Relation, Rule
from difflm.records.relations.rules import compile_rule
from difflm.records.relations.values import FloatArray, IntArray, TableValues, kind_of, readable
from difflm.records.relations.words import columns_in, name_of
from difflm.records.schema import RecordSchema

FEWEST_ROWS: Final = 30
BROKEN_ROWS: Final = 30
BROKEN_SHARE: Final = 0.05


@dataclass(slots=True, kw_only=True)
class Search:
    """The rows that relations are looked for in, and what has been found so far.

    `derived` are the columns that are functions of others already, which further relations need not be about. `refuted`
    are columns of which a relation was dropped, which need no second one that says less.
    """

    sample: TableValues
    train: TableValues
    validation: TableValues
    found: list[Relation] = field(default_factory=list)
    derived: set[str] = field(default_factory=set)
    dropped: list[Notice] = field(default_factory=list)
    refuted: set[frozenset[str]] = field(default_factory=set)

    @property
    def schema(self) -> RecordSchema:
        """The schema of all of the rows."""
        return self.train.schema

    def columns(self) -> list[str]:
        """Return the columns that relations can be about and that are not derived yet, in their order."""
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
        self.refuted.add(frozenset(columns_in(relation, self.schema)))
        self.dropped.append(Notice(column=column, code="relation", count=count, message=message))
        return False


def numeric_columns(search: Search) -> list[str]:
    """Return the columns of numbers and dates that floating-point numbers hold exactly."""
    names = [name for name in search.columns() if kind_of(search.schema.field(name)) != "text"]
    return [name for name in names if search.train.exact(name)]


def complete_rows(columns_TN: Sequence[FloatArray], *, least: int, zeros: bool) -> tuple[list[int], IntArray]:
    """Choose columns and the rows in which all of them have a value (with `zeros`, one other than 0).

    Columns with most gaps are left out until there are enough rows.
    """
    usable_TN = [np.isfinite(column) & ((column != 0.0) if zeros else True) for column in columns_TN]
    kept = sorted(range(len(usable_TN)), key=lambda place: -int(usable_TN[place].sum()))
    while kept:
        rows_N = np.flatnonzero(np.logical_and.reduce([usable_TN[place] for place in kept]))
        if len(rows_N) >= least:
            return sorted(kept), rows_N
        kept.pop()
    return [], np.zeros(0, dtype=np.int64)


def mixed_share(codes_N: npt.NDArray[np.int64]) -> float:
    """Return how likely two rows have different values of a column (codes from 0 on)."""
    shares = np.bincount(codes_N) / max(1, len(codes_N))
    return float(1.0 - (shares**2).sum())
