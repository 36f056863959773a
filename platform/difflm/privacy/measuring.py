"""Measurements of private counts by OpenDP, each entered into a ledger with what OpenDP says that it costs.

OpenDP draws discrete noise from the operating system's generator, so nothing that is stored could repeat it.

Shape legend: K counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from difflm.privacy.budget import Spent, threshold_of

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@lru_cache(maxsize=1)
def _opendp() -> Any:
    import opendp.prelude as dp

    dp.enable_features("contrib")
    return dp


@dataclass(slots=True, kw_only=True)
class Ledger:
    """What has been spent so far, in order."""

    spent: list[Spent] = field(default_factory=list)

    @property
    def rho(self) -> float:
        """Sum the rho of all parts."""
        return math.fsum(each.rho for each in self.spent)

    @property
    def delta(self) -> float:
        """Sum the delta of all thresholds."""
        return math.fsum(each.delta for each in self.spent)

    def of(self, prefix: str) -> float:
        """Sum the rho of the parts whose names begin so."""
        return math.fsum(each.rho for each in self.spent if each.part.startswith(prefix))


def noisy_counts(counts_K: Counts, *, rho: float, part: str, ledger: Ledger) -> Counts:
    """Return counts with discrete Gaussian noise; one unit adds one to a single count."""
    return noisy_at_scale(counts_K, scale=scale_of(rho), part=part, ledger=ledger)


def noisy_at_scale(counts_K: Counts, *, scale: float, part: str, ledger: Ledger) -> Counts:
    """Do the same with noise of a given standard deviation."""
    dp = _opendp()
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64")
    measurement = space >> dp.m.then_gaussian(scale=scale)
    ledger.spent.append(Spent(part=part, rho=float(measurement.map(1.0))))
    return np.asarray(measurement([int(count) for count in counts_K]), dtype=np.int64)


def frequent_values(
    counts: Mapping[str, int], *, rho: float, delta: float, part: str, ledger: Ledger
) -> dict[str, int]:
    """Return the values that enough units have, with noisy counts; one unit adds one to a single value.

    Which values there are is no public knowledge: with probability `delta` one that a single unit has is among them.
    """
    dp = _opendp()
    space = (
        dp.map_domain(dp.atom_domain(T="String"), dp.atom_domain(T="i64")),
        dp.l02inf_distance(dp.absolute_distance(T="i64")),
    )
    scale = scale_of(rho)
    measurement = space >> dp.m.then_gaussian_threshold(scale=scale, threshold=threshold_of(scale, delta))
    found_rho, found_delta = measurement.map((1, 1, 1))
    assert found_delta <= delta, "the threshold is of this delta"
    ledger.spent.append(Spent(part=part, rho=float(found_rho), delta=float(found_delta)))
    found: dict[str, int] = measurement(dict(counts)) if counts else {}
    return {value: int(count) for value, count in sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))}


def scale_of(rho: float) -> float:
    """Return the standard deviation of the noise on a count that costs rho."""
    return math.sqrt(1 / (2 * rho))


def best_of(scores: Sequence[float], *, rho: float, part: str, ledger: Ledger) -> int:
    """Choose about the highest of several scores, each of which one unit changes by at most one."""
    dp = _opendp()
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.linf_distance(T="i64")
    measurement = space >> dp.m.then_noisy_max(dp.zero_concentrated_divergence(), scale=(1 / (2 * rho)) ** 0.5)
    ledger.spent.append(Spent(part=part, rho=float(measurement.map(1))))
    return int(measurement([math.floor(score) for score in scores]))


def nearest_counts(noisy: Floats, total: float) -> Floats:
    """Return the nearest counts of this total that are not negative."""
    flat = np.sort(noisy.ravel())[::-1]
    excess = (flat.cumsum() - total) / np.arange(1, len(flat) + 1)
    last = int(np.flatnonzero(flat - excess > 0)[-1])
    nearest: Floats = np.maximum(noisy - excess[last], 0.0)
    return nearest
