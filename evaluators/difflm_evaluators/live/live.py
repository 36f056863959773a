"""Evaluation of a dataset while it grows: its settings, its scores so far, and the parts in their order."""

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from difflm.artifacts.dataset import Range
from difflm_evaluators.base import Evaluation, Score


class LiveConfig(BaseModel):
    """How a dataset is evaluated while it is made; no row depends on it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    interval_s: float = Field(default=10.0, gt=0, description="seconds between two scorings")
    min_rows: int = Field(
        default=10_000,
        ge=1,
        description="rows before gates are checked while rows are made; at the end they are checked in any case",
    )
    actors: int = Field(default=1, ge=1, description="evaluator processes, which share the parts")
    niceness: int = Field(default=15, ge=0, le=19, description="how far they stand back behind the sampling processes")
    max_queries: int = Field(
        default=20_000, ge=1, description="rows, about, whose distances are looked up; all else is of every row"
    )
    attempts: int = Field(default=3, ge=1, description="deaths of an evaluator without progress before it is given up")
    timeout_s: float = Field(default=600.0, gt=0, description="longest wait at the end for an evaluator's next answer")
    seed: int = Field(default=0, ge=0, description="of the sample of rows whose distances are looked up")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The evaluations of the first rows of a dataset, so many of them."""

    rows: int
    evaluations: tuple[Evaluation, ...]

    @property
    def scores(self) -> tuple[Score, ...]:
        """All scores."""
        return tuple(score for evaluation in self.evaluations for score in evaluation.scores)

    @property
    def values(self) -> dict[str, float]:
        """The scores that are defined, by name."""
        return {score.name: score.value for score in self.scores if score.value is not None}

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"rows": self.rows, "evaluations": [evaluation.to_json() for evaluation in self.evaluations]}


@dataclass(slots=True, kw_only=True)
class InOrder:
    """Ranges that come in any order and are handed on in the order of their indices, each once all before it are there.

    So the rows scored so far are always rows 0 ... n - 1, and what is computed of them does not depend on which worker
    was the quickest.
    """

    _next: int = 0
    _waiting: dict[int, tuple[int, bool]] = field(default_factory=dict)

    def add(self, start: int, stop: int, *, has_rows: bool) -> list[Range]:
        """Take a range; the ranges with rows that are due now. One that begins before the last one ended is none."""
        if start >= self._next:
            self._waiting[start] = (stop, has_rows)
        due: list[Range] = []
        while self._next in self._waiting:
            begin = self._next
            self._next, rows = self._waiting.pop(begin)
            if rows:
                due.append((begin, self._next))
        return due
