"""Quantity and mixing: what a model learns from one, two and four times as many synthetic rows as real ones, and both.

The question of the paper's Table 7, asked of finished runs: XGBoost (MLE, `scores/utility`) is trained on
real rows, on multiples of synthetic ones, and on real and synthetic rows together, and scored on the real test split.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difflm.errors import ConfigError
from difflm.records.schema import RecordSchema
from difflm.telemetry import JSON
from difflm_evaluators.base import Score
from difflm_evaluators.report.comparison_report import ResultTable, mean_text

if TYPE_CHECKING:
    import pyarrow as pa

    from difflm_evaluators.scores.utility import UtilityConfig
    from difflm_jobs.rows.bundle_rows import DatasetRequest

REAL = "real"
PRINTED = {"adult": 0.925, "default": 0.802, "shoppers": 0.932, "magic": 0.936, "beijing": 0.494}
"""Real and synthetic rows together, Mistral-7B, the best of 100 reruns."""
PRINTED_SOURCE = "DiffLM paper (arXiv 2411.03250)"
MEASURES = {"mle_auc": "ROC-AUC", "mle_rmse": "RMSE"}
EXPLANATION = (
    "MLE (XGBoost) on the real test split, ± its standard error over the seeds of the classifier; the synthetic rows "
    "are of one training of the generator, and a smaller number of them are the first of the larger."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a training table is made of: the real rows or not, and how many times as many synthetic ones."""

    real: bool
    times: int

    @property
    def name(self) -> str:
        return " + ".join([*([REAL] if self.real else []), *([f"{self.times}x synthetic"] if self.times else [])])


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """One training table: what it is made of, how many rows it has, and what a model learned from it."""

    recipe: Recipe
    rows: int
    score: Score

    def to_json(self) -> dict[str, JSON]:
        score = self.score
        return {
            "name": self.recipe.name,
            "rows": self.rows,
            "score": score.name,
            "value": score.value,
            "standard_error": score.standard_error,
            "undefined_because": score.undefined_because,
        }


def mixtures(train: pa.Table, synthetic: pa.Table, times: Sequence[int]) -> dict[Recipe, pa.Table]:
    """Put the training tables together; multiples are of the real rows, or of all synthetic rows where fewer came."""
    import pyarrow as pa

    parts = {multiple: synthetic.slice(0, multiple * len(train)) for multiple in times}
    found = {Recipe(real=True, times=0): train}
    found |= {Recipe(real=False, times=multiple): part for multiple, part in parts.items()}
    return found | {
        Recipe(real=True, times=multiple): pa.concat_tables([train, part]) for multiple, part in parts.items()
    }


def study_table(
    train: pa.Table,
    test: pa.Table,
    synthetic: pa.Table,
    schema: RecordSchema,
    *,
    times: Sequence[int],
    config: UtilityConfig,
    say: Callable[[str], None],
) -> list[Mixture]:
    """Score what a model learns from each mixture. Tables have the schema's columns and types."""
    from difflm_evaluators.columns.columns import read_columns
    from difflm_evaluators.scores.utility import evaluate_utility

    real, held_out = read_columns(train, schema, "train"), read_columns(test, schema, "test")
    done: list[Mixture] = []
    for recipe, table in mixtures(train, synthetic, times).items():
        say(f"learning from {recipe.name}, {len(table):,} rows")
        columns = read_columns(table, schema, recipe.name) if recipe.times else real
        (score,) = evaluate_utility(columns, real, held_out, schema, config, baseline=False).scores
        done.append(Mixture(recipe=recipe, rows=len(table), score=score))
    return done


def study_run(
    folder: Path,
    *,
    times: Sequence[int],
    overrides: Sequence[str],
    out: Path,
    draw: Callable[[DatasetRequest, Sequence[str]], object],
    say: Callable[[str], None],
) -> list[Mixture]:
    """Study a finished run; its synthetic rows are kept in ``out``, and not made again.

    ``draw`` makes the rows that are asked of it, under the overrides that it is given.

    Raises:
        ConfigError: the run is of other records than rows of a table, or has no target.
    """
    import pyarrow.parquet as pq

    from difflm.records.kinds.columns import conform_table
    from difflm.records.schema import read_schema
    from difflm.synthesis.plans.request import PlanRequest
    from difflm_evaluators.scores.utility import UtilityConfig
    from difflm_jobs.inputs.given_tables import real_files
    from difflm_jobs.inputs.models import find_bundle
    from difflm_jobs.loading import load_experiment
    from difflm_jobs.rows.bundle_rows import DatasetRequest

    experiment = load_experiment(str(folder / "config.yaml"))
    if not experiment.data.record_kind.tabular or experiment.data.target is None:
        raise ConfigError(f"{folder}: a study needs rows of a table with a target; run it with data.target=COLUMN")
    files, schema = real_files(folder, of_run=True, train=None, holdout=None), read_schema(find_bundle(folder))
    assert files is not None
    assert files.holdout is not None
    train, test = (conform_table(pq.read_table(path), schema) for path in (files.train, files.holdout))
    own = {name: getattr(experiment, name).model_dump(mode="json") for name in ("sampling", "runtime")}
    wanted = DatasetRequest(
        bundle=folder,
        rows=max(times) * len(train),
        seed=experiment.seed,
        out=str(out),
        format=None,
        resume="if-possible",
        plan=PlanRequest(),
    )
    draw(wanted, [*(f"{name}={json.dumps(value)}" for name, value in own.items()), *overrides])
    synthetic = conform_table(pq.read_table(out / "data"), schema)
    config = experiment.evaluation.utility or UtilityConfig()
    return study_table(train, test, synthetic, schema, times=times, config=config, say=say)


def quantity_table(studies: Mapping[str, Sequence[Mixture]]) -> ResultTable:
    """Make a row per mixture and a column per run: what a model learned; and a picture per run."""
    labels, (first, *_) = list(studies), studies.values()
    rows = [
        [mixture.recipe.name, *(_text(studies[label][place].score) for label in labels)]
        for place, mixture in enumerate(first)
    ]
    printed = any(label in PRINTED for label in labels)
    if printed:
        figures = [f"{PRINTED[label]:g}" if label in PRINTED else "–" for label in labels]
        rows.append(["real + synthetic, printed", *figures])
    counted = ", ".join(f"{label} {found[0].rows:,}" for label, found in studies.items())
    facts: dict[str, Any] = {label: [mixture.to_json() for mixture in found] for label, found in studies.items()}
    pictures = {
        f"study-{label_folder(label)}": picture
        for label, found in studies.items()
        if (picture := _picture(label, found))
    }
    return ResultTable(
        title="Quantity and mixing",
        columns=["learned from", *(_heading(label, found) for label, found in studies.items())],
        rows=rows,
        notes=[
            EXPLANATION,
            f"1x is as many rows as there are real ones: {counted}.",
            *([f"Printed: {PRINTED_SOURCE}, best of 100 reruns."] if printed else []),
        ],
        facts={"runs": facts},
        pictures=pictures,
    )


def label_folder(label: str) -> str:
    """Write a run's label as one part of a path: labels may be whole paths."""
    return label.strip("/").replace("/", "-")


def _text(score: Score) -> str:
    return (
        f"undefined: {score.undefined_because}" if score.value is None else mean_text(score.value, score.standard_error)
    )


def _heading(label: str, found: Sequence[Mixture]) -> str:
    score = found[0].score
    return f"{label}, {MEASURES[score.name]} {'↑' if score.direction == 'higher' else '↓'}"


def _picture(label: str, found: Sequence[Mixture]) -> str | None:
    """Draw what was learned from multiples of synthetic rows, alone and with the real ones."""
    from difflm_evaluators.report import plots

    real, *others = found
    series: dict[str, list[tuple[int, float]]] = {"synthetic": [], "real + synthetic": []}
    for mixture in others:
        if mixture.score.value is not None:
            kind = "real + synthetic" if mixture.recipe.real else "synthetic"
            series[kind].append((mixture.recipe.times, mixture.score.value))
    if not any(series.values()):
        return None
    across = f"synthetic rows, times the {real.rows:,} real rows of {label}"
    return plots.levels_by(series, real.score.value, across=across, label=MEASURES[real.score.name])
