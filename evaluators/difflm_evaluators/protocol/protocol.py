"""One synthetic table under the published protocol: every figure with its detector, its baseline and printed figures.

The real training rows are what is compared with. A baseline is what real held-out rows get in the synthetic rows'
place; of usefulness, what training on real rows gives. Printed figures stand beside scores of the same definition
only; where there is none, the figure says why.
"""

import importlib.metadata
import importlib.resources
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from difflm.errors import DataError
from difflm_evaluators.base import JSON, TEST_LABEL, Score
from difflm_evaluators.columns.columns import Columns, Labels, read_columns, row_count, take_rows
from difflm_evaluators.privacy.distances import StreamingDistances
from difflm_evaluators.protocol.sdmetrics_scores import UnknownCategoryError, detection, quality, require_sdmetrics
from difflm_evaluators.protocol.spec import ProtocolSpec, require_column
from difflm_evaluators.protocol.support import support_scores
from difflm_evaluators.scores.utility import UtilityConfig, evaluate_utility

OWN = "difflm_evaluators"
NO_FIGURES = "no published figures of this table"
Progress = Callable[[str], None]


class ProtocolConfig(BaseModel):
    """`seed` draws folds and samples, `utility_seeds` the held-out ninths; `threads` is what each measure may use."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    seed: NonNegativeInt = 0
    utility_seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    threads: PositiveInt = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """A method's published mean over its models, and their standard deviation."""

    method: str
    value: float
    deviation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A score, what measured it, how long that took, and what is printed of others; `unprinted` says why nothing is."""

    score: Score
    measured_by: str
    seconds: float
    printed: tuple[Printed, ...] = ()
    unprinted: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolResult:
    """All figures of one synthetic table, and all that is needed to read and repeat them; no rows."""

    spec: ProtocolSpec
    figures: tuple[Figure, ...]
    rows: Mapping[str, int]
    kinds: Mapping[str, str]
    left_out: tuple[str, ...]
    source: str | None
    versions: Mapping[str, str]
    config: ProtocolConfig

    def figure(self, name: str) -> Figure:
        """Return the figure called `name`; KeyError for any other."""
        return {figure.score.name: figure for figure in self.figures}[name]

    def to_json(self) -> dict[str, JSON]:
        """The result as plain JSON values."""
        told: dict[str, Any] = {
            "table": self.spec.name,
            "target": self.spec.target,
            "task": self.spec.task,
            "rows": dict(self.rows),
            "kinds": dict(self.kinds),
            "figures": [asdict(figure) for figure in self.figures],
            "left_out": list(self.left_out),
            "published_source": self.source,
            "versions": dict(self.versions),
            "config": self.config.model_dump(mode="json"),
        }
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tables:
    synthetic: Columns
    train: Columns
    test: Columns


def evaluate_protocol(
    synthetic: pa.Table,
    train: pa.Table,
    test: pa.Table,
    spec: ProtocolSpec,
    config: ProtocolConfig | None = None,
    *,
    progress: Progress = lambda _: None,
) -> ProtocolResult:
    """Score `synthetic` against `train`, with `test` as the rows that were held out.

    `progress(part)` is called before each part. Columns that the specification does not name are left out.

    Raises:
        ConfigError: SDMetrics is not installed.
        DataError: a table has no rows, lacks a column, or holds what its kind cannot.
    """
    require_sdmetrics()
    config = config or ProtocolConfig()
    named = {"synthetic": synthetic, "real training": train, "real test": test}
    for role, table in named.items():
        if table.num_rows < 2:
            raise DataError(f"{role} table has {table.num_rows} rows; give at least two")
        for name in spec.columns:
            require_column(table, name, role)
    schema = spec.schema(train)
    read = [read_columns(table.select(list(schema.names)), schema, role) for role, table in named.items()]
    texts = tuple(name for name, column in read[1].items() if column.kind == "text")
    ordered = [name for name in spec.columns if name not in texts]
    given, real, held_out = ({name: one[name] for name in ordered} for one in _plain_codes(read))
    tables = _Tables(synthetic=given, train=real, test=held_out)
    parts: Sequence[tuple[str, Callable[[], tuple[list[Figure], list[str]]]]] = (
        ("shape and trend", lambda: _quality_figures(tables)),
        ("detection by logistic regression", lambda: _detection_figures(tables, "logistic", config)),
        ("detection by XGBoost", lambda: _detection_figures(tables, "xgboost", config)),
        ("alpha-precision and beta-recall", lambda: _support_figures(tables, config)),
        ("usefulness", lambda: _utility_figures(tables, schema, spec, config)),
        ("distances", lambda: _distance_figures(tables, config)),
    )
    figures: list[Figure] = []
    left_out = [f"column {name!r} is free text, left out" for name in texts]
    for title, measure in parts:
        progress(title)
        started = time.perf_counter()
        found, notes = measure()
        seconds = round((time.perf_counter() - started) / len(found), 2)
        figures += [replace(figure, seconds=seconds) for figure in found]
        left_out += notes
    published = read_published()
    return ProtocolResult(
        spec=spec,
        figures=tuple(_beside(figure, published, spec.name) for figure in figures),
        rows={role: table.num_rows for role, table in named.items()},
        kinds={name: column.kind for name, column in real.items()},
        left_out=tuple(left_out),
        source=published["source"] if spec.name is not None else None,
        versions={name: importlib.metadata.version(name) for name in ("sdmetrics", "xgboost", "scikit-learn")},
        config=config,
    )


def read_published() -> dict[str, Any]:
    """The published figures: their `source`, `methods`, and `figures` by table, score and method."""
    text = (importlib.resources.files(__package__) / "published.yaml").read_text(encoding="utf-8")
    published: dict[str, Any] = yaml.safe_load(text)
    return published


def _beside(figure: Figure, published: Mapping[str, Any], table: str | None) -> Figure:
    """The figure with what is printed of the same measure on the same table."""
    if figure.unprinted is not None:
        return figure
    rows = published["figures"].get(table, {}).get(figure.score.name)
    if rows is None:
        return replace(figure, unprinted=NO_FIGURES)
    return replace(figure, printed=tuple(Printed(method=m, value=v, deviation=d) for m, (v, d) in rows.items()))


def _plain_codes(tables: Sequence[Columns]) -> list[Columns]:
    """The tables with 1.0 spelled as 1 in categories whose training values are all whole numbers."""
    _, train, _ = tables
    whole = {
        name
        for name, column in train.items()
        if column.kind == "category" and all(_is_whole(text) for text in Labels.of(column.labels_N).values)
    }

    def spell(text: str) -> str:
        head, _, tail = text.partition(".")
        return head if _is_whole(head) and set(tail) <= {"0"} else text

    return [
        {
            name: replace(column, labels_N=Labels.of(column.labels_N).spelled(spell)) if name in whole else column
            for name, column in table.items()
        }
        for table in tables
    ]


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdigit()


def _quality_figures(tables: _Tables) -> tuple[list[Figure], list[str]]:
    (found, notes), (baseline, _) = quality(tables.synthetic, tables.train), quality(tables.test, tables.train)
    about = {
        "shape_error": ("Shape error", "Mean over columns of the Kolmogorov-Smirnov statistic or the total variation."),
        "trend_error": ("Trend error", "Mean over pairs of half the difference of correlations, or total variation."),
    }
    figures = [
        _figure(
            Score(
                name=name,
                title=title,
                meaning=meaning,
                value=found[name],
                undefined_because=None if found[name] is not None else "SDMetrics could score no column or pair",
                unit="%",
                direction="lower",
                bounds=(0.0, 100.0),
                ideal=0.0,
                baseline=baseline[name],
                baseline_label=TEST_LABEL,
            ),
            "SDMetrics QualityReport, all rows, all pairs",
        )
        for name, (title, meaning) in about.items()
    ]
    return figures, notes


def _figure(score: Score, measured_by: str, unprinted: str | None = None) -> Figure:
    return Figure(score=score, measured_by=measured_by, seconds=0.0, unprinted=unprinted)


def _detection_figures(tables: _Tables, detector: str, config: ProtocolConfig) -> tuple[list[Figure], list[str]]:
    names = {"logistic": "SDMetrics LogisticDetection", "xgboost": "SDMetrics' harness, default XGBClassifier"}
    titles = {"logistic": "C2ST, logistic regression", "xgboost": "C2ST, XGBoost"}
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for role, table in (("synthetic", tables.synthetic), (TEST_LABEL, tables.test)):
        try:
            values[role] = detection(table, tables.train, detector=detector, seed=config.seed, threads=config.threads)
        except UnknownCategoryError as error:
            values[role], reasons[role] = None, str(error)
    score = Score(
        name=f"c2st_{detector}",
        title=titles[detector],
        meaning="ROC-AUC of a classifier that tells synthetic from training rows; 0.5 is a coin.",
        value=values["synthetic"],
        undefined_because=reasons.get("synthetic"),
        direction="lower",
        bounds=(0.5, 1.0),
        ideal=0.5,
        baseline=values[TEST_LABEL],
        baseline_label=TEST_LABEL,
    )
    unread = [f"baseline of {titles[detector]} undefined: {reason}" for reason in _last(reasons, TEST_LABEL)]
    return [_figure(score, f"{names[detector]}, 3 folds, AUC = 1 - score / 2")], unread


def _last(reasons: Mapping[str, str], role: str) -> list[str]:
    return [reasons[role]] if role in reasons else []


def _support_figures(tables: _Tables, config: ProtocolConfig) -> tuple[list[Figure], list[str]]:
    found, baseline = (
        support_scores(table, tables.train, seed=config.seed, threads=config.threads)
        for table in (tables.synthetic, tables.test)
    )
    rows, baseline_rows = found[2], baseline[2]
    measured_by = f"{OWN}, the definition of synthcity's naive AlphaPrecision; {rows:,} rows of each"
    about = (
        ("alpha_precision", "α-precision", "Whether synthetic rows are as typical as real ones."),
        ("beta_recall", "β-recall", "How well synthetic rows cover the real ones; unseen real rows reach about 50."),
    )
    figures = [
        _figure(
            Score(
                name=name,
                title=title,
                meaning=meaning,
                value=found[place],
                unit="%",
                direction="higher",
                bounds=(0.0, 100.0),
                baseline=baseline[place],
                baseline_label=f"{TEST_LABEL}, {baseline_rows:,} rows of each",
            ),
            measured_by,
        )
        for place, (name, title, meaning) in enumerate(about)
    ]
    return figures, []


def _utility_figures(
    tables: _Tables, schema: Any, spec: ProtocolSpec, config: ProtocolConfig
) -> tuple[list[Figure], list[str]]:
    settings = UtilityConfig(
        seeds=config.utility_seeds, threads=config.threads, regression_transform=spec.regression_transform
    )
    score = evaluate_utility(tables.synthetic, tables.train, tables.test, schema, settings).scores[0]
    of = "RMSE of log(clip(y, 1, 20000))" if spec.regression_transform == "log_clip" else score.title
    measured_by = f"{OWN}, XGBoost with the papers' grid, {of}, mean over {len(settings.seeds)} seeds"
    return [_figure(score, measured_by)], []


NO_DCR = (
    "the published share is of models trained on one half of the table against the other half, ties counted for the "
    "holdout: another protocol"
)


def _distance_figures(tables: _Tables, config: ProtocolConfig) -> tuple[list[Figure], list[str]]:
    def share(table: Columns, holdout: Columns) -> Score:
        found = StreamingDistances.fit(
            tables.train, holdout, seed=config.seed, threads=config.threads, max_test_rows=row_count(holdout)
        )
        found.update(table)
        return found.result().score("dcr_share")

    order_N = np.random.default_rng(config.seed).permutation(row_count(tables.test))
    half = len(order_N) // 2
    baseline = share(take_rows(tables.test, order_N[:half]), take_rows(tables.test, order_N[half:]))
    score = replace(
        share(tables.synthetic, tables.test),
        baseline=baseline.value,
        baseline_label="half of the real test split against the other half",
    )
    return [_figure(score, f"{OWN}, L1 over min-max and one-hot, as many training as test rows", NO_DCR)], []
