"""How strongly every two columns go together, in the real and in the synthetic table, for the report's heat maps.

Two numbers: Pearson's r, in [-1, 1]. Any other pair: Cramér's V of the contingency table (Cramér 1946; without bias
correction), in [0, 1], with numbers cut as in `pairs`. Undefined where a column does not vary. Free text takes no part.
These are pictures, not scores: the trend error in `pairs` says more of two categories than the difference of their V.

Shapes: C columns, K and L codes of a pair.
"""

import math
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from difflm_evaluators.base import JSON, Evaluation
from difflm_evaluators.coding import fit_coder
from difflm_evaluators.columns import Columns, IntArray
from difflm_evaluators.moments import PairMoments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from difflm_evaluators.coding import Coder

MOST_COLUMNS = 100  # of a picture that can still be read, and of what a report is burdened with


def evaluate_associations(synthetic: Columns, train: Columns) -> Evaluation:
    """Both matrices (C, C) for the first columns that are no free text; no scores."""
    names = [name for name, column in train.items() if column.kind != "text"][:MOST_COLUMNS]
    coders = {name: fit_coder(train[name]) for name in names}
    details: dict[str, JSON] = {"columns": list(names)}
    for side, table in (("real", train), ("synthetic", synthetic)):
        details[side] = _matrix(table, coders)
    return Evaluation(name="associations", scores=(), details=details)


def _matrix(table: Columns, coders: "Mapping[str, Coder]") -> list[list[float | None]]:
    """(C, C) figures, None on the diagonal and where undefined."""
    names = list(coders)
    codes = {name: coder.code(table[name]) for name, coder in coders.items()}
    numeric = [name for name in names if table[name].kind == "numeric"]
    moments = PairMoments.of(np.stack([table[name].numbers_N for name in numeric], axis=1)) if numeric else None
    matrix: list[list[float | None]] = [[None] * len(names) for _ in names]
    for (row, first), (column, second) in combinations(enumerate(names), 2):
        if moments is not None and first in numeric and second in numeric:
            value = moments.correlation(numeric.index(first), numeric.index(second))
        else:
            value = cramers_v(codes[first], codes[second])
        matrix[row][column] = matrix[column][row] = None if value is None else round(value, 4)
    return matrix


def cramers_v(first_N: IntArray, second_N: IntArray) -> float | None:
    """sqrt(chi^2 / (N (min(K, L) - 1))) of the codes that occur; None where one of the columns does not vary.

    chi^2 / N = sum over the cells that occur of p_kl^2 / (p_k p_l), less 1.
    """
    (first_K, first_N), (second_L, second_N) = (np.unique(codes, return_inverse=True) for codes in (first_N, second_N))
    smaller = min(len(first_K), len(second_L))
    if smaller < 2:
        return None
    rows = len(first_N)
    cells, counts = np.unique(first_N * len(second_L) + second_N, return_counts=True)
    row_K, column_L = np.bincount(first_N) / rows, np.bincount(second_N) / rows
    expected = row_K[cells // len(second_L)] * column_L[cells % len(second_L)]
    mean_square = float(((counts / rows) ** 2 / expected).sum()) - 1
    return min(1.0, math.sqrt(max(0.0, mean_square / (smaller - 1))))
