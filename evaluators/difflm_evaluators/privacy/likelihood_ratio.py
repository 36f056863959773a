"""LiRA: was a record learned from, by its loss under the model beside its losses under models with and without it.

Carlini et al. 2022 (arXiv 2112.03570, algorithm 1): shadow models are fitted to random halves of the records. Of every
record the losses of the shadows that had it, and of those that had not, are taken to be Gaussian, and its score is the
log likelihood ratio of the loss under the attacked model. With a few shadows the deviations are those of all records
together (the paper's choice below 64 shadows). The attacker knows the records, the method, and the model, which is more
than who has synthetic rows alone: what this attack does not find, distances will not.

Shapes: N records, S shadows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from difflm_evaluators.columns.columns import FloatArray
from difflm_evaluators.privacy.membership import RocFigure, area, true_positive_rate

FEWEST_SHADOWS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LikelihoodRatio:
    """How well the ratio tells members, beside the loss by itself; `rate` is at 1 % false alarms."""

    ratio: RocFigure
    loss: RocFigure
    rate: RocFigure


def likelihood_ratios(loss_N: FloatArray, shadows_SN: FloatArray, had_SN: npt.NDArray[np.bool_]) -> FloatArray:
    """Return the log likelihood ratio (N,) of having been learned from; higher is likelier.

    Raises:
        ValueError: there are too few shadows, or a record that all shadows or none of them had.
    """
    if len(shadows_SN) < FEWEST_SHADOWS:
        raise ValueError(f"{len(shadows_SN)} shadow models are too few; fit at least {FEWEST_SHADOWS}")
    means, deviations = [], []
    for side_SN in (had_SN, ~had_SN):
        count_N = side_SN.sum(axis=0)
        if not count_N.all():
            raise ValueError(f"record {int(np.flatnonzero(count_N == 0)[0])} is on one side of all shadow models")
        mean_N = np.where(side_SN, shadows_SN, 0.0).sum(axis=0) / count_N
        squares = np.where(side_SN, (shadows_SN - mean_N) ** 2, 0.0).sum()
        means.append(mean_N)
        deviations.append(max(1e-6, float(np.sqrt(squares / max(1, int(count_N.sum()) - len(count_N))))))
    (in_N, out_N), (in_deviation, out_deviation) = means, deviations
    ratio_N: FloatArray = _log_density(loss_N, in_N, in_deviation) - _log_density(loss_N, out_N, out_deviation)
    return ratio_N


def _log_density(loss_N: FloatArray, mean_N: FloatArray, deviation: float) -> FloatArray:
    found_N: FloatArray = -0.5 * ((loss_N - mean_N) / deviation) ** 2 - np.log(deviation)
    return found_N


def evaluate_ratio(
    loss_N: FloatArray, member_N: npt.NDArray[np.bool_], shadows_SN: FloatArray, had_SN: npt.NDArray[np.bool_]
) -> LikelihoodRatio:
    """Attack a model of which it is known what it learned from."""
    ratio_N = likelihood_ratios(loss_N, shadows_SN, had_SN)
    return LikelihoodRatio(
        ratio=area(ratio_N[member_N], ratio_N[~member_N]),
        loss=area(-loss_N[member_N], -loss_N[~member_N]),
        rate=true_positive_rate(ratio_N[member_N], ratio_N[~member_N], 0.01),
    )
