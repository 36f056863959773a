"""When to end a training whose validation no longer gets better, with a learning rate that decays, and when later.

While the rate is high, validation goes up and down and most of what is to be learned comes with the decay: a standstill
says nothing then. What does, at any rate, is validation that got clearly worse and stays so: the rows are learned by
heart. The loop keeps the best state either way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from difflm.training.loop import LoopConfig
from difflm.training.optimizer import learning_rate_at

CLEARLY_WORSE, AT_LEAST = 0.02, 0.05
"""By this share above the best objective so far, and by as many nats: what has hardly any has noise alone."""
LOW_RATE = 0.3
"""The share of its peak below which a learning rate is low."""
STANDSTILL = 0.0005
"""A smaller share of the best objective is no improvement."""
LATE = 0.7
"""The share of the steps behind which most trainings have learned what there is to learn."""
STILL_BETTER, WITHIN = 0.002, 0.05
"""Validation that gets better by this share of itself within such a share of the steps has more to gain."""
LONGER = 1.5
"""By how much more steps such a training becomes longer, each time."""


def rate_share(step: int, total: int, loop: LoopConfig) -> float:
    """Return the share of its peak that the learning rate has after `step` of `total` steps; a constant one has 0.

    A rate that never comes down is no reason to wait.
    """
    if loop.schedule == "constant":
        return 0.0
    warmup, last = loop.warmup_steps, max(0, min(step, total) - 1)
    return learning_rate_at(last, total, peak=1.0, warmup_steps=warmup, schedule=loop.schedule)


@dataclass(slots=True, kw_only=True)
class Patience:
    """Counts evaluations in a row without improvement, and those that are clearly worse than the best."""

    evaluations: int
    best: float = math.inf
    stale: int = 0
    worse: int = 0

    def ends(self, objective: float, *, rate: float) -> bool:
        """Take an objective (nats, lower is better) at a share of the peak learning rate; say whether to stop."""
        improved = not math.isfinite(self.best) or objective < self.best * (1 - STANDSTILL)
        worse = objective > self.best + max(self.best * CLEARLY_WORSE, AT_LEAST)
        self.stale = 0 if improved else self.stale + 1
        self.worse = self.worse + 1 if worse else 0
        self.best = min(self.best, objective)
        return self.worse >= self.evaluations or (rate < LOW_RATE and self.stale >= self.evaluations)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs."""
        return {"best": self.best, "stale": self.stale, "worse": self.worse}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.best, self.stale, self.worse = state["best"], state["stale"], state["worse"]


@dataclass(slots=True, kw_only=True)
class Lengthening:
    """How many times as long as planned a training becomes, `most` at most, for it still gets better late."""

    most: float
    times: float = 1.0
    seen: list[tuple[int, float]] = field(default_factory=list)

    def observe(self, objective: float, *, step: int, total: int) -> None:
        """Take an objective (nats, lower is better) after `step` of `total` steps, the latter as they are by now."""
        before = [known for known in self.seen if known[0] <= step - WITHIN * total]
        self.seen.append((step, objective))
        if step < LATE * total or self.times >= self.most or not before:
            return
        place, then = before[-1][0], min(known for _, known in before)
        if (then - objective) * WITHIN * total / (step - place) > STILL_BETTER * then:
            self.times = min(self.most, self.times * LONGER)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs."""
        return {"times": self.times, "seen": list(self.seen)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.times, self.seen = state["times"], list(state["seen"])
