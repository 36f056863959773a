"""The data flywheel: synthesize, evaluate, gate, merge with the real rows, train again; each round from the one before.

Every round is scored against the real splits of the first, whatever it was trained on. Round 0 is trained on real rows
alone; each later one on the real training and validation rows and as many synthetic rows of the round before as that
made, not on all rounds' rows.

What a flywheel's rounds scored: a table, and shape error and usefulness by round as pictures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from difflm.artifacts import Artifact, write_bytes_atomic
from difflm.artifacts.manifest import REPORT_KIND
from difflm.errors import ConfigError
from difflm.records.schema import read_schema
from difflm.telemetry import JSON
from difflm_evaluators.report import plots
from difflm_evaluators.report.comparison_report import ResultTable, mean_text
from difflm_jobs.experiment import run_experiment
from difflm_jobs.inputs.gates import failed_verdicts
from difflm_jobs.inputs.sources import DataConfig, FileSource
from difflm_jobs.pipeline.runlog import HEADLINES
from difflm_jobs.stages.evaluate import SHARDS

if TYPE_CHECKING:
    import pyarrow as pa

    from difflm_evaluators.live.gates import Gate, Verdict
    from difflm_jobs.config import ExperimentConfig
    from difflm_jobs.pipeline.pipeline import ClusterFactory
    from difflm_jobs.pipeline.progress import Reporting


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRun:
    """What a run of one round left: its prepared table, its synthetic rows, and the headlines of its report."""

    prepared: Artifact
    synthetic: Artifact
    report: Artifact
    headlines: Sequence[Mapping[str, Any]]


class RoundRunner(Protocol):
    """Runs an experiment to its end, scored against a prepared table (its own for None), or finds it finished."""

    def __call__(self, config: ExperimentConfig, against: Artifact | None) -> RoundRun: ...


def round_run(
    config: ExperimentConfig,
    runs: Path,
    *,
    against: Artifact | None,
    cluster: ClusterFactory,
    reporting: Reporting,
) -> RoundRun:
    """Run what is missing of one round (a `RoundRunner`)."""
    _, artifacts = run_experiment(
        config, runs, last=None, started=time.time(), reporting=reporting, cluster=cluster, against=against
    )
    made = {artifact.kind: artifact for artifact in artifacts}
    report = made[REPORT_KIND]
    return RoundRun(
        prepared=made["table"],
        synthetic=made["synthetic"],
        report=report,
        headlines=report.manifest.facts[HEADLINES],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A round that ended: its number, what it was trained on and made, its scores, and the gates that did not hold."""

    number: int
    run: RoundRun
    trained_on: int
    made: int
    failed: Sequence[Verdict]

    @property
    def stopped_by(self) -> list[str]:
        """List what the gates say that stop the flywheel here."""
        return [verdict.sentence() for verdict in self.failed if verdict.gate.action == "stop"]

    def to_json(self) -> dict[str, JSON]:
        gates: list[JSON] = [verdict.to_json() for verdict in self.failed]
        return {
            "round": self.number,
            "training_rows": self.trained_on,
            "synthetic_rows": self.made,
            "artifacts": [artifact.path.name for artifact in (self.run.prepared, self.run.synthetic, self.run.report)],
            "scores": [dict(score) for score in self.run.headlines],
            "failed_gates": gates,
        }


def turn(
    config: ExperimentConfig,
    runner: RoundRunner,
    *,
    rounds: int,
    gates: Sequence[Gate],
    folder: Path,
    say: Callable[[str], None],
) -> list[Round]:
    """Run so many rounds, or as many until a gate that stops does not hold; merged tables are written into ``folder``.

    Given again it goes on where it was killed: what a round makes depends on the configuration and the rounds before.

    Raises:
        ConfigError: the records are no rows of a table, or are promised privacy.
    """
    if not config.data.record_kind.tabular:
        raise ConfigError(f"data.kind is {config.data.kind}; a flywheel turns tables only")
    if config.privacy is not None:  # later rounds would be trained on, and scored against, rows of the private counts
        raise ConfigError(
            "privacy.epsilon: every round of a flywheel learns the real rows again, and its budget would add up; run "
            "it once with `difflm run`, and draw as many rows as are wanted"
        )
    done: list[Round] = []
    given, first = config, None
    for number in range(rounds):
        say(f"round {number} of {rounds - 1}")
        run = runner(given, first)
        first = first or run.prepared
        ended = _round(number, run, gates)
        done.append(ended)
        if ended.stopped_by or number == rounds - 1:
            break
        given = next_round(config, real=first, synthetic=run.synthetic, folder=folder)
    return done


def next_round(config: ExperimentConfig, *, real: Artifact, synthetic: Artifact, folder: Path) -> ExperimentConfig:
    """Configure the next round: real rows but for the test split, and synthetic ones, as one table."""
    merged = folder / f"merged-{synthetic.identity[:12]}.parquet"
    if not merged.exists():
        write_bytes_atomic(merged, merged_rows(real.path, synthetic.path / SHARDS), mode=0o600)
    data = DataConfig(
        train=FileSource(path=str(merged.resolve())),
        test=FileSource(path=str((real.path / "test.parquet").resolve())),
        target=config.data.target,
        validation=config.data.validation,
    )
    rows = config.rows or read_schema(real.path).row_count
    return config.model_copy(update={"data": data, "rows": rows})


def merged_rows(prepared: Path, shards: Path) -> bytes:
    """Put real training and validation rows and behind them the synthetic ones together, as Parquet."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    from difflm.records.kinds.columns import conform_table

    schema = read_schema(prepared)
    parts = (prepared / "train.parquet", prepared / "validation.parquet", shards)
    tables: list[pa.Table] = [conform_table(pq.read_table(path), schema) for path in parts]
    buffer = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), buffer)
    return buffer.getvalue()


def _round(number: int, run: RoundRun, gates: Sequence[Gate]) -> Round:
    made = int(run.synthetic.manifest.facts["rows_emitted"])
    return Round(
        number=number,
        run=run,
        trained_on=read_schema(run.prepared.path).row_count,
        made=made,
        failed=failed_verdicts(gates, run.headlines, made),
    )


SCORES = ("shape_error", "trend_error", "mle_auc", "mle_rmse", "c2st_auc", "distinct_row_share", "range_coverage")
PICTURES = ("shape_error", "mle_auc", "mle_rmse")
EXPLANATION = (
    "Every round is scored against the real splits of round 0, which was trained on real rows alone; each later round "
    "was trained on these and the synthetic rows of the round before."
)


def flywheel_table(rounds: Sequence[Round], *, name: str) -> ResultTable:
    """Make a row per round; what real data get in its place is the last row."""
    scores = [{score["name"]: score for score in ended.run.headlines} for ended in rounds]
    names = [score for score in SCORES if any(score in found for found in scores)]
    rows = [
        [str(ended.number), f"{ended.trained_on:,}", f"{ended.made:,}", *(_text(found.get(score)) for score in names)]
        for ended, found in zip(rounds, scores, strict=True)
    ]
    rows.append(["real", "–", "–", *(mean_text(scores[0].get(score, {}).get("baseline"), None) for score in names)])
    notes = [EXPLANATION]
    notes += [f"Stopped after round {rounds[-1].number}: {reason}." for reason in rounds[-1].stopped_by]
    notes += [
        f"Round {ended.number}: {verdict.sentence()}."
        for ended in rounds
        for verdict in ended.failed
        if verdict.gate.action == "warn"
    ]
    facts: list[JSON] = [ended.to_json() for ended in rounds]
    return ResultTable(
        title=f"Flywheel of {name}",
        columns=["round", "training rows", "synthetic rows", *(_heading(score, scores) for score in names)],
        rows=rows,
        notes=notes,
        facts={"name": name, "rounds": facts, "stopped_by": list(rounds[-1].stopped_by)},
        pictures={score: picture for score in PICTURES if (picture := _picture(score, scores))},
    )


def _text(score: Mapping[str, Any] | None) -> str:
    return "–" if score is None else mean_text(score["value"], score["standard_error"])


def _heading(name: str, scores: Sequence[Mapping[str, Any]]) -> str:
    score = next(found[name] for found in scores if name in found)
    unit = f", {score['unit']}" if score["unit"] else ""
    return f"{score['title']}{unit}"


def _picture(name: str, scores: Sequence[Mapping[str, Any]]) -> str | None:
    values = [
        (number, found[name]["value"])
        for number, found in enumerate(scores)
        if name in found and found[name]["value"] is not None
    ]
    if not values:
        return None
    real = scores[0].get(name, {}).get("baseline")
    return plots.levels_by({"synthetic": values}, real, across="round", label=_heading(name, scores))
