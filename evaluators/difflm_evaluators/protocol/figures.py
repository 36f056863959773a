"""The figures of the published protocol: each with what measured it, and what real held-out rows get.

Printed figures are kept away from a measure that is not the published one (`unprinted` says why).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from difflm.records.schema import RecordSchema
from difflm_evaluators.base import TEST_LABEL, Score
from difflm_evaluators.columns.columns import Columns, row_count, take_rows
from difflm_evaluators.privacy.distances import StreamingDistances
from difflm_evaluators.protocol.sdmetrics_scores import UnknownCategoryError, detection, quality
from difflm_evaluators.protocol.spec import ProtocolSpec
from difflm_evaluators.protocol.support import support_scores
from difflm_evaluators.scores.pairs import evaluate_pairs
from difflm_evaluators.scores.utility import UtilityConfig, evaluate_utility

OWN = "difflm_evaluators"


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
    """A score, what measured it, how long that took, and what is printed of others; `unprinted` says why nothing is.

    `chance` is what as many training rows have that are drawn again with replacement.
    """

    score: Score
    measured_by: str
    seconds: float
    printed: tuple[Printed, ...] = ()
    unprinted: str | None = None
    chance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    synthetic: Columns
    train: Columns
    test: Columns


OTHER_BINS = "the published one bins every table's numbers by its own range, which one extreme value moves"


def quality_figures(tables: Tables, config: ProtocolConfig) -> tuple[list[Figure], list[str]]:
    rows = row_count(tables.train)
    again = take_rows(tables.train, np.random.default_rng(config.seed).integers(0, rows, rows))
    (found, notes), (baseline, _), (chance, _) = (
        quality(table, tables.train) for table in (tables.synthetic, tables.test, again)
    )
    trend, trend_chance = (
        evaluate_pairs(table, tables.train, tables.test).scores[0] for table in (tables.synthetic, again)
    )
    own = replace(trend, name="trend_error_training_bins", title="Trend error, bins of the training rows")
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
            chance=chance[name],
        )
        for name, (title, meaning) in about.items()
    ]
    by = f"{OWN}, correlations and total variation over all pairs"
    return [*figures, _figure(own, by, OTHER_BINS, chance=trend_chance.value)], notes


def _figure(score: Score, measured_by: str, unprinted: str | None = None, *, chance: float | None = None) -> Figure:
    return Figure(score=score, measured_by=measured_by, seconds=0.0, unprinted=unprinted, chance=chance)


def detection_figures(tables: Tables, detector: str, config: ProtocolConfig) -> tuple[list[Figure], list[str]]:
    names = {"logistic": "SDMetrics LogisticDetection", "xgboost": "SDMetrics' harness, default XGBClassifier"}
    titles = {"logistic": "C2ST, logistic regression", "xgboost": "C2ST, XGBoost"}
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for role, table in (("synthetic", tables.synthetic), (TEST_LABEL, tables.test)):
        try:
            values[role] = detection(table, tables.train, detector=detector, seed=config.seed)
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


def support_figures(tables: Tables, config: ProtocolConfig) -> tuple[list[Figure], list[str]]:
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


def utility_figures(
    tables: Tables, schema: RecordSchema, spec: ProtocolSpec, config: ProtocolConfig
) -> tuple[list[Figure], list[str]]:
    settings = UtilityConfig(
        seeds=config.utility_seeds, threads=config.threads, regression_transform=spec.regression_transform
    )
    score = evaluate_utility(tables.synthetic, tables.train, tables.test, schema, settings).scores[0]
    of = {"mle_auc": "ROC-AUC", "mle_rmse": "RMSE"}[score.name]
    of += " of log(clip(y, 1, 20000))" if spec.regression_transform == "log_clip" else ""
    measured_by = f"{OWN}, XGBoost with the papers' grid, {of}, mean over {len(settings.seeds)} seeds"
    return [_figure(score, measured_by)], []


NO_DCR = (
    "the published share is of models trained on one half of the table against the other half, ties counted for the "
    "holdout: another protocol"
)


def distance_figures(tables: Tables, config: ProtocolConfig) -> tuple[list[Figure], list[str]]:
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
