"""Machine-learning efficiency (MLE): does a model learn from synthetic rows what it would learn from real ones.

XGBoost (`boosting`) is trained on the synthetic table and scored on the real test split: ROC-AUC for classification
(macro one-vs-rest from three classes on), RMSE for regression. Mean and standard error are over fixed seeds, which
draw the held-out ninth; the same with the real training split stands beside it. Rows without a target are left out.
Classes are those of the real training split; a class that the synthetic table lacks simply cannot be learned, and is
named in the details.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from difflm.errors import DataError
from difflm.records.schema import RecordSchema
from difflm.telemetry import JSON
from difflm_evaluators.base import Evaluation, Score
from difflm_evaluators.columns.columns import Column, Columns
from difflm_evaluators.columns.features import FeatureEncoder, target_labels
from difflm_evaluators.scores.boosting import Fitted, FloatArray, Samples, Setup, Task, choose_and_score

FLOAT32_MAX = float(np.finfo(np.float32).max)
LOG_CLIP = (1.0, 20_000.0)


class UtilityConfig(BaseModel):
    """`threads`: models fitted side by side, on one thread each.

    `regression_transform`: "log_clip" learns and scores log(clip(y, 1, 20000)), as published for Beijing;
    "none" leaves y as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    seeds: Annotated[tuple[int, ...], Field(min_length=1, strict=False)] = (0, 1, 2)
    threads: PositiveInt = 2
    regression_transform: Literal["none", "log_clip"] = "none"


def evaluate_utility(
    synthetic: Columns,
    train: Columns,
    test: Columns | None,
    schema: RecordSchema,
    config: UtilityConfig,
    *,
    baseline: bool = True,
) -> Evaluation:
    """Compute the MLE of the synthetic table; undefined, with the reason, where there is none.

    With `baseline`, training on the real table stands beside it, which takes as long again.
    """
    task: Task = schema.task or "classification"
    if schema.target is None or schema.task is None:
        return _evaluation(task, None, "the schema names no target column to predict")
    if test is None:
        return _evaluation(task, None, "there is no real test split to score on")
    encoder = FeatureEncoder.fit(train, leave_out=schema.target)
    if not encoder.feature_types:
        return _evaluation(task, None, "there is no feature column beside the target (free text takes no part)")
    classes = _classes(train[schema.target]) if task == "classification" else []
    if task == "classification" and len(classes) < 2:
        return _evaluation(task, None, f"the target {schema.target!r} has one class only in the real training split")
    setup = Setup(task=task, classes=len(classes), feature_types=encoder.feature_types)
    test_samples = _samples(test, encoder, schema.target, classes, config)
    synthetic_samples = _samples(synthetic, encoder, schema.target, classes, config)
    learned_from = [synthetic_samples]
    if baseline:
        learned_from.append(_samples(train, encoder, schema.target, classes, config))
    if task == "classification":
        for samples, label in ((test_samples, "real test split"), (synthetic_samples, "synthetic table")):
            if len(np.unique(samples.target_N)) < 2:
                reason = f"the {label} has fewer than two of the classes of {schema.target!r}"
                return _evaluation(task, None, reason)
    elif any(np.any(np.abs(one.target_N) > FLOAT32_MAX) for one in (*learned_from, test_samples)):
        return _evaluation(
            task, None, f"{schema.target!r} has numbers beyond {FLOAT32_MAX:.1e}, which XGBoost cannot hold"
        )
    if len(test_samples.target_N) == 0 or len(synthetic_samples.target_N) < 2:
        return _evaluation(task, None, f"too few rows have a value of the target {schema.target!r}")
    runs = [(samples, seed) for samples in learned_from for seed in config.seeds]
    with ThreadPoolExecutor(max_workers=config.threads) as pool:
        results = list(pool.map(lambda run: choose_and_score(run[0], test_samples, setup, run[1]), runs))
    fitted, real = results[: len(config.seeds)], results[len(config.seeds) :]
    details = _details(schema.target, classes, synthetic_samples, setup)
    return _evaluation(task, fitted, None, real=real, details=details)


def _classes(column: Column) -> list[str]:
    return sorted({label for label in target_labels(column) if label is not None})


def _samples(
    table: Columns, encoder: FeatureEncoder, target: str, classes: list[str], config: UtilityConfig
) -> Samples:
    """Select the rows with a known target: class numbers, or the transformed numbers."""
    column = table[target]
    if classes:
        numbering = {label: float(number) for number, label in enumerate(classes)}
        labels = target_labels(column)
        target_N = np.array([np.nan if x is None else numbering.get(x, np.nan) for x in labels], dtype=np.float64)
    elif column.kind != "numeric":
        raise DataError(f"target column {target!r} holds {column.kind} values; regression needs numbers")
    else:
        target_N = _transformed(column.numbers_N, config)
    known = np.flatnonzero(~np.isnan(target_N))
    return Samples(features_ND=encoder.matrix(table)[known], target_N=target_N[known])


def _transformed(numbers_N: FloatArray, config: UtilityConfig) -> FloatArray:
    return np.log(np.clip(numbers_N, *LOG_CLIP)) if config.regression_transform == "log_clip" else numbers_N


def _details(target: str, classes: list[str], synthetic: Samples, setup: Setup) -> dict[str, JSON]:
    details: dict[str, JSON] = {"target": target, "task": setup.task, "features": len(setup.feature_types)}
    if setup.task == "classification":
        present = set(synthetic.target_N.astype(int).tolist())
        lacking: list[JSON] = [label for number, label in enumerate(classes) if number not in present]
        details |= {"classes": list(classes), "classes_lacking": lacking}
    return details


def _evaluation(
    task: Task,
    fitted: list[Fitted | None] | None,
    reason: str | None,
    *,
    real: list[Fitted | None] | None = None,
    details: dict[str, JSON] | None = None,
) -> Evaluation:
    value, error = _mean(fitted)
    if reason is None and value is None:
        reason = "the held-out ninth has one class only, so no settings can be chosen; more rows are needed"
    baseline, baseline_error = _mean(real)
    classification = task == "classification"
    score = Score(
        name="mle_auc" if classification else "mle_rmse",
        title="Usefulness (ROC-AUC)" if classification else "Usefulness (RMSE)",
        meaning="How well a model trained on the synthetic rows predicts the target of unseen real rows.",
        value=value,
        direction="higher" if classification else "lower",
        bounds=(0.0, 1.0) if classification else (0.0, None),
        ideal=baseline,
        standard_error=error,
        baseline=baseline,
        baseline_label="trained on real rows" if baseline is not None else None,
        undefined_because=reason,
    )
    runs: dict[str, JSON] = {
        "synthetic_runs": _runs(fitted),
        "real_runs": _runs(real),
        "baseline_standard_error": baseline_error,
    }
    return Evaluation(name="utility", scores=(score,), details={**(details or {}), **runs})


def _mean(fitted: list[Fitted | None] | None) -> tuple[float | None, float | None]:
    """Return mean and standard error over seeds; None where any run is undefined, no error for a single seed."""
    scores = [run.score for run in fitted or [] if run is not None]
    if not scores or len(scores) < len(fitted or []):
        return None, None
    error = float(np.std(scores, ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else None
    return float(np.mean(scores)), error


def _runs(fitted: list[Fitted | None] | None) -> list[JSON]:
    return [
        {"score": run.score, "held_out_score": run.held_out_score, **run.settings}
        for run in fitted or []
        if run is not None
    ]
