"""The search for relations: the rows that they are looked for in, what counts as one, and what was found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from difflm.records.notices import Notice
from difflm.records.relations.model import Lookup, Relation, Rule
from difflm.records.relations.rules import compile_rule
from difflm.records.relations.values import TableValues, readable
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


def mixed_share(codes_N: npt.NDArray[np.int64]) -> float:
    """Return how likely two rows have different values of a column (codes from 0 on)."""
    shares = np.bincount(codes_N) / max(1, len(codes_N))
    return float(1.0 - (shares**2).sum())
