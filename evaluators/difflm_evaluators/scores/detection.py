"""Detection (C2ST): can boosted trees tell synthetic rows from real ones.

A classifier two-sample test (Lopez-Paz and Oquab 2017, arXiv 1610.06545): as many synthetic rows as rows of the real
training split, at most `max_rows` of each, drawn with a seed; XGBoost learns which is which on all folds but one of a
stratified cross-validation and is scored on the one left out. ROC-AUC and accuracy are means over folds and seeds. The
real test split in the place of the synthetic table stands beside.

How to read both: 0.5 is a coin, so nothing was found. Above it rows can be told apart, 1 always. Below it rows of the
two tables are the same ones: a copy whose twin was learned is put on its twin's side, the wrong one. So a generator
that copies is no better than one of 0.5, and the distance from 0.5 counts in both directions.

The trees' settings are fixed (100 of depth 5, step 0.3), every column takes part but free text, and categories are
those of the real training split. The standard error is that of a mean over the folds of one seed (folds share most of
their training rows, so it is approximate); more seeds draw other folds of the same tables, and do not shrink it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from difflm.telemetry import JSON
from difflm_evaluators.base import TEST_LABEL, Evaluation, Score
from difflm_evaluators.columns.columns import MAX_CELLS, Columns, IntArray, draw_rows, row_count
from difflm_evaluators.columns.features import FeatureEncoder
from difflm_evaluators.scores.boosting import FloatArray, Samples, Setup, binary_auc

TREES, DEPTH = 100, 5


class DetectionConfig(BaseModel):
    """`max_rows` of each table for every seed; `threads`: models fitted side by side, on one thread each."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1, strict=False)] = (0, 1, 2)
    folds: Annotated[int, Field(ge=2)] = 5
    max_rows: Annotated[int, Field(ge=10)] = 10_000
    threads: PositiveInt = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldResult:
    """One fold: scores on its rows, and the total gain of the trees' splits by feature (D,)."""

    auc: float
    accuracy: float
    gain_D: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """A table against the real training split: results by seed and fold, and the rows of each side."""

    rows: int
    results: tuple[tuple[FoldResult, ...], ...]

    def mean(self, name: str) -> tuple[float, float]:
        """Average "auc" or "accuracy" over seeds and folds, with the standard error of one seed's mean over folds."""
        values_SF = np.array([[getattr(result, name) for result in folds] for folds in self.results])
        variance = float(values_SF.var(axis=1, ddof=1).mean())
        return float(values_SF.mean()), float(np.sqrt(variance / values_SF.shape[1]))

    def gain_shares(self, sources: Sequence[str]) -> dict[str, float]:
        """Return each column's share of the gain of all splits, largest first; empty when no split was worth making."""
        gain_D = np.sum([result.gain_D for folds in self.results for result in folds], axis=0)
        total = float(gain_D.sum())
        if total <= 0:
            return {}
        shares = dict.fromkeys(sources, 0.0)
        for source, gain in zip(sources, gain_D.tolist(), strict=True):
            shares[source] += gain / total
        return dict(sorted(shares.items(), key=lambda item: -item[1]))


def evaluate_detection(synthetic: Columns, train: Columns, test: Columns | None, config: DetectionConfig) -> Evaluation:
    """Score how well the synthetic table is told from training (ROC-AUC, accuracy), beside the test split's own."""
    encoder = FeatureEncoder.fit(train)
    if not encoder.feature_types:
        return _evaluation(None, None, "every column is free text, of which the trees see nothing")
    rows = rows_each(synthetic, train, encoder, config)
    if rows < 2 * config.folds:
        reason = f"{rows} rows of each table are too few for {config.folds} folds of two; give {2 * config.folds}"
        return _evaluation(None, None, reason)
    found = detect(synthetic, train, encoder, rows, config)
    test_rows = rows_each(test, train, encoder, config) if test is not None else 0
    baseline = None
    if test is not None and test_rows >= 2 * config.folds:
        baseline = detect(test, train, encoder, test_rows, config)
    shares = found.gain_shares(encoder.sources)
    details: dict[str, JSON] = {
        "rows_each": found.rows,
        "rows_each_baseline": baseline.rows if baseline is not None else 0,
        "features": len(encoder.feature_types),
        "gain_shares": dict[str, JSON](shares),
        "synthetic_runs": _runs(found),
        "real_runs": _runs(baseline),
    }
    return _evaluation(found, baseline, None, details)


def rows_each(table: Columns, train: Columns, encoder: FeatureEncoder, config: DetectionConfig) -> int:
    """Count the rows of each side; fewer than `max_rows` where the features would make the matrix too large."""
    fit = MAX_CELLS // (2 * len(encoder.feature_types))
    return min(row_count(table), row_count(train), config.max_rows, fit)


def detect(table: Columns, train: Columns, encoder: FeatureEncoder, rows: int, config: DetectionConfig) -> Detection:
    """Cross-validate the classifier of `table` (1) against `train` (0), `rows` of each, for every seed."""
    from sklearn.model_selection import StratifiedKFold  # slow to import

    setup = Setup(task="classification", classes=2, feature_types=encoder.feature_types)
    with ThreadPoolExecutor(max_workers=config.threads) as pool:
        by_seed = []
        for seed in config.seeds:
            random = np.random.default_rng(seed)
            parts = [encoder.matrix(draw_rows(side, rows, random)) for side in (train, table)]
            target_N = np.repeat([0.0, 1.0], rows)
            samples = Samples(features_ND=np.concatenate(parts), target_N=target_N)
            folds = StratifiedKFold(config.folds, shuffle=True, random_state=seed)
            splits = list(folds.split(target_N, target_N))
            by_seed.append(tuple(pool.map(partial(_fold, samples, setup, seed), splits)))
    return Detection(rows=rows, results=tuple(by_seed))


def _fold(samples: Samples, setup: Setup, seed: int, split: tuple[IntArray, IntArray]) -> FoldResult:
    """Learn on one part of the rows, score on the other."""
    import xgboost as xgb  # slow to import

    fitting, left_out = (samples.take(rows_N) for rows_N in split)
    types = setup.data_options()
    data = xgb.QuantileDMatrix(fitting.features_ND, fitting.target_N, **types)
    booster = xgb.train(setup.parameters(depth=DEPTH, weight=1, gamma=0, seed=seed), data, num_boost_round=TREES)
    predicted_N = booster.predict(xgb.DMatrix(left_out.features_ND, **types)).astype(np.float64)
    is_table_N = left_out.target_N == 1
    auc = binary_auc(is_table_N, predicted_N)
    assert auc is not None  # folds are stratified and each table has two rows in every fold
    right_N = np.where(predicted_N == 0.5, 0.5, (predicted_N > 0.5) == is_table_N)
    gain_D = np.zeros(len(setup.feature_types))
    for name, gain in booster.get_score(importance_type="total_gain").items():
        gain_D[int(name.removeprefix("f"))] = gain
    return FoldResult(auc=auc, accuracy=float(right_N.mean()), gain_D=gain_D)


SCORES = {
    "c2st_auc": (
        "auc",
        "Detection (ROC-AUC)",
        "How well boosted trees tell synthetic rows from real ones: 0.5 not at all, 1 always, below 0.5 copies.",
    ),
    "c2st_accuracy": (
        "accuracy",
        "Detection (accuracy)",
        "Share of rows, half of them synthetic, that boosted trees put on the right side: 0.5 is a coin.",
    ),
}


def _evaluation(
    found: Detection | None, baseline: Detection | None, reason: str | None, details: dict[str, JSON] | None = None
) -> Evaluation:
    scores = []
    for name, (measure, title, meaning) in SCORES.items():
        value, error = found.mean(measure) if found is not None else (None, None)
        real, _ = baseline.mean(measure) if baseline is not None else (None, None)
        scores.append(
            Score(
                name=name,
                title=title,
                meaning=meaning,
                value=value,
                direction="target",
                bounds=(0.0, 1.0),
                ideal=0.5,
                standard_error=error,
                baseline=real,
                baseline_label=TEST_LABEL if real is not None else None,
                undefined_because=reason,
            )
        )
    return Evaluation(name="detection", scores=tuple(scores), details=details or {})


def _runs(detection: Detection | None) -> list[JSON]:
    """Return, per seed, the folds' scores."""
    if detection is None:
        return []
    return [
        {"auc": [result.auc for result in folds], "accuracy": [result.accuracy for result in folds]}
        for folds in detection.results
    ]
