"""The layout of report.json: what writes a report and what reads one agree on it, and its JSON schema comes from here.

`details` of an evaluation are free JSON: they explain and picture its scores, and each evaluator documents its own.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, JsonValue, NonNegativeInt, ValidationError, model_validator

from difflm.errors import MISFITS, DataError, reason_of
from difflm.regular_files import read_file
from difflm.telemetry import JSON, parse_json
from difflm_evaluators.base import Direction, Score

REPORT_SCHEMA_VERSION = 2
SCHEMA_FILE = Path(__file__).with_name("report.schema.json")

_DEFINED: Any = {
    "required": ["value"],
    "properties": {"value": {"type": "number"}, "undefined_because": {"type": "null"}},
}
_UNDEFINED: Any = {"properties": {"value": {"type": "null"}, "undefined_because": {"type": "string"}}}


class _Entry(BaseModel):
    """A part of the file: every key is there, and no other."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ScoreEntry(_Entry):
    """A score as `difflm_evaluators.base.Score` describes it: a number, or the reason why there is none."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, json_schema_extra={"oneOf": [_DEFINED, _UNDEFINED]}
    )

    name: str
    title: str
    meaning: str
    value: float | None
    direction: Direction
    unit: str
    bounds: tuple[float | None, float | None]
    ideal: float | None
    standard_error: float | None
    interval: tuple[float, float] | None
    baseline: float | None
    baseline_label: str | None
    undefined_because: str | None
    warning: str | None

    @model_validator(mode="after")
    def _number_or_reason(self) -> Self:
        if (self.value is None) == (self.undefined_because is None):
            raise ValueError("give exactly one of value and undefined_because")
        return self


AnyScore = Score | ScoreEntry
"""A score as it was computed, or as a file holds it: the same fields."""


class EvaluationEntry(_Entry):
    """One evaluator's scores, and the numbers behind them."""

    name: str
    scores: tuple[ScoreEntry, ...]
    details: dict[str, JsonValue]


class RowCounts(_Entry):
    """Rows of each table; 0 where there was none."""

    train: NonNegativeInt
    validation: NonNegativeInt
    test: NonNegativeInt
    synthetic: NonNegativeInt


class RealHashes(_Entry):
    """Digests of the real tables' rows in whatever order, equal for equal tables; null where there was none."""

    train: str
    validation: str | None
    test: str | None


class PublishedEntry(_Entry):
    """A figure that somebody else printed, and where."""

    method: str
    score: str
    value: float
    source: str


class JudgeEntry(_Entry):
    """Who judged the synthetic records, whether every question was asked, and the scores."""

    title: str
    protocol: str
    model: str
    complete: bool
    questions: NonNegativeInt
    answered: NonNegativeInt
    scores: tuple[ScoreEntry, ...]


Question = Literal["faithful", "useful", "private"]
Colour = Literal["green", "amber", "red", "grey"]


class FigureEntry(_Entry):
    """A score that an answer rests on, and how both of its numbers are written."""

    score: str
    title: str
    value: float
    baseline: float | None
    text: str
    beside: str


class AnswerEntry(_Entry):
    """The answer to a question: a colour (grey: not measured), the same as a word, a sentence, up to two figures."""

    question: Question
    colour: Colour
    word: str
    sentence: str
    figures: tuple[FigureEntry, ...]


class VerdictEntry(_Entry):
    """What the scores come to: three answers, which of them is worst (null: all are green), and what to do about it."""

    answers: tuple[AnswerEntry, ...]
    worst: Question | None
    advice: tuple[str, ...]


class ReportFile(_Entry):
    """The whole file. `columns` maps names to kinds of the schema; `seconds` and `timings` are wall times.

    `verdict` is null in reports that are older than verdicts.
    """

    schema_version: Literal[2]
    title: str
    rows: RowCounts
    real: RealHashes
    columns: dict[str, str]
    target: str | None
    task: str | None
    config: dict[str, JsonValue]
    evaluations: tuple[EvaluationEntry, ...]
    seconds: dict[str, float]
    settings: dict[str, JsonValue]
    environment: dict[str, JsonValue]
    timings: dict[str, float]
    published: tuple[PublishedEntry, ...]
    judge: JudgeEntry | None
    verdict: VerdictEntry | None = None

    @property
    def scores(self) -> dict[str, ScoreEntry]:
        """Every score by its name, in the order of the evaluations."""
        return {score.name: score for evaluation in self.evaluations for score in evaluation.scores}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What no reader of the synthetic table may miss."""
        return tuple(score.warning for score in self.scores.values() if score.warning is not None)

    def details(self, evaluation: str) -> Mapping[str, Any]:
        """Return the details of an evaluation, empty when it was left out."""
        return next((entry.details for entry in self.evaluations if entry.name == evaluation), {})


def read_report(path: Path) -> ReportFile:
    """Read a report.json.

    Raises:
        DataError: there is none, it is no report, or it has another layout; names the file and what is wrong.
    """
    try:
        data = parse_json(read_file(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such report; give a run, a report.json, or a folder that holds one") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); give a report.json") from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != REPORT_SCHEMA_VERSION:
        raise DataError(
            f"{path}: report of layout {version}, this version reads {REPORT_SCHEMA_VERSION}; evaluate the table again"
        )
    try:
        return ReportFile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{path}: {where}: {first['msg']}; evaluate the table again") from None


@contextmanager
def readable(*paths: Path) -> Iterator[None]:
    """Say that a report that was read has details of another form, where what shows them stumbles over one.

    Raises:
        DataError: it did; names the reports.
    """
    try:
        yield
    except MISFITS as error:
        reason = reason_of(error)
        raise DataError(
            f"{', '.join(map(str, paths))}: the details of its scores are of another form than this version writes "
            f"({reason}); evaluate the table again"
        ) from error


def report_schema() -> str:
    """Build the JSON schema of report.json (draft 2020-12) as text; `report.schema.json` here holds the same."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **ReportFile.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedScore:
    """A figure printed by somebody else, for the score called `score`; `source` says where, and is always shown."""

    method: str
    score: str
    value: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContext:
    """What the report shows beside the scores.

    `loss_curves` maps a stage to its events: each has "step" and "loss" and may have "kind" ("train" or "validation");
    `timings` maps a stage to seconds; `settings` is whatever made the data, nested as it comes, and `environment` the
    versions and the machine that did.
    """

    title: str
    settings: Mapping[str, JSON] = field(default_factory=dict)
    environment: Mapping[str, JSON] = field(default_factory=dict)
    loss_curves: Mapping[str, Sequence[Mapping[str, JSON]]] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    published: Sequence[PublishedScore] = ()
    judge: JudgeEntry | None = None
