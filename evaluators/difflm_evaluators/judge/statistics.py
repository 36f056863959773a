"""Statistics of answers: means and shares with their intervals, and how far repeats agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import krippendorff
import numpy as np
from scipy import stats

from difflm.telemetry import JSON

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleMean:
    """A mean or a share with its standard error and 95 % interval; both None for a single observation."""

    value: float
    standard_error: float | None
    interval: tuple[float, float] | None
    count: int

    def to_json(self) -> dict[str, JSON]:
        """Return it as plain values."""
        interval: JSON = None if self.interval is None else list(self.interval)
        return {
            "value": self.value,
            "standard_error": self.standard_error,
            "interval_95": interval,
            "count": self.count,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Krippendorff's alpha of repeats, or why there is none; and the share of units whose repeats are all equal."""

    alpha: float | None
    undefined_because: str | None
    equal_share: float | None
    units: int

    def to_json(self) -> dict[str, JSON]:
        """Return it as plain values."""
        return {
            "krippendorff_alpha": self.alpha,
            "undefined_because": self.undefined_because,
            "equal_share": self.equal_share,
            "units_with_repeats": self.units,
        }


def mean_estimate(values_N: Sequence[float], low: float, high: float) -> SampleMean:
    """Estimate the mean of independent observations, Student's interval cut to the scale `low` to `high`; N > 0."""
    values = np.asarray(values_N, dtype=float)
    mean, count = float(values.mean()), len(values)
    if count == 1:
        return SampleMean(value=mean, standard_error=None, interval=None, count=1)
    error = float(values.std(ddof=1)) / math.sqrt(count)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * error
    interval = (max(low, mean - reach), min(high, mean + reach))
    return SampleMean(value=mean, standard_error=error, interval=interval, count=count)


def share_estimate(hits: int, count: int) -> SampleMean:
    """Estimate a share in percent with Wilson's interval (1927), which holds near 0 and 100 too; count > 0.

    The usual standard error says 0 where all or none are hits, so there it is left out.
    """
    share = hits / count
    found = stats.binomtest(hits, count).proportion_ci(CONFIDENCE, method="wilson")
    return SampleMean(
        value=100 * share,
        standard_error=100 * math.sqrt(share * (1 - share) / count) if 0 < hits < count else None,
        interval=(100 * float(found.low), 100 * float(found.high)),
        count=count,
    )


def agreement(ratings_UR: Sequence[Sequence[float | None]], level: Literal["nominal", "interval"]) -> Agreement:
    """Krippendorff's alpha (Krippendorff 2004, chapter 11) over units rated several times; None is no rating.

    1 is perfect agreement, 0 what chance would give. Undefined where no unit was rated twice, and where all ratings
    are the same one: without variation there is nothing to agree about.
    """
    rated = [[value for value in unit if value is not None] for unit in ratings_UR]
    pairable = [unit for unit in rated if len(unit) > 1]
    if not pairable:
        because = "no question was answered twice; give --repeats 2 or more"
        return Agreement(alpha=None, undefined_because=because, equal_share=None, units=0)
    equal = sum(len(set(unit)) == 1 for unit in pairable) / len(pairable)
    if len({value for unit in pairable for value in unit}) == 1:
        because = "every repeated answer is the same one"
        return Agreement(alpha=None, undefined_because=because, equal_share=equal, units=len(pairable))
    longest = max(map(len, pairable))
    matrix_RU = np.array([unit + [math.nan] * (longest - len(unit)) for unit in pairable], dtype=float).T
    alpha = float(krippendorff.alpha(reliability_data=matrix_RU, level_of_measurement=level))
    return Agreement(alpha=alpha, undefined_because=None, equal_share=equal, units=len(pairable))
