"""Schedules of the weight beta of the KL term: the paper's backtracking rule, two for its ablation, and, as an option,
one that leaves z a capacity of some nats.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from difflm.config import Config


class AdaptiveBeta(Config):
    """Beta falls by `factor` whenever validation reconstruction has not improved for `backtracking_interval`
    evaluations (DiffLM, section 3.2).
    """

    kind: Literal["adaptive"] = "adaptive"
    start: float = Field(default=0.1, gt=0)
    minimum: float = Field(default=0.001, gt=0)
    factor: float = Field(default=0.7, gt=0, lt=1)
    backtracking_interval: int = Field(default=2, ge=1)
    minimum_improvement: float = Field(default=0.0, ge=0, description="relative improvement that counts as one")

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if self.minimum > self.start:
            raise ValueError(f"minimum {self.minimum} must not be above start {self.start}, from which beta falls")
        return self


class CyclicalBeta(Config):
    """Beta rises linearly from 0 to `maximum` over the first half of each cycle and stays there.

    Source: Fu et al. 2019, arXiv 1903.10145.
    """

    kind: Literal["cyclical"] = "cyclical"
    maximum: float = Field(default=0.2, gt=0)
    cycle_steps: int = Field(default=1000, ge=2)


class ConstantBeta(Config):
    """One beta throughout."""

    kind: Literal["constant"] = "constant"
    value: float = Field(default=0.01, ge=0)


class CapacityKl(Config):
    """KL costs nothing up to a capacity and its full price above: z carries that much, the decoder writes the rest.

    For latents of a few nats, beside decoders that know or learn the rest. The free bits of Kingma et al. 2016 (arXiv
    1606.04934), of all of z at once. |KL - C| with a C that rises from 0 (Burgess et al. 2018, arXiv 1804.03599) is
    also met by posteriors that say nothing of the record, for a shift of all means costs as many nats as news.
    """

    kind: Literal["capacity"] = "capacity"
    nats: float = Field(default=2.0, ge=0, description="what z carries of a record; 0: nothing, the decoder is alone")


KlConfig = Annotated[AdaptiveBeta | CyclicalBeta | ConstantBeta | CapacityKl, Field(discriminator="kind")]


class KlSchedule:
    """The current beta, as a function of the step and of the evaluations seen so far."""

    def __init__(self, config: AdaptiveBeta | CyclicalBeta | ConstantBeta | CapacityKl) -> None:
        self.config = config
        self._beta = config.start if isinstance(config, AdaptiveBeta) else 0.0
        self._best_nats = math.inf
        self._stale = 0

    @property
    def capacity(self) -> float:
        """The nats of KL that cost nothing."""
        return self.config.nats if isinstance(self.config, CapacityKl) else 0.0

    def beta(self, step: int) -> float:
        """Beta at an optimizer step (counted from 0)."""
        match self.config:
            case CapacityKl():
                return 1.0
            case AdaptiveBeta():
                return self._beta
            case CyclicalBeta(maximum=maximum, cycle_steps=cycle):
                return maximum * min(1.0, 2.0 * (step % cycle) / cycle)
            case ConstantBeta(value=value):
                return value

    def objective(self, reconstruction_nats: float, kl_nats: float) -> float:
        """Return what "best" means: reconstruction, and with a capacity what KL has above it.

        Without one it is reconstruction alone, as in the paper, for beta moves.
        """
        if isinstance(self.config, CapacityKl):
            return reconstruction_nats + max(0.0, kl_nats - self.config.nats)
        return reconstruction_nats

    def observe(self, reconstruction_nats: float) -> bool:
        """Take one evaluation; True when beta moved."""
        return isinstance(self.config, AdaptiveBeta) and self._backtrack(self.config, reconstruction_nats)

    def _backtrack(self, config: AdaptiveBeta, reconstruction_nats: float) -> bool:
        if reconstruction_nats < self._best_nats * (1.0 - config.minimum_improvement):
            self._best_nats, self._stale = reconstruction_nats, 0
            return False
        self._stale += 1
        if self._stale < config.backtracking_interval or self._beta <= config.minimum:
            return False
        self._beta, self._stale = max(self._beta * config.factor, config.minimum), 0
        return True

    def state_dict(self) -> dict[str, float]:
        return {
            "beta": self._beta,
            "best_nats": self._best_nats,
            "stale": float(self._stale),
        }

    def load_state_dict(self, state: dict[str, float]) -> None:
        self._beta, self._best_nats, self._stale = state["beta"], state["best_nats"], int(state["stale"])
