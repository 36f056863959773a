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
    """Beta moves until KL is at a capacity: z carries that much of a record, the decoder writes the rest by itself.

    For compact decoders that were fitted to write by themselves (`decoder_fit.prefix_share`). On Adult, with .45 nats,
    records were harder to tell from real ones than with the default, but columns had a worse shape.

    As in Burgess et al. 2018 (arXiv 1804.03599) the rate is what is chosen, but it is come to from above, by control of
    beta (Shao et al. 2020, arXiv 2004.05988), and not by |KL - C| with a C that rises from 0: that is met by posteriors
    that say nothing of the record, for a shift of all means costs as many nats as news.

    With `equal_fields`, a nat of a field counts the less the more nats the field takes the decoder by itself. Otherwise
    z says what a Gaussian says most cheaply, and that is the digits of the field with the most of them, which say
    nothing of the others.
    """

    kind: Literal["capacity"] = "capacity"
    nats: float = Field(default=0.5, ge=0, description="what z carries of a record; 0: nothing, the decoder is alone")
    start: float = Field(default=0.003, gt=0, description="beta at first; at every evaluation it at most doubles")
    equal_fields: bool = Field(default=True, description="fields count more alike than their nats do")


KlConfig = Annotated[AdaptiveBeta | CyclicalBeta | ConstantBeta | CapacityKl, Field(discriminator="kind")]

TOLERANCE = 1.1
"""KL of so many times the capacity still keeps to it."""
MOST_BETA = 10.0


class KlSchedule:
    """The current beta, as a function of the step and of the evaluations seen so far."""

    def __init__(self, config: AdaptiveBeta | CyclicalBeta | ConstantBeta | CapacityKl) -> None:
        self.config = config
        self._beta = config.start if isinstance(config, AdaptiveBeta | CapacityKl) else 0.0
        self._best_nats = math.inf
        self._stale = 0
        self._settled = not isinstance(config, CapacityKl)

    @property
    def settled(self) -> bool:
        """Whether KL has come to its capacity, so that no improvement may mean that there is none left."""
        return self._settled

    def beta(self, step: int) -> float:
        """Beta at an optimizer step (counted from 0)."""
        match self.config:
            case CapacityKl() | AdaptiveBeta():
                return self._beta
            case CyclicalBeta(maximum=maximum, cycle_steps=cycle):
                return maximum * min(1.0, 2.0 * (step % cycle) / cycle)
            case ConstantBeta(value=value):
                return value

    def objective(self, worth_nats: float, kl_nats: float) -> float:
        """Return what "best" means: reconstruction at its nats' worth, and with a capacity what KL has above it.

        Without one it is reconstruction alone, as in the paper, for beta moves.
        """
        if isinstance(self.config, CapacityKl):
            return worth_nats + max(0.0, kl_nats - TOLERANCE * self.config.nats)
        return worth_nats

    def observe(self, reconstruction_nats: float, kl_nats: float) -> bool:
        """Take one evaluation; True when beta moved."""
        match self.config:
            case CapacityKl(nats=nats):
                return self._control(kl_nats, nats)
            case AdaptiveBeta():
                return self._backtrack(self.config, reconstruction_nats)
            case _:
                return False

    def _control(self, kl_nats: float, nats: float) -> bool:
        """At most double beta for too much KL, at most halve it for too little: by the root of what is off."""
        before, self._settled = self._beta, self._settled or kl_nats <= TOLERANCE * nats
        factor = math.sqrt(kl_nats / nats) if nats > 0 else 2.0
        self._beta = min(MOST_BETA, self._beta * min(2.0, max(0.5, factor)))
        return self._beta != before

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
            "settled": float(self._settled),
        }

    def load_state_dict(self, state: dict[str, float]) -> None:
        self._beta, self._best_nats, self._stale = state["beta"], state["best_nats"], int(state["stale"])
        self._settled = bool(state["settled"])
