"""Raking: a critic's odds are made to leave every column's values as often as training rows have them.

Trees that find what several columns say together are noisy about single columns, and a column's values are what
everybody looks at first. So odds are multiplied by a factor for each bin of each column, found in turns until the
draws that are kept have the training rows' shares in all of them (iterative proportional fitting, Deming and Stephan
1940): of all changes that do this it moves the odds least.

Shape legend: N rows, F fields, B bins.
"""

from __future__ import annotations

from functools import reduce
from typing import Final

import numpy as np
import numpy.typing as npt

from difflm.synthesis.critic.features import Floats, bins_of, edges_of
from difflm.synthesis.critic.trees import Trees

BINS: Final = 32
SWEEPS: Final = 20
GRAIN: Final = 8
"""Counts of training rows are rounded to multiples: no single row is seen in them."""
PSEUDO_ROWS: Final = 10.0
"""Few rows say little: as for the calibration, shares of bins are between what is seen and what is there."""


def top_of(odds_N: npt.NDArray[np.float64], most: float) -> float:
    """Return the odds from which on draws are always kept."""
    return min(most * float(odds_N.mean()), float(np.quantile(odds_N, 0.98)))


def raked(
    sum_N: npt.NDArray[np.float64], made_NF: Floats, real_NF: Floats, *, most: float
) -> tuple[Trees, npt.NDArray[np.float64]]:
    """Return a tree for every column, and the logarithms of odds of draws with what these say added.

    `sum_N` are the logarithms before, of draws `made_NF`.
    """
    features = range(made_NF.shape[1])
    edges = [edges_of(made_NF[:, feature], BINS) for feature in features]
    made_bins = [bins_of(made_NF[:, feature], edges[feature]) for feature in features]
    wanted = [_shares(real_NF[:, feature], edges[feature]) for feature in features]
    factors = [np.zeros(len(each)) for each in wanted]
    for _ in range(SWEEPS):
        for feature in features:
            odds_N = np.exp(sum_N)
            kept_N = np.minimum(1.0, odds_N / top_of(odds_N, most))
            found_B = np.bincount(made_bins[feature], weights=kept_N, minlength=len(wanted[feature]))
            scale = found_B.sum()
            change_B = np.log((wanted[feature] * scale + PSEUDO_ROWS) / (found_B + PSEUDO_ROWS))
            factors[feature] += change_B
            sum_N = sum_N + change_B[made_bins[feature]]
    trees = [
        Trees.of_steps(feature, edges[feature], factors[feature][:-1].astype(np.float32), float(factors[feature][-1]))
        for feature in features
    ]
    return reduce(Trees.__add__, trees), sum_N


def _shares(real_N: Floats, edges: Floats) -> npt.NDArray[np.float64]:
    """Return the shares of training rows in the bins between edges, and of missing ones."""
    count_B = GRAIN * np.round(np.bincount(bins_of(real_N, edges), minlength=len(edges) + 2) / GRAIN)
    share_B: npt.NDArray[np.float64] = count_B / max(GRAIN, count_B.sum())
    return share_B
