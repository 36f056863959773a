"""Coding: a column's values as small numbers that are fixed by the real column, so that counts of batches add up.

Categories keep a code each; missing has one, and all categories that the real column lacks share one. That loses
nothing: their real share is 0, so distances between distributions depend on their sum alone. Numbers are cut into 10
equal-width bins of the real range, the outer ones open, and missing has a code of its own.

Labels: a column's texts held as numbers into its distinct values, so that work is done per value and not per row.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from difflm_evaluators.columns.columns import Column, FloatArray, IntArray
from difflm_evaluators.columns.labels import Labels

NUMBER_BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryCoder:
    """Codes of the real categories, in the order of their first appearance, then missing, then unknown."""

    codes: Mapping[str, int]

    @property
    def size(self) -> int:
        """How many codes there are."""
        return len(self.codes) + 2

    @property
    def missing(self) -> int:
        """The code of a missing value."""
        return len(self.codes)

    @property
    def labels(self) -> tuple[str, ...]:
        """The real categories by code."""
        return tuple(self.codes)

    def code(self, column: Column) -> IntArray:
        """Return the codes, (N,)."""
        unknown = self.missing + 1
        labels = Labels.of(column.labels_N)
        return labels.lookup(lambda text: self.missing if text is None else self.codes.get(text, unknown))


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberCoder:
    """Codes 1 to 10 for the bins between `edges`, 11 for missing."""

    edges: FloatArray

    @property
    def size(self) -> int:
        """How many codes there are, counting 0, which nothing gets."""
        return len(self.edges) + 1

    @property
    def missing(self) -> int:
        """The code of a missing value."""
        return len(self.edges)

    def code(self, column: Column) -> IntArray:
        """Return the codes, (N,)."""
        return np.digitize(column.numbers_N, bins=self.edges).astype(np.int64)


Coder = CategoryCoder | NumberCoder


def fit_coder(real: Column) -> Coder:
    """Fit the coder of one real column; free text is coded by its length."""
    if real.kind == "category":
        labels = Labels.of(real.labels_N)
        codes_C, first_C = np.unique(labels.codes_N[labels.codes_N >= 0], return_index=True)
        ordered = [labels.values[code] for code in codes_C[np.argsort(first_C)].tolist()]
        return CategoryCoder(codes={text: code for code, text in enumerate(dict.fromkeys(ordered))})
    present = real.present if len(real.present) else np.zeros(1)
    edges = bin_edges(present, NUMBER_BINS)
    edges[0], edges[-1] = -np.inf, np.inf
    return NumberCoder(edges=edges)


def bin_edges(values: FloatArray, bins: int) -> FloatArray:
    """Return edges of equal-width bins over the range of `values` (as numpy, so SDMetrics); a constant gets width 1.

    Where a float64 is too coarse for that, as beside 2**62, bins are two units in the last place wide.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(high - low):
        return (np.linspace(low / 4, high / 4, bins + 1) * 4).astype(np.float64)
    finest = 4 * float(np.spacing(max(abs(low), abs(high)) / 2))
    if (high - low or 1.0) < bins * finest:
        return (low + finest * np.arange(bins + 1)).astype(np.float64)
    return np.histogram_bin_edges(values, bins=bins).astype(np.float64)
