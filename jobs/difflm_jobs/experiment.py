"""An experiment: the folder of its runs, and running its stages in it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from difflm.artifacts import Artifact, ArtifactStore, storage_errors, write_bytes_atomic, write_json_atomic
from difflm.artifacts.manifest import BUNDLE_KIND, REPORT_KIND
from difflm.artifacts.run_folder import artifact_folders
from difflm.config import dump_yaml
from difflm.errors import ConfigError, UserError
from difflm.extras import require
from difflm.printable import printable
from difflm.privacy.budget import is_private
from difflm.regular_files import read_file
from difflm.telemetry import parse_json
from difflm_jobs.inputs.gates import refuse_failed
from difflm_jobs.pipeline.engine_check import check_engine, check_json, draws_rows
from difflm_jobs.pipeline.pipeline import ClusterFactory, Step, execute, resolve, until
from difflm_jobs.pipeline.runlog import (
    CONFIG_NAME,
    HEADLINES,
    LOG_NAME,
    RunRecord,
    StageRecord,
    describe_environment,
    read_runs,
)
from difflm_jobs.stages.stages import build_stages, cluster_of

if TYPE_CHECKING:
    from difflm_evaluators.live.gates import Gate
    from difflm_evaluators.report.layout import ScoreEntry
    from difflm_jobs.config import ExperimentConfig
    from difflm_jobs.pipeline.progress import Reporting

_log = logging.getLogger(__name__)


def run_experiment(
    config: ExperimentConfig,
    runs: Path,
    *,
    last: str | None,
    started: float,
    reporting: Reporting,
    cluster: ClusterFactory | None = None,
    against: Artifact | None = None,
    predicted: Mapping[str, float] | None = None,
) -> tuple[RunRecord, list[Artifact]]:
    """Run what is missing of an experiment up to the stage ``last``, and log the run.

    ``started`` is when the process began, in seconds since the epoch: starting Python counts as part of the run.
    ``cluster`` is one that several runs share; without it the run has its own. ``against`` is as of `Evaluate`.
    ``predicted`` are the seconds that stages are expected to take, for the log.

    Raises:
        DiffLMError: whatever ended the run; finished stages and checkpoints are kept for the next one.
    """
    from difflm_jobs.planning.room import refuse_too_large

    store = ArtifactStore(runs / config.name)
    refuse_anybodys(store.root, _OURS)
    built = build_stages(config, against=against)
    stages = until(built, last)
    if config.privacy is not None:
        require("privacy", "privacy.epsilon")
    if draws_rows(stages):
        check_engine(config.sampling, config.runtime)
        check_json(config.sampling, holds_json=config.data.record_kind.holds_json)
    steps = resolve(stages, store)
    whole = steps if config.privacy is None else resolve(built, store)
    named = {step.stage.name: step for step in steps}
    refuse_too_large(config, stages, store, named)
    records: list[StageRecord] = []
    artifacts: list[Artifact] = []
    with store.exclusive():
        write_bytes_atomic(store.root / CONFIG_NAME, dump_yaml(config).encode())
        write_json_atomic(store.root / "environment.json", describe_environment())
        if config.privacy is not None:
            _tell_released(steps, store)
        try:
            with reporting() as reporter:
                factory = cluster or cluster_of(config.runtime)
                ran = execute(steps, store, runtime=config.runtime, reporter=reporter, cluster=factory, whole=whole)
                for record, artifact in ran:
                    expected = (predicted or {}).get(record.stage) if record.status == "ran" else None
                    records.append(record.model_copy(update={"predicted_seconds": expected}))
                    artifacts.append(artifact)
                    if record.status == "ran" and record.stage == "fit-decoder":  # now the records' lengths are known
                        refuse_too_large(config, stages, store, named)
        except BaseException as caught:
            with suppress(OSError):  # where the disk is full, that is reported, not that the log cannot grow either
                _record(records, started, error=f"{type(caught).__name__}: {caught}").append(store.root)
            raise
        run = _record(records, started, error=None)
        with storage_errors(store.root):
            run.append(store.root)
    return run, artifacts


def _tell_released(steps: Sequence[Step], store: ArtifactStore) -> None:
    """Warn where a private bundle is there and this run makes another one: after a purge, or with other settings, the
    rows are measured anew, and nobody would notice that it is another release of the same people.
    """
    bundle = next((step for step in steps if step.stage.output == BUNDLE_KIND), None)
    if bundle is None or store.find(BUNDLE_KIND, bundle.identity) is not None:
        return
    released = [found.path for found in store.finished() if found.kind == BUNDLE_KIND and is_private(found.path)]
    if released:
        names = ", ".join(path.name for path in released)
        _log.warning(
            printable(
                f"{store.root}: has private bundles already ({names}), and this run makes another one, with other "
                "noise: where both are given out, their budgets add up; draw from the one that is there, or give out "
                "one only"
            )
        )


def refuse_anybodys(folder: Path, ours: Mapping[str, Callable[[Path], bool]]) -> None:
    """Refuse to replace files of something else in a folder that no run was in: `ours` tells by their names which are
    those of a run that was killed early. The configuration that somebody wrote there is one: it has comments.

    Raises:
        ConfigError: names the first.
    """
    if next(artifact_folders(folder), None) is not None or _holds(_is_log, folder / LOG_NAME):
        return
    for name, wrote in ours.items():
        path = folder / name
        if path.exists() and not _holds(wrote, path):
            raise ConfigError(
                f"{path}: was not written by a run, and would be replaced; move it, or give another --name or --runs"
            )


def _holds(wrote: Callable[[Path], bool], path: Path) -> bool:
    try:
        return wrote(path)
    except (UserError, OSError, ValueError):
        return False


def is_environment(path: Path) -> bool:
    """Tell whether a file is one that a run describes the machine in."""
    found = parse_json(read_file(path))
    return isinstance(found, dict) and {"processors_usable", "memory_mib", "versions"} <= set(found)


def _is_configuration(path: Path) -> bool:
    """Tell whether a file is a configuration as a run writes it, with every default."""
    from difflm_jobs.loading import load_experiment

    return dump_yaml(load_experiment(str(path))).encode() == read_file(path)


def _is_log(path: Path) -> bool:
    return bool(read_runs(path.parent))


_OURS: Mapping[str, Callable[[Path], bool]] = {
    CONFIG_NAME: _is_configuration,
    "environment.json": is_environment,
    LOG_NAME: _is_log,  # an empty one, or another's
}


def experiment_scores(
    config: ExperimentConfig, runs: Path, *, cluster: ClusterFactory, reporting: Reporting
) -> Mapping[str, ScoreEntry]:
    """Run what is missing of a whole experiment; return the scores of its report by their names."""
    from difflm_evaluators.report.layout import read_report

    _, artifacts = run_experiment(config, runs, last=None, started=time.time(), reporting=reporting, cluster=cluster)
    (report,) = [artifact for artifact in artifacts if artifact.kind == REPORT_KIND]
    return read_report(report.path / "report.json").scores


def refuse_failed_run(gates: Sequence[Gate], artifacts: Sequence[Artifact], warn: Callable[[str], None]) -> None:
    """Judge the report among the artifacts of a run, if there is one; as `refuse_failed`."""
    facts = {artifact.kind: artifact.manifest.facts for artifact in artifacts}
    if HEADLINES in facts.get(REPORT_KIND, {}):
        rows = int(facts["synthetic"]["rows_emitted"])
        refuse_failed(gates, facts[REPORT_KIND][HEADLINES], rows, warn)


def _record(stages: Sequence[StageRecord], started: float, *, error: str | None) -> RunRecord:
    return RunRecord(
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        wall_seconds=time.time() - started,
        stages=tuple(stages),
        error=error,
    )


def find_experiment(run: str, runs: Path) -> Path:
    """Find the folder of an experiment given by its name or its path.

    Raises:
        ConfigError: there is none; names the ones there are.
    """
    from difflm.synthesis.sharing.container import SUFFIX

    for folder in (Path(run), runs / run):
        if (folder / LOG_NAME).is_file():
            return folder
    if run.endswith(SUFFIX):
        raise ConfigError(f"{run}: no such file; difflm export RUN {run} writes one")
    known = sorted(path.parent.name for path in runs.glob(f"*/{LOG_NAME}"))
    listed = f"the runs in {runs} are {', '.join(known)}" if known else f"there are no runs in {runs} yet"
    raise ConfigError(f"{run}: no such run; {listed}; give another folder with --runs")
