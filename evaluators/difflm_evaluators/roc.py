"""Areas and points of a ROC curve with their uncertainty, for attacks that rank records.

The standard error of an area is DeLong's (DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837-845): with the
share v_i of the negatives that positive i outranks (ties one half) and the share w_j of the positives that outrank
negative j, it is sqrt(var(v) / positives + var(w) / negatives). Shapes: P positives, N negatives.
"""

from dataclasses import dataclass

import numpy as np

from difflm_evaluators.columns import FloatArray

NORMAL_95 = 1.959963984540054
"""Half the width of a 95 % confidence interval in standard errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its standard error."""

    value: float
    standard_error: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of a share, cut to [0, 1]."""
        half = NORMAL_95 * self.standard_error
        return max(0.0, self.value - half), min(1.0, self.value + half)


def area(positive_P: FloatArray, negative_N: FloatArray) -> Estimate:
    """Area under the ROC curve, ties counting one half, with DeLong's standard error; at least two of each side."""
    from scipy.stats import rankdata  # slow to import

    positives, negatives = len(positive_P), len(negative_N)
    ranks = rankdata(np.concatenate([positive_P, negative_N]))
    above_P = (ranks[:positives] - rankdata(positive_P)) / negatives
    below_N = 1 - (ranks[positives:] - rankdata(negative_N)) / positives
    variance = above_P.var(ddof=1) / positives + below_N.var(ddof=1) / negatives
    return Estimate(value=float(above_P.mean()), standard_error=float(np.sqrt(variance)))


def curve_points(positive_P: FloatArray, negative_N: FloatArray, points: int = 51) -> list[list[float]]:
    """[false positive rate, true positive rate] at evenly spaced false positive rates from 0 to 1."""
    from sklearn.metrics import roc_curve  # slow to import

    is_positive = np.repeat([1, 0], [len(positive_P), len(negative_N)])
    false_rates, true_rates, _ = roc_curve(is_positive, np.concatenate([positive_P, negative_N]))
    at = np.linspace(0.0, 1.0, points)
    return [[float(x), float(y)] for x, y in zip(at, np.interp(at, false_rates, true_rates), strict=True)]


def true_positive_rate(positive_P: FloatArray, negative_N: FloatArray, false_positive_rate: float) -> Estimate:
    """Share of positives ranked above the `false_positive_rate` highest negatives.

    Between two points of the curve one threshold is drawn at random, so that a ranking of ties alone gives
    `false_positive_rate`. The standard error takes both the positives' noise and that of the threshold, which moves
    along the curve with its slope between half and twice the rate.
    """
    from sklearn.metrics import roc_curve  # slow to import

    is_positive = np.repeat([1, 0], [len(positive_P), len(negative_N)])
    false_rates, true_rates, _ = roc_curve(is_positive, np.concatenate([positive_P, negative_N]))
    # of several points at one false positive rate the last is the highest
    last = np.append(np.diff(false_rates) > 0, True)
    around = false_positive_rate * np.array([0.5, 1.0, 2.0])
    before, value, after = np.interp(around, false_rates[last], true_rates[last]).tolist()
    slope = (after - before) / (around[2] - around[0])
    threshold = false_positive_rate * (1 - false_positive_rate) / len(negative_N)
    variance = value * (1 - value) / len(positive_P) + slope**2 * threshold
    return Estimate(value=value, standard_error=float(np.sqrt(variance)))
