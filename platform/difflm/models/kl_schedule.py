"""What the KL term is worth: a capacity of some nats, or a weight beta by the paper's rule, cyclical or constant.

All are one term, beta * max(0, KL - C), in nats: a capacity sets C, the schedules of beta leave it at 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from difflm.config import Config


class CapacityKl(Config):
    """KL costs nothing up to a capacity, which falls to `nats`: z carries that much of a record, and the decoder writes
    the rest by itself.

    As in Burgess et al. 2018 (arXiv 1804.03599) the rate is what is chosen, but from above and from one side. A
    capacity that rises from 0, and |KL - C|, are met by posteriors that say nothing of the record: a decoder that
    writes the table well by itself has little to ask for, and a shift of all means costs as many nats as news. So z
    learns to carry records first (`free_share` of the steps of the fall), and then drops what saves the decoder least.
    """

    kind: Literal["capacity"] = "capacity"
    nats: float = Field(default=4.0, ge=0, description="what z carries of a record; 0: nothing, the decoder is alone")
    start: float = Field(default=64.0, ge=0, description="nats from which the capacity falls")
    weight: float = Field(default=2.0, gt=1, description="of nats above the capacity; a nat of z saves up to 1")
    fall_steps: int = Field(default=400, ge=1, description="optimizer steps until the capacity is at `nats`")
    equal_fields: bool = Field(default=True, description="fields count alike, however many nats they take")
    free_share: float = Field(default=0.25, ge=0, lt=1, description="of these steps, at first, in which KL is free")

    def at(self, step: int) -> float:
        """The capacity at an optimizer step: geometric in nats + 1."""
        done = (step / self.fall_steps - self.free_share) / (1.0 - self.free_share)
        if done < 0.0:
            return math.inf
        share = min(1.0, done)
        ends = math.log1p(max(self.start, self.nats)), math.log1p(self.nats)
        return math.expm1((1.0 - share) * ends[0] + share * ends[1])


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


class AutoKl(Config):
    """A capacity for a compact decoder, which can write the table by itself.

    For a pretrained one, which cannot, and where conditions are to be asked for, which are met in z, a beta that falls
    until z carries most of the record.
    """

    kind: Literal["auto"] = "auto"

    def chosen(self, *, decoder_kind: str, conditions: bool) -> ChosenKl:
        """What is meant for a decoder of this kind, with or without a conditional prior."""
        if decoder_kind == "compact" and not conditions:
            return CapacityKl()
        return AdaptiveBeta(start=0.01, minimum=0.001, minimum_improvement=0.01)


ChosenKl = CapacityKl | AdaptiveBeta | CyclicalBeta | ConstantBeta
KlConfig = Annotated[
    AutoKl | CapacityKl | AdaptiveBeta | CyclicalBeta | ConstantBeta,
    Field(discriminator="kind"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class KlTerm:
    """The term beta * max(0, KL - capacity); an infinite capacity takes it away."""

    beta: float
    capacity_nats: float = 0.0

    def __str__(self) -> str:
        if math.isinf(self.capacity_nats):
            return "KL is free"
        return f"capacity {self.capacity_nats:.4g} nats" if self.capacity_nats else f"beta {self.beta:.4g}"


class KlSchedule:
    """The current term, as a function of the step and of the validation losses seen so far."""

    def __init__(self, config: ChosenKl) -> None:
        self.config = config
        self._beta = config.start if isinstance(config, AdaptiveBeta) else 0.0
        self._best_nats = math.inf
        self._stale = 0

    def term(self, step: int) -> KlTerm:
        """The term at an optimizer step (counted from 0)."""
        match self.config:
            case CapacityKl(weight=weight):
                return KlTerm(beta=weight, capacity_nats=self.config.at(step))
            case AdaptiveBeta():
                return KlTerm(beta=self._beta)
            case CyclicalBeta(maximum=maximum, cycle_steps=cycle):
                return KlTerm(beta=maximum * min(1.0, 2.0 * (step % cycle) / cycle))
            case ConstantBeta(value=value):
                return KlTerm(beta=value)

    def objective(self, worth_nats: float, kl_nats: float) -> float:
        """What "best" means: reconstruction, at what its nats are worth, and what KL has above where a capacity ends.

        Without a capacity it is reconstruction alone, as in the paper, for beta moves.
        """
        if isinstance(self.config, CapacityKl):
            return worth_nats + self.config.weight * max(0.0, kl_nats - self.config.nats)
        return worth_nats

    def settled(self, step: int) -> bool:
        """Whether the capacity has fallen, so that no improvement may mean that there is none left."""
        return not isinstance(self.config, CapacityKl) or step >= self.config.fall_steps

    def observe(self, reconstruction_nats: float) -> bool:
        """Take one validation reconstruction loss; True when beta moved."""
        if not isinstance(self.config, AdaptiveBeta):
            return False
        if reconstruction_nats < self._best_nats * (1.0 - self.config.minimum_improvement):
            self._best_nats, self._stale = reconstruction_nats, 0
            return False
        self._stale += 1
        if self._stale < self.config.backtracking_interval or self._beta <= self.config.minimum:
            return False
        self._beta, self._stale = max(self._beta * self.config.factor, self.config.minimum), 0
        return True

    def state_dict(self) -> dict[str, float]:
        return {"beta": self._beta, "best_nats": self._best_nats, "stale": float(self._stale)}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self._beta, self._best_nats, self._stale = state["beta"], state["best_nats"], int(state["stale"])
