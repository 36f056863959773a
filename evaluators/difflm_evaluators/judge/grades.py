"""Grades of records: every record is asked about by its rubric, and the answers become one score per criterion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from difflm.telemetry import JSON
from difflm_evaluators.base import Evaluation, Score
from difflm_evaluators.judge.answers import Answers
from difflm_evaluators.judge.questions import SYSTEM, Question, Record
from difflm_evaluators.judge.rubric import MEAN, TOOL_RUBRIC, Criterion, Rubric, answer_model, rubric_prompt
from difflm_evaluators.judge.statistics import SampleMean, agreement, mean_estimate

RECORDS, REAL = "records", "real"
REAL_LABEL = "real records"
_WORST = 10

_Grades = Mapping[int, Sequence[Mapping[str, Any] | None]]
"""The answers of all repeats by the record's row, None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RubricProtocol:
    """Grades of records, and beside them those of real records when there are any."""

    name: str
    rubric: Rubric
    records: Sequence[Record]
    real: Sequence[Record] = ()

    @property
    def answer_model(self) -> type[BaseModel]:
        """A reason, and one whole number for every criterion."""
        return answer_model(self.rubric)

    def questions(self, repeats: int) -> list[Question]:
        """Ask one per record and repeat; the first of all, then the second of all: a run that stops saw many."""
        return [
            Question(
                item=_item(record),
                variant=variant,
                repeat=repeat,
                system=SYSTEM,
                user=rubric_prompt(self.rubric, record),
            )
            for repeat in range(repeats)
            for variant, records in ((RECORDS, self.records), (REAL, self.real))
            for record in records
        ]

    def evaluate(self, answers: Answers, repeats: int) -> Evaluation:
        """Return one score per measure, over the records that have at least one readable answer."""
        graded = _grades(self.records, RECORDS, answers, repeats)
        real = _grades(self.real, REAL, answers, repeats)
        measures = _measures(self.rubric)
        scores: list[Score] = []
        estimates: dict[str, JSON] = {}
        baselines: dict[str, JSON] = {}
        agreements: dict[str, JSON] = {}
        for measure in measures:
            own, baseline = measure.estimate(graded), measure.estimate(real)
            scores.append(self._score(measure, own, baseline))
            estimates[measure.score_name] = None if own is None else own.to_json()
            baselines[measure.score_name] = None if baseline is None else baseline.to_json()
            ratings = [[measure.value(answer) for answer in row] for row in graded.values()]
            agreements[measure.score_name] = agreement(ratings, "interval").to_json()
        details: dict[str, JSON] = {
            "estimates": estimates,
            "baselines": baselines,
            "agreement": agreements,
            "lowest": _lowest(graded, measures[0]),
        }
        return Evaluation(name=f"judge_{self.name}", scores=tuple(scores), details=details)

    def _score(self, measure: _Measure, own: SampleMean | None, baseline: SampleMean | None) -> Score:
        missing = len(self.records) - (0 if own is None else own.count)
        warning = f"{missing:,} of {len(self.records):,} records have no readable answer and take no part"
        return Score(
            name=measure.score_name,
            title="Judge: " + measure.name.replace("_", " "),
            meaning=" ".join(measure.meaning.split()),
            value=None if own is None else own.value,
            direction="higher",
            bounds=(measure.low, measure.high),
            unit=measure.unit,
            standard_error=None if own is None else own.standard_error,
            baseline=None if baseline is None else baseline.value,
            baseline_label=None if baseline is None else REAL_LABEL,
            undefined_because="no record has a readable answer" if own is None else None,
            warning=warning if missing and own is not None else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measure:
    """One column of grades: a criterion on its own scale, or several together, each scaled to 0 to 100."""

    name: str
    meaning: str
    criteria: tuple[Criterion, ...]
    low: float
    high: float
    unit: str = ""

    @property
    def score_name(self) -> str:
        """What its score is called."""
        return f"judge_{self.name}"

    def value(self, answer: Mapping[str, Any] | None) -> float | None:
        """Read the grade in an answer."""
        if answer is None:
            return None
        shares: list[float] = [(answer[c.name] - c.lowest) / (c.highest - c.lowest) for c in self.criteria]
        return self.low + (self.high - self.low) * sum(shares) / len(shares)

    def mean(self, row: Sequence[Mapping[str, Any] | None]) -> float | None:
        """Compute the mean grade of a record over its repeats."""
        values = [value for answer in row if (value := self.value(answer)) is not None]
        return sum(values) / len(values) if values else None

    def estimate(self, grades: _Grades) -> SampleMean | None:
        """Over records, each with the mean of its repeats: repeats of one record are not independent."""
        means = [mean for row in grades.values() if (mean := self.mean(row)) is not None]
        return mean_estimate(means, self.low, self.high) if means else None


def _measures(rubric: Rubric) -> list[_Measure]:
    """List every criterion, the headline first; without a headline, the mean of all comes first."""
    single = [
        _Measure(name=c.name, meaning=c.description, criteria=(c,), low=c.lowest, high=c.highest)
        for c in sorted(rubric.criteria, key=lambda c: c.name != rubric.headline)
    ]
    if rubric.headline is not None or len(single) == 1:
        return single
    meaning = "mean over the criteria, each scaled to 0 to 100"
    return [_Measure(name=MEAN, meaning=meaning, criteria=rubric.criteria, low=0, high=100, unit="%"), *single]


def _item(record: Record) -> str:
    return f"row {record.row}"


def _grades(records: Sequence[Record], variant: str, answers: Answers, repeats: int) -> _Grades:
    return {
        record.row: [answers.values(_item(record), variant, repeat) for repeat in range(repeats)] for record in records
    }


def _lowest(grades: _Grades, headline: _Measure) -> list[JSON]:
    """List the records with the lowest grades, with the judge's reasons."""
    means = {row: mean for row, answers in grades.items() if (mean := headline.mean(answers)) is not None}
    worst = sorted(means, key=lambda row: (means[row], row))[:_WORST]
    return [
        {"row": row, "grade": means[row], "reason": next(str(a["reason"]) for a in grades[row] if a is not None)}
        for row in worst
    ]


def tool_protocol(records: Sequence[Record], real: Sequence[Record] = ()) -> RubricProtocol:
    """Make the protocol of the single-tool score."""
    return RubricProtocol(name="tools", rubric=TOOL_RUBRIC, records=records, real=real)
