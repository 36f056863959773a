"""What every evaluator returns: scores that are numbers or say why there is none, and the details behind them."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from difflm.errors import EvaluationError
from difflm.telemetry import JSON

Direction = Literal["lower", "higher", "target"]

TEST_LABEL = "real test split"
"""What a baseline is called that the real test split gets in the place of the synthetic table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One number with all that is needed to read it.

    Either `value` is a finite number and `undefined_because` is None, or `value` is None and `undefined_because` says
    why in one sentence. `baseline` is the same score for real data (the test split in the place of the synthetic table,
    or the model trained on real data): what a perfect generator would get. `interval` is the 95 % confidence interval
    where there is one. `warning` is what nobody who uses the table may miss.

    Raises:
        EvaluationError: when a number is not finite, or when a value and a reason are both given or both missing.
    """

    name: str
    title: str
    meaning: str
    value: float | None
    direction: Direction
    unit: str = ""
    bounds: tuple[float | None, float | None] = (None, None)
    ideal: float | None = None
    standard_error: float | None = None
    interval: tuple[float, float] | None = None
    baseline: float | None = None
    baseline_label: str | None = None
    undefined_because: str | None = None
    warning: str | None = None

    def __post_init__(self) -> None:
        """Refuse NaN, infinities and half-defined scores."""
        numbers = {label: getattr(self, label) for label in ("value", "ideal", "standard_error", "baseline")}
        if self.interval is not None:
            numbers |= {"interval's lower end": self.interval[0], "interval's upper end": self.interval[1]}
        for label, number in numbers.items():
            if number is not None and not math.isfinite(number):
                raise EvaluationError(
                    f"score {self.name!r}: {label} is {number}; a score is a finite number, or undefined with a reason"
                )
        if (self.value is None) == (self.undefined_because is None):
            raise EvaluationError(
                f"score {self.name!r}: value={self.value} with undefined_because={self.undefined_because!r}; "
                "give exactly one of the two"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The scores of one evaluator and, in `details`, the JSON that explains and pictures them."""

    name: str
    scores: tuple[Score, ...]
    details: Mapping[str, JSON] = field(default_factory=dict)

    def score(self, name: str) -> Score:
        """Return the score called `name`; EvaluationError names the ones there are."""
        for score in self.scores:
            if score.name == name:
                return score
        known = ", ".join(score.name for score in self.scores)
        raise EvaluationError(f"evaluation {self.name!r} has no score {name!r}; it has: {known}")

    def to_json(self) -> dict[str, JSON]:
        """Return the evaluation as plain JSON values."""
        scores: list[JSON] = [{**asdict(score), "bounds": list(score.bounds)} for score in self.scores]
        return {"name": self.name, "scores": scores, "details": dict(self.details)}
