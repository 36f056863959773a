"""The budget: what is asked for, what each part spends of it, and what all parts together come to.

Everything that touches rows is a Gaussian mechanism or a private selection, so each part has a Rényi divergence at
every order, and these add up (Mironov 2017). Summaries are measured in zCDP: rho at every order alpha is rho * alpha.
Steps of DP-SGD are Gaussian mechanisms on a Poisson sample, whose divergence Opacus computes. Neighbouring tables
differ by one unit, a row or all rows of a person, that is added or left out.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pydantic import Field, model_validator

from difflm.config import Config
from difflm.errors import ConfigError

ORDERS: Final = (*(1 + step / 10 for step in range(1, 100)), *range(11, 64), *(64, 80, 96, 128, 192, 256, 384, 512))
COUNT_SCALE: Final = 100.0
"""Over epsilon: the noise on the number of units, which delta and the sample rate are chosen by."""
_THRESHOLDS: Final = 0.1
"""Of delta for values that are released because enough units have them."""
_LARGEST_NOISE: Final = 200.0
_PASSES: Final = 8.0
_ENOUGH_FOR_STEPS: Final = 6.0
"""On Adult summaries alone were better with an epsilon of 1 and 3, and steps as well with 10."""
PRIVACY_NAME: Final = "privacy.json"
"""In a bundle and in the decoder's folder: what is promised."""


def is_private(bundle: Path) -> bool:
    """Tell whether a bundle carries a promise, outside of which what compares it with real rows is."""
    return (bundle / PRIVACY_NAME).is_file()


class PrivacyConfig(Config):
    """Differential privacy: the budget, its unit, and how it is spent."""

    epsilon: float = Field(gt=0, le=100, description="of everything that is fitted to rows, together")
    delta: float | None = Field(
        default=None, gt=0, lt=0.01, description="None: the smaller of 1e-5 and 1 / n**1.1, n a private count of units"
    )
    unit: str | None = Field(
        default=None,
        description="the column that says whose a row is: all rows of one value are protected together, and it is left "
        "out of the model; None: every row is a unit",
    )
    leave_out: tuple[str, ...] = Field(
        default=(), description="columns that have no private form, such as free text and names of the rows"
    )
    columns: float = Field(
        default=0.15, gt=0, lt=1, description="share of the budget (of rho) for values, counts and quantiles"
    )
    pairs: float = Field(
        default=0.35, ge=0, lt=1, description="share for a tree of joint counts, which the decoder starts from"
    )
    epochs: float | None = Field(
        default=None,
        ge=0,
        description="passes over the units by DP-SGD; 0 spends all on summaries and leaves it out; None: 8 from an "
        "epsilon of 6 on, below which it has so much noise that summaries alone make better rows, and 0 else",
    )
    batch_units: int = Field(default=1024, ge=1, description="expected units of a step, at most a tenth of all")
    chunk_rows: int = Field(default=64, ge=1, description="rows whose gradients are held at once; changes no result")
    learning_rate: float = Field(default=5e-4, gt=0, description="of Adam on noisy gradients")

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        if self.columns + self.pairs >= 1 and self.passes > 0:
            raise ValueError(
                f"columns {self.columns:g} and pairs {self.pairs:g} leave nothing of the budget to DP-SGD; make their "
                "sum smaller than 1, or give epochs: 0"
            )
        return self

    @property
    def passes(self) -> float:
        """Passes over the units by DP-SGD, as asked for or by the budget."""
        if self.epochs is not None:
            return self.epochs
        return _PASSES if self.epsilon >= _ENOUGH_FOR_STEPS else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Steps of DP-SGD: a Poisson sample of `rate`, Gaussian noise of `noise` times the sensitivity."""

    rate: float
    noise: float
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What parts have spent: the name, rho of zCDP, and delta of a threshold."""

    part: str
    rho: float
    delta: float = 0.0


def epsilon_of(rho: float, steps: Steps | None, delta: float) -> float:
    """Return the epsilon at `delta` of parts with `rho` in sum and of the steps of DP-SGD."""
    import numpy as np
    from opacus.accountants.analysis import rdp

    divergence_A = rho * np.array(ORDERS)
    if steps is not None and steps.steps:
        divergence_A = divergence_A + rdp.compute_rdp(
            q=steps.rate, noise_multiplier=steps.noise, steps=steps.steps, orders=ORDERS
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the best order is the last one: a looser bound, and still one
        epsilon, _ = rdp.get_privacy_spent(orders=ORDERS, rdp=divergence_A, delta=delta)
    return float(epsilon)


def rho_of(epsilon: float, delta: float) -> float:
    """Return the largest rho of zCDP that is (epsilon, delta) private."""
    low, high = 0.0, epsilon + 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if epsilon_of(middle, None, delta) <= epsilon else (low, middle)
    return low


def noise_for(epsilon: float, delta: float, *, rho: float, rate: float, steps: int) -> float:
    """Return the least noise of `steps` steps that stays within epsilon beside what rho spends.

    Raises:
        ConfigError: no noise would do.
    """

    def spent(noise: float) -> float:
        return epsilon_of(rho, Steps(rate=rate, noise=noise, steps=steps), delta)

    low, high = 0.3, _LARGEST_NOISE
    if spent(high) > epsilon:
        raise ConfigError(
            f"privacy.epsilon {epsilon:g} leaves nothing for {steps} steps of DP-SGD beside what summaries spend; "
            "give a larger epsilon, or privacy.epochs=0"
        )
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if spent(middle) <= epsilon else (middle, high)
    return high


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a budget is divided, once the private number of units is known: delta, and rho of each part."""

    epsilon: float
    delta: float
    units: int
    columns_rho: float
    pairs_rho: float
    threshold_delta: float

    @classmethod
    def of(cls, config: PrivacyConfig, *, units: int, count_rho: float) -> Plan:
        """Divide the budget of `config` for so many units, of which `count_rho` is spent already."""
        delta = config.delta if config.delta is not None else default_delta(units)
        rho = max(rho_of(config.epsilon, delta * (1 - _THRESHOLDS)) - count_rho, 0.0)
        alone = config.passes == 0
        share = config.columns / (config.columns + config.pairs) if alone else config.columns
        pairs = 1 - share if alone else config.pairs
        # Exactly all of it could be above epsilon by a rounding of the library's.
        return cls(
            epsilon=config.epsilon,
            delta=delta,
            units=units,
            columns_rho=0.999 * rho * share,
            pairs_rho=0.999 * rho * pairs,
            threshold_delta=delta * _THRESHOLDS,
        )

    @property
    def rest_delta(self) -> float:
        """Return delta without that of thresholds."""
        return self.delta - self.threshold_delta


def default_delta(units: int) -> float:
    """Return delta where none is asked for: well below one over the units, and at most 1e-5."""
    return min(1e-5, float(1 / max(units, 1) ** 1.1))


def count_scale(epsilon: float) -> float:
    """Return the scale of the noise on the number of units."""
    return COUNT_SCALE / epsilon


def threshold_of(scale: float, delta: float) -> int:
    """Return the least noisy count whose values are released: one unit's value gets there with probability `delta`."""
    if not math.isfinite(scale):
        return 2**62
    from scipy.stats import norm

    return math.ceil(2 + scale * float(norm.isf(delta / 2)))


def least_share(plan: Plan, columns: int) -> float:
    """Return the share of units that a value needs to be released, about: what is rarer is lost."""
    rho = VALUES_SHARE * plan.columns_rho / columns
    scale = (1 / (2 * rho)) ** 0.5 if rho > 0 else float("inf")
    return threshold_of(scale, plan.threshold_delta / columns) / max(plan.units, 1)


VALUES_SHARE: Final = 0.36
"""Of a column's rho for its values one by one; see `columns`."""
LARGEST_SHARE: Final = 0.05
"""Where only values of more units than this share would be seen, nothing of a table is left."""


def refuse_too_small(config: PrivacyConfig, plan: Plan, columns: int, count_rho: float) -> None:
    """Refuse a budget under which hardly a value of the table would be seen.

    Raises:
        ConfigError: says the epsilon that so many units need, and how many units this epsilon needs.
    """
    share = least_share(plan, columns)
    if share <= LARGEST_SHARE:
        return
    enough = next((e for e in _ladder(config.epsilon) if _least(config, plan.units, columns, e) <= LARGEST_SHARE), None)
    rows = round(plan.units * share / LARGEST_SHARE, -2)
    needed = f"an epsilon of about {enough:g}" if enough is not None else "no epsilon below 100, but more rows"
    raise ConfigError(
        f"privacy.epsilon {config.epsilon:g} is too small for about {plan.units:,} units of {columns} columns: a value "
        f"would have to be in {share:.0%} of them to be seen; they need {needed}, this epsilon about {rows:,.0f} "
        "units; or leave columns out"
    )


def _least(config: PrivacyConfig, units: int, columns: int, epsilon: float) -> float:
    wished = config.model_copy(update={"epsilon": epsilon})
    rho = 1 / (2 * count_scale(epsilon) ** 2)
    return least_share(Plan.of(wished, units=units, count_rho=rho), columns)


def _ladder(epsilon: float) -> Sequence[float]:
    steps = [mantissa * 10.0**power for power in range(-2, 2) for mantissa in (1, 1.5, 2, 3, 4, 5, 6, 8)]
    return [each for each in steps if each > epsilon]
