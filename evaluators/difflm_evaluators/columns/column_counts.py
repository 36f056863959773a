"""Counts of one column against the real one: what shape error and pictures need, exact and in bounded memory.

Categories are counted by code. Numbers are counted in 2 K + 1 cells, K being the distinct real values: below the
first, equal to it, between it and the second, and so on. That is enough for the exact Kolmogorov-Smirnov statistic:
between two real values the real distribution function is constant and the other one rises, so their largest distance
there is at an end of the gap, where both functions are known from the cells. Memory: 8 bytes per cell.
"""

from dataclasses import dataclass

import numpy as np

from difflm.telemetry import JSON
from difflm_evaluators.columns.coding import CategoryCoder, bin_edges, fit_coder
from difflm_evaluators.columns.columns import Column, FloatArray, IntArray

HISTOGRAM_BINS = 30
SHOWN_CATEGORIES = 10


@dataclass(slots=True, kw_only=True)
class ColumnCounts:
    """Running counts of one column: rows, missing ones, rows per cell, and per bar of the picture (numbers only)."""

    cells: IntArray
    bars: IntArray
    rows: int = 0
    missing: int = 0

    def merge(self, other: "ColumnCounts") -> None:
        """Take over the counts of `other`."""
        self.cells += other.cells
        self.bars += other.bars
        self.rows += other.rows
        self.missing += other.missing

    @property
    def missing_share(self) -> float:
        """Share of missing values, 0 without rows."""
        return self.missing / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryRuler:
    """Counts categories by the codes of the real column."""

    coder: CategoryCoder

    def empty(self) -> ColumnCounts:
        """Start with counts of no rows."""
        return ColumnCounts(cells=np.zeros(self.coder.size, dtype=np.int64), bars=np.zeros(0, dtype=np.int64))

    def update(self, column: Column, counts: ColumnCounts) -> None:
        """Add the rows of `column`."""
        cells = np.bincount(self.coder.code(column), minlength=self.coder.size)
        counts.cells += cells
        counts.rows += len(column)
        counts.missing += int(cells[self.coder.missing])

    def distance(self, real: ColumnCounts, other: ColumnCounts) -> float:
        """Compute the total variation distance, missing and unknown being categories; both sides have rows."""
        return float(np.abs(real.cells / real.rows - other.cells / other.rows).sum() / 2)

    def picture(self, real: ColumnCounts, other: ColumnCounts) -> dict[str, JSON]:
        """Return shares of the commonest real categories, the rest, the missing, and what the real table lacks."""
        shares = [real.cells / real.rows, other.cells / other.rows]
        order = np.argsort(-shares[0][: self.coder.missing], kind="stable").tolist()
        shown, rest = order[:SHOWN_CATEGORIES], order[SHOWN_CATEGORIES:]
        groups = [(self.coder.labels[code], [code]) for code in shown]
        if rest:
            groups.append((f"{len(rest)} others", rest))
        extra = {"missing": self.coder.missing, "not in the real table": self.coder.missing + 1}
        groups += [(label, [code]) for label, code in extra.items() if shares[0][code] or shares[1][code]]
        bars: list[JSON] = [
            {"label": label, "real": float(shares[0][codes].sum()), "synthetic": float(shares[1][codes].sum())}
            for label, codes in groups
        ]
        return {"kind": "bars", "bars": bars}


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRuler:
    """Counts numbers (or lengths) around the distinct real `values_K`, and per bar between `edges` and outside."""

    values_K: FloatArray
    edges: FloatArray

    def empty(self) -> ColumnCounts:
        """Start with counts of no rows."""
        bars = np.zeros(len(self.edges) + 1, dtype=np.int64)
        return ColumnCounts(cells=np.zeros(2 * len(self.values_K) + 1, dtype=np.int64), bars=bars)

    def update(self, column: Column, counts: ColumnCounts) -> None:
        """Add the rows of `column`."""
        sorted_N = np.sort(column.present)
        counts.rows += len(column)
        counts.missing += len(column) - len(sorted_N)
        if len(sorted_N) == 0:
            return
        # looked up once per distinct value; both sides are in order, which keeps the search in the cache
        first_D = np.flatnonzero(np.concatenate([[True], sorted_N[1:] != sorted_N[:-1]]))
        distinct_D = sorted_N[first_D]
        rows_D = np.diff(np.append(first_D, len(sorted_N)))
        place_D = np.searchsorted(self.values_K, distinct_D)
        cell_D = 2 * place_D
        inside_D = place_D < len(self.values_K)
        cell_D[inside_D] += self.values_K[place_D[inside_D]] == distinct_D[inside_D]
        np.add.at(counts.cells, cell_D, rows_D)
        if len(self.edges):
            starts = np.searchsorted(sorted_N, self.edges[:-1])
            end = np.searchsorted(sorted_N, self.edges[-1], side="right")
            counts.bars += np.diff([0, *starts, end, len(sorted_N)])

    def distance(self, real: ColumnCounts, other: ColumnCounts) -> float:
        """Compute the Kolmogorov-Smirnov statistic of the values present; 0 where a side has none."""
        present, other_present = real.rows - real.missing, other.rows - other.missing
        if not present or not other_present:
            return 0.0
        return float(np.abs(np.cumsum(real.cells) / present - np.cumsum(other.cells) / other_present).max())

    def picture(self, real: ColumnCounts, other: ColumnCounts) -> dict[str, JSON]:
        """Return the shares of all rows per bar of the real range; what lies outside is counted apart."""
        if not len(self.edges):
            return {"kind": "histogram", "edges": [], "real": [], "synthetic": [], "outside": 0.0}
        return {
            "kind": "histogram",
            "edges": self.edges.tolist(),
            "real": (real.bars[1:-1] / real.rows).tolist(),
            "synthetic": (other.bars[1:-1] / other.rows).tolist(),
            "outside": float((other.bars[0] + other.bars[-1]) / other.rows),
        }


Ruler = CategoryRuler | NumberRuler


def fit_ruler(real: Column) -> Ruler:
    """Fit the ruler of one real column."""
    coder = fit_coder(real)
    if isinstance(coder, CategoryCoder):
        return CategoryRuler(coder=coder)
    present = real.present
    edges = _picture_edges(present) if len(present) else np.zeros(0)
    return NumberRuler(values_K=np.unique(present), edges=edges)


def count_column(ruler: Ruler, column: Column) -> ColumnCounts:
    """Count one whole column."""
    counts = ruler.empty()
    ruler.update(column, counts)
    return counts


def _picture_edges(values: FloatArray) -> FloatArray:
    """Cut the range into at most 30 equal bins; those of whole numbers are whole numbers wide: each covers as many."""
    low, high = float(values.min()), float(values.max())
    if max(high - low, abs(low), abs(high)) > 2**52 or np.any(values != np.round(values)):
        return bin_edges(values, HISTOGRAM_BINS)
    width = max(1.0, np.ceil((high - low + 1) / HISTOGRAM_BINS))
    edges: FloatArray = low - 0.5 + width * np.arange(np.ceil((high - low + 1) / width) + 1)
    return edges
