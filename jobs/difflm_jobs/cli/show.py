"""Looking at finished experiments: `difflm show` and `difflm verify`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from difflm.artifacts import ArtifactStore, Manifest
from difflm.artifacts.store import Artifact
from difflm.errors import ArtifactError
from difflm_jobs.cli.summary import print_summary
from difflm_jobs.experiment import find_experiment
from difflm_jobs.pipeline.runlog import RunRecord, StageRecord, read_runs


def print_experiment(run: str, runs: Path, console: Console) -> None:
    """Print what the last run of an experiment that executed something did, and the stages it found finished.

    Raises:
        ConfigError: there is no such experiment.
        ArtifactError: it has no finished run, or an artifact of it was removed.
    """
    folder = find_experiment(run, runs)
    logged = read_runs(folder)
    finished = [record for record in logged if record.error is None]
    if not finished:
        last = logged[-1].error if logged else "it never began"
        raise ArtifactError(f"{folder}: no run has finished ({last}); run it again to go on")
    working = [record for record in finished if record.compute_seconds > 0] or finished
    shown = working[-1]
    artifacts = [_artifact(folder, stage) for stage in shown.stages]
    console.print(f"{folder}: run of {shown.started}, {len(logged)} in all", highlight=False, soft_wrap=True)
    print_summary(console, _with_costs(shown, artifacts), artifacts)


def _artifact(folder: Path, stage: StageRecord) -> Artifact:
    path = folder / "artifacts" / stage.artifact
    return Artifact(path=path, manifest=Manifest.read(path))


def _with_costs(run: RunRecord, artifacts: list[Artifact]) -> RunRecord:
    """The run with the memory that each artifact took when it was made."""
    stages = tuple(
        stage.model_copy(update={"peak_rss_mib": artifact.manifest.peak_rss_mib})
        for stage, artifact in zip(run.stages, artifacts, strict=True)
    )
    return run.model_copy(update={"stages": stages})


def verify_experiment(run: str, runs: Path, console: Console) -> None:
    """Hash every file of every artifact and compare with the manifests.

    Raises:
        ConfigError: there is no such experiment.
        ArtifactError: files are missing, changed or added; names the first and how many there are.
    """
    store = ArtifactStore(find_experiment(run, runs))
    artifacts = store.finished()
    problems = [problem for artifact in artifacts for problem in store.verify(artifact)]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ArtifactError(f"{problems[0]}{more}; remove the artifact's folder and run its stage again")
    files = sum(len(artifact.manifest.files) for artifact in artifacts)
    console.print(f"{store.root}: {len(artifacts)} artifacts, {files} files, all as written", highlight=False)
