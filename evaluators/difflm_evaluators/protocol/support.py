"""alpha-precision and beta-recall as the published code sets them up, computed by `scores.fidelity`.

The papers give synthcity's "naive" variant numbers and one-hot categories; it scales each to the training range and,
taking it for the target, leaves out the last column, which is one category of the target. As many rows of either
table are compared, all of the smaller one. synthcity's own code is not used.
"""

import numpy as np

from difflm_evaluators.columns.columns import Columns, FloatArray, row_count, take_rows
from difflm_evaluators.columns.labels import Labels
from difflm_evaluators.scores.fidelity import closeness, support_curves


def support_scores(synthetic: Columns, train: Columns, *, seed: int, threads: int) -> tuple[float, float, int]:
    """Return alpha-precision and beta-recall in percent, and how many rows of each table were compared (at least 2)."""
    from threadpoolctl import threadpool_limits

    rows = min(row_count(synthetic), row_count(train))
    random = np.random.default_rng(seed)
    taken = [take_rows(table, random.permutation(row_count(table))[:rows]) for table in (train, synthetic)]
    ranges, categories = _ranges(train), _categories(train)
    train_ND, synthetic_ND = (_points(table, ranges, categories) for table in taken)
    with threadpool_limits(limits=threads):
        curves = support_curves(train_ND, synthetic_ND)
    return closeness(curves.precision_K), closeness(curves.recall_K), rows


def _ranges(train: Columns) -> dict[str, tuple[float, float]]:
    numeric = {name: column.present for name, column in train.items() if column.kind == "numeric"}
    return {name: (float(one.min()), float(one.max())) if len(one) else (0.0, 1.0) for name, one in numeric.items()}


def _categories(train: Columns) -> dict[str, list[str]]:
    """List the categories of the training rows in the order of their texts; a missing one is the text nan."""
    named = {name: Labels.of(column.labels_N) for name, column in train.items() if column.kind == "category"}
    return {
        name: sorted({"nan" if code < 0 else labels.values[code] for code in np.unique(labels.codes_N).tolist()})
        for name, labels in named.items()
    }


def _points(table: Columns, ranges: dict[str, tuple[float, float]], categories: dict[str, list[str]]) -> FloatArray:
    """Return (N, D) points; a missing number lies in the middle, a category that training lacks has no dimension."""
    parts: list[FloatArray] = []
    for name, (low, high) in ranges.items():
        scaled_N = (table[name].numbers_N - low) / (high - low or 1.0)
        parts.append(np.nan_to_num(scaled_N, nan=0.5)[:, None])
    for name, known in categories.items():
        places = {text: place for place, text in enumerate(known)}
        labels = Labels.of(table[name].labels_N)
        place_N = labels.lookup(lambda text, places=places: places.get("nan" if text is None else text, len(places)))  # type: ignore[misc]
        parts.append(np.eye(len(places) + 1)[place_N][:, :-1])
    points_ND = np.concatenate(parts, axis=1)
    return points_ND[:, :-1] if points_ND.shape[1] > 1 else points_ND
