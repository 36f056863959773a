"""An experiment: the folder of its runs, and running its stages in it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from difflm.artifacts import Artifact, ArtifactStore, storage_errors, write_bytes_atomic, write_json_atomic
from difflm.config import dump_yaml
from difflm.errors import ConfigError
from difflm_jobs.engine_check import check_engine, check_json, draws_rows
from difflm_jobs.environment import describe_environment
from difflm_jobs.pipeline import execute, resolve, until
from difflm_jobs.progress import reporting
from difflm_jobs.runlog import LOG_NAME, RunRecord, StageRecord
from difflm_jobs.stages import build_stages, cluster_of

if TYPE_CHECKING:
    from difflm_jobs.config import ExperimentConfig

CONFIG_NAME = "config.yaml"


def run_experiment(
    config: ExperimentConfig, runs: Path, *, last: str | None, started: float, console: Console
) -> tuple[RunRecord, list[Artifact]]:
    """Run what is missing of an experiment up to the stage ``last``, and log the run.

    ``started`` is when the process began, in seconds since the epoch: starting Python counts as part of the run.

    Raises:
        DiffLMError: whatever ended the run; finished stages and checkpoints are kept for the next one.
    """
    store = ArtifactStore(runs / config.name)
    stages = until(build_stages(config), last)
    if draws_rows(stages):
        check_engine(config.sampling, config.runtime)
        check_json(config.sampling, holds_json=config.data.kind == "tools")
    steps = resolve(stages, store)
    records: list[StageRecord] = []
    artifacts: list[Artifact] = []
    with store.exclusive():
        write_bytes_atomic(store.root / CONFIG_NAME, dump_yaml(config).encode())
        write_json_atomic(store.root / "environment.json", describe_environment())
        try:
            with reporting(console) as reporter:
                for record, artifact in execute(steps, store, reporter=reporter, cluster=cluster_of(config.runtime)):
                    records.append(record)
                    artifacts.append(artifact)
        except BaseException as caught:
            with suppress(OSError):  # where the disk is full, that is what is told, not that the log cannot grow either
                _record(records, started, error=f"{type(caught).__name__}: {caught}").append(store.root)
            raise
        run = _record(records, started, error=None)
        with storage_errors(store.root):
            run.append(store.root)
    return run, artifacts


def _record(stages: Sequence[StageRecord], started: float, *, error: str | None) -> RunRecord:
    return RunRecord(
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        wall_seconds=time.time() - started,
        stages=tuple(stages),
        error=error,
    )


def find_experiment(run: str, runs: Path) -> Path:
    """The folder of an experiment given by its name or its path.

    Raises:
        ConfigError: there is none; names the ones there are.
    """
    for folder in (Path(run), runs / run):
        if (folder / LOG_NAME).is_file():
            return folder
    known = sorted(path.parent.name for path in runs.glob(f"*/{LOG_NAME}"))
    listed = f"the runs in {runs} are {', '.join(known)}" if known else f"there are no runs in {runs} yet"
    raise ConfigError(f"{run}: no such run; {listed}; give another folder with --runs")
