"""Where a table is worst: the columns and pairs with the largest errors, and what differs most in each.

Errors and baselines are those of `marginals` and `pairs`. What differs most, with the share of real and of synthetic
rows that have it:

- a category: the one whose shares differ most, missing being one
- a number, date or text length: the value x where the shares of rows at most x differ most, which is where the
  Kolmogorov-Smirnov statistic is taken; or the missing values, where these differ more
- a pair of numbers: both correlations
- another pair: the cell of the contingency table (numbers in the bins of `pairs`) whose shares differ most

Each column also has its share of the gain by which the trees of `detection` separated the tables: a column of small
error can be what gives the rows away, by what it means for the others.

How strongly every two columns go together, in the real and in the synthetic table, for the report's heat maps.

Two numbers: Pearson's r, in [-1, 1]. Any other pair: Cramér's V of the contingency table (Cramér 1946; without bias
correction), in [0, 1], with numbers cut as in `pairs`. Undefined where a column does not vary. Free text takes no part.
These are pictures, not scores: the trend error in `pairs` says more of two categories than the difference of their V.

Shapes: C columns, K and L codes of a pair.
"""

import math
from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from difflm.telemetry import JSON
from difflm_evaluators.base import Evaluation
from difflm_evaluators.columns.coding import NUMBER_BINS, bin_edges, fit_coder
from difflm_evaluators.columns.columns import Column, Columns, IntArray, category_codes
from difflm_evaluators.columns.moments import PairMoments

if TYPE_CHECKING:
    from difflm_evaluators.columns.coding import Coder

MAX_COLUMNS = 100  # of a picture that can still be read, and of what a report is burdened with


def evaluate_associations(synthetic: Columns, train: Columns) -> Evaluation:
    """Compute both matrices (C, C) for the first columns that are no free text; no scores."""
    names = [name for name, column in train.items() if column.kind != "text"][:MAX_COLUMNS]
    coders = {name: fit_coder(train[name]) for name in names}
    details: dict[str, JSON] = {"columns": list(names)}
    for side, table in (("real", train), ("synthetic", synthetic)):
        details[side] = [list[JSON](row) for row in _matrix(table, coders)]
    return Evaluation(name="associations", scores=(), details=details)


def _matrix(table: Columns, coders: "Mapping[str, Coder]") -> list[list[float | None]]:
    """Return (C, C) figures, None on the diagonal and where undefined."""
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
    """Compute sqrt(chi^2 / (N (min(K, L) - 1))) of the codes that occur; None where one of the columns does not vary.

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


WORST = 10


def evaluate_breakdown(
    synthetic: Columns, train: Columns, marginals: Evaluation, pairs: Evaluation, detection: Evaluation | None
) -> Evaluation:
    """Find the worst columns and pairs, worst first; no scores of its own."""
    gains: Any = detection.details.get("gain_shares", {}) if detection is not None else {}
    columns: list[JSON] = [
        {
            **{key: column[key] for key in ("name", "error", "baseline", "method")},
            "gain_share": gains.get(column["name"]),
            "difference": column_difference(train[column["name"]], synthetic[column["name"]]),
        }
        for column in _worst(marginals.details["columns"])
    ]
    worst_pairs: list[JSON] = [
        {
            **{key: pair[key] for key in ("first", "second", "error", "baseline", "method")},
            "difference": pair_difference(pair, synthetic, train),
        }
        for pair in _worst(pairs.details["pairs"])
    ]
    return Evaluation(name="breakdown", scores=(), details={"columns": columns, "pairs": worst_pairs})


def _worst(rows: Any) -> list[Any]:
    """Select the ten rows with the largest errors above 0, in falling order."""
    erring = [row for row in rows if row["error"]]
    return sorted(erring, key=lambda row: -row["error"])[:WORST]


def column_difference(real: Column, other: Column) -> dict[str, JSON]:
    """Find what differs most between two columns of one kind, as the module says; both have at least one row."""
    if real.kind == "category":
        labels, (real_codes_N, other_codes_N) = category_codes(real, other)
        real_K, other_K = (
            np.bincount(code_N, minlength=len(labels)) / len(code_N) for code_N in (real_codes_N, other_codes_N)
        )
        most = int(np.abs(real_K - other_K).argmax())
        value = _category(labels[most])
        return {"what": "value", "value": value, "real": float(real_K[most]), "synthetic": float(other_K[most])}
    missing = [float(column.missing_N.mean()) for column in (real, other)]
    gap, at, shares = _largest_step(real, other)
    if at is None or abs(missing[0] - missing[1]) > gap:
        return {"what": "value", "value": {"missing": True}, "real": missing[0], "synthetic": missing[1]}
    return {"what": "at most", "value": {"high": at}, "real": shares[0], "synthetic": shares[1]}


def _largest_step(real: Column, other: Column) -> tuple[float, float | None, tuple[float, float]]:
    """Compute the Kolmogorov-Smirnov statistic of the numbers present, its place, and both distribution functions."""
    if len(real.present) == 0 or len(other.present) == 0:
        return 0.0, None, (0.0, 0.0)
    points = np.unique(np.concatenate([real.present, other.present]))
    real_P, other_P = (
        np.searchsorted(np.sort(column.present), points, side="right") / len(column.present) for column in (real, other)
    )
    most = int(np.abs(real_P - other_P).argmax())
    gap = float(abs(real_P[most] - other_P[most]))
    return gap, float(points[most]), (float(real_P[most]), float(other_P[most]))


def pair_difference(pair: Mapping[str, Any], synthetic: Columns, train: Columns) -> dict[str, JSON]:
    """Find what differs most between a pair's relations in both tables, as the module says."""
    names = pair["first"], pair["second"]
    if pair["method"] == "correlation":
        real, other = (
            PairMoments.of(np.stack([table[name].numbers_N for name in names], axis=1)).correlation(0, 1)
            for table in (train, synthetic)
        )
        return {"what": "correlation", "real": real, "synthetic": other}
    (first, first_real_N, first_other_N), (second, second_real_N, second_other_N) = (
        _levels(train[name], synthetic[name]) for name in names
    )
    cells, places = np.unique(
        np.concatenate([first_real_N * len(second) + second_real_N, first_other_N * len(second) + second_other_N]),
        return_inverse=True,
    )
    split = np.split(places, [len(first_real_N)])
    real_C, other_C = (np.bincount(place_N, minlength=len(cells)) / len(place_N) for place_N in split)
    most = int(np.abs(real_C - other_C).argmax())
    row, column = divmod(int(cells[most]), len(second))
    return {
        "what": "cell",
        "first": first[row],
        "second": second[column],
        "real": float(real_C[most]),
        "synthetic": float(other_C[most]),
    }


def _levels(real: Column, other: Column) -> tuple[list[dict[str, JSON]], IntArray, IntArray]:
    """Return categories, or bins of the real range with open ends and one for missing; then the rows' codes."""
    if real.kind == "category":
        labels, (real_codes_N, other_codes_N) = category_codes(real, other)
        return [_category(label) for label in labels], real_codes_N, other_codes_N
    edges = bin_edges(real.present if len(real.present) else np.zeros(1), NUMBER_BINS)[1:-1]
    ends: list[float | None] = [None, *edges.tolist(), None]
    levels: list[dict[str, JSON]] = [{"low": ends[bin], "high": ends[bin + 1]} for bin in range(len(edges) + 1)]
    codes = [
        np.where(np.isnan(column.numbers_N), len(levels), np.digitize(column.numbers_N, edges))
        for column in (real, other)
    ]
    return [*levels, {"missing": True}], codes[0], codes[1]


def _category(label: str | None) -> dict[str, JSON]:
    return {"missing": True} if label is None else {"label": label}
