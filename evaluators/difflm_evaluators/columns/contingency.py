"""Counts of contingency cells against those of the real table, without allocating the product of the categories.

Few cells (up to 4,096) are counted densely. Of many, only those are kept that the real table has; all others share one
count. That is exact for the total variation distance: where the real share is 0, only the sum matters.

Counting the contingency tables of many pairs of columns out of a few tables over four columns each.

Counting rows costs by the table, whatever its cells, as long as a cache holds them. So columns are taken two by two,
and one table over two such couples has the tables of its six pairs as sums over its other axes, which are taken once,
at the end. 15 columns have 105 pairs, and 28 tables over couples.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import prod

import numpy as np

from difflm_evaluators.columns.columns import IntArray

MAX_DENSE_CELLS = 4096


@dataclass(slots=True, kw_only=True)
class CellCounts:
    """Rows per kept cell and in all other cells. `kept_C` numbers the kept cells, ascending; None for all."""

    rows_C: IntArray
    kept_C: IntArray | None
    elsewhere: int = 0

    @classmethod
    def fit(cls, cells_N: IntArray, *, size: int) -> "CellCounts":
        """Count the real rows, whose cells are numbers below `size`."""
        if size <= MAX_DENSE_CELLS:
            return cls(rows_C=np.bincount(cells_N, minlength=size), kept_C=None)
        kept_C, rows_C = np.unique(cells_N, return_counts=True)
        return cls(rows_C=rows_C, kept_C=kept_C)

    def empty(self) -> "CellCounts":
        """Start with no rows, in the same cells."""
        return CellCounts(rows_C=np.zeros_like(self.rows_C), kept_C=self.kept_C)

    def update(self, cells_N: IntArray) -> None:
        """Add rows."""
        size = len(self.rows_C)
        if self.kept_C is None:
            self.rows_C += np.bincount(cells_N, minlength=size)
            return
        place_N = np.minimum(np.searchsorted(self.kept_C, cells_N), size - 1)
        known_N = self.kept_C[place_N] == cells_N
        self.rows_C += np.bincount(place_N[known_N], minlength=size)
        self.elsewhere += int(len(cells_N) - known_N.sum())

    def merge(self, other: "CellCounts") -> None:
        """Take over the counts of `other`, which has the same cells."""
        self.rows_C += other.rows_C
        self.elsewhere += other.elsewhere

    @property
    def rows(self) -> int:
        """All rows counted."""
        return int(self.rows_C.sum()) + self.elsewhere

    def distance(self, other: "CellCounts") -> float:
        """Compute the total variation distance of the joint distributions; both have rows."""
        apart = np.abs(self.rows_C / self.rows - other.rows_C / other.rows).sum()
        return float(apart + other.elsewhere / other.rows) / 2


Pair = tuple[str, str]
Couple = tuple[str, ...]

MAX_CELLS = 2**15  # of one table: 256 KiB
MAX_CELLS_IN_ALL = 2**20  # of all tables: 8 MiB; more columns than that are not coupled
LARGEST_COUPLE = 181  # two of these are within MAX_CELLS


@dataclass(slots=True, kw_only=True)
class JointCounts:
    """Rows by the codes of every pair of columns in `pairs`, counted over couples. `sizes` are the numbers of codes."""

    sizes: Mapping[str, int]
    pairs: frozenset[Pair]
    _tables: dict[tuple[Couple, ...], IntArray] = field(default_factory=dict)

    def update(self, codes: Mapping[str, IntArray]) -> None:
        """Add rows; codes are (N,), not negative and below their column's size."""
        if not self._tables:
            self._tables = {group: np.zeros(self._cells(group), dtype=np.int64) for group in self._groups()}
        known: dict[Couple, IntArray] = {}
        for group, table in self._tables.items():
            for couple in group:
                if couple not in known:
                    known[couple] = self._joined(
                        [codes[name] for name in couple], [self.sizes[name] for name in couple]
                    )
            cells_N = self._joined([known[couple] for couple in group], [self._cells((couple,)) for couple in group])
            table += np.bincount(cells_N, minlength=len(table))

    def totals(self) -> Iterator[tuple[Pair, IntArray]]:
        """Compute the counts of each pair's cells, the second column's code running fastest; none without rows."""
        given: set[Pair] = set()
        for group, table in self._tables.items():
            names = [name for couple in group for name in couple]
            joint = table.reshape([self.sizes[name] for name in names])
            for axes in combinations(range(len(names)), 2):
                first, second = names[axes[0]], names[axes[1]]
                pair = (first, second) if (first, second) in self.pairs else (second, first)
                if pair in given or pair not in self.pairs:
                    continue
                given.add(pair)
                rest = tuple(axis for axis in range(len(names)) if axis not in axes)
                summed = joint.sum(axis=rest)
                yield pair, (summed if pair == (first, second) else summed.T).ravel()

    def _groups(self) -> list[tuple[Couple, ...]]:
        """Choose what is counted together, so that every pair is in one of them."""
        groups = self._cover(_couples(self.sizes))
        if sum(map(self._cells, groups)) > MAX_CELLS_IN_ALL:
            groups = self._cover([(name,) for name in self.sizes])
        return groups

    def _cover(self, couples: Sequence[Couple]) -> list[tuple[Couple, ...]]:
        groups: list[tuple[Couple, ...]] = []
        covered: set[Pair] = set()
        for one, other in combinations(couples, 2):
            if self._cells((one, other)) <= MAX_CELLS:
                groups.append((one, other))
                covered |= {(a, b) for a in one + other for b in one + other}
        alone = [((first,), (second,)) for first, second in sorted(self.pairs - covered)]
        return [*groups, *alone]

    def _cells(self, group: tuple[Couple, ...]) -> int:
        return prod(self.sizes[name] for couple in group for name in couple)

    @staticmethod
    def _joined(codes: Sequence[IntArray], sizes: Sequence[int]) -> IntArray:
        joined = codes[0]
        for codes_N, size in zip(codes[1:], sizes[1:], strict=True):
            joined = joined * size + codes_N
        return joined


def _couples(sizes: Mapping[str, int]) -> list[Couple]:
    """Pair columns two by two, large ones with small ones; those that are too large for any other stay alone."""
    waiting = sorted(sizes, key=lambda name: (sizes[name], name))
    couples: list[Couple] = []
    while waiting:
        large = waiting.pop()
        if waiting and sizes[large] * sizes[waiting[0]] <= LARGEST_COUPLE:
            couples.append((large, waiting.pop(0)))
        else:
            couples.append((large,))
    return couples
