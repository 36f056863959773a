"""When to end a training whose validation no longer gets better, with a learning rate that decays.

While the rate is high, validation goes up and down and most of what is to be learned comes with the decay: a standstill
says nothing then. What does, at any rate, is validation that got clearly worse and stays so: the rows are learned by
heart. The loop keeps the best state either way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from difflm.training.loop import LoopConfig
from difflm.training.optimizer import learning_rate_at

CLEARLY_WORSE, AT_LEAST = 0.02, 0.05
"""By this share above the best objective so far, and by as many nats: what has hardly any has noise alone."""
LOW_RATE = 0.3
"""The share of its peak below which a learning rate is low."""
STANDSTILL = 0.0005
"""A smaller share of the best objective is no improvement."""


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
