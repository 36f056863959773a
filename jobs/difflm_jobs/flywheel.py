"""The data flywheel: synthesize, evaluate, gate, merge with the real rows, train again; each round from the one before.

Every round is scored against the real splits of the first, whatever it was trained on. Round 0 is trained on real rows
alone; each later one on the real training and validation rows and as many synthetic rows of the round before as that
made, not on all rounds' rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from difflm.artifacts import Artifact, write_bytes_atomic
from difflm.errors import ConfigError
from difflm.records.record_schema import read_schema
from difflm.telemetry import JSON
from difflm_jobs.data import DataConfig
from difflm_jobs.evaluate import SHARDS
from difflm_jobs.sources import FileSource

if TYPE_CHECKING:
    import pyarrow as pa

    from difflm_evaluators.gates import Gate, Verdict
    from difflm_jobs.config import ExperimentConfig


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
        """What the gates say that stop the flywheel here."""
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
    """So many rounds, or as many until a gate that stops does not hold; merged tables are written into ``folder``.

    Given again it goes on where it was killed: what a round makes depends on the configuration and the rounds before.

    Raises:
        ConfigError: the records are no rows of a table.
    """
    if config.data.kind != "table":
        raise ConfigError(f"data.kind is {config.data.kind}; a flywheel turns tables only")
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
    """The experiment of the next round: real rows but for the test split, and synthetic ones, as one table."""
    merged = folder / f"merged-{synthetic.identity[:12]}.parquet"
    if not merged.exists():
        write_bytes_atomic(merged, merged_rows(real.path, synthetic.path / SHARDS))
    data = DataConfig(
        train=FileSource(path=str(merged.resolve())),
        test=FileSource(path=str((real.path / "test.parquet").resolve())),
        target=config.data.target,
        validation=config.data.validation,
    )
    rows = config.rows or read_schema(real.path).row_count
    return config.model_copy(update={"data": data, "rows": rows})


def merged_rows(prepared: Path, shards: Path) -> bytes:
    """Real training and validation rows and behind them the synthetic ones, as Parquet."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    from difflm.records.columns import conform_table

    schema = read_schema(prepared)
    parts = (prepared / "train.parquet", prepared / "validation.parquet", shards)
    tables: list[pa.Table] = [conform_table(pq.read_table(path), schema) for path in parts]
    buffer = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), buffer)
    return buffer.getvalue()


def _round(number: int, run: RoundRun, gates: Sequence[Gate]) -> Round:
    from difflm_jobs.table_gates import failed_verdicts

    made = int(run.synthetic.manifest.facts["rows_emitted"])
    return Round(
        number=number,
        run=run,
        trained_on=read_schema(run.prepared.path).row_count,
        made=made,
        failed=failed_verdicts(gates, run.headlines, made),
    )
