"""What a report shows beside the scores: loss curves, timings, settings, a judge's scores, published figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from difflm_evaluators.base import JSON
from difflm_evaluators.report_file import JudgeEntry


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
