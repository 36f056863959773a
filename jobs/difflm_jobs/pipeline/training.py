"""Training stages: one training job each, with its progress, its loss curve and its cost brought into the artifact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from difflm.telemetry import JSON
from difflm_jobs.pipeline.stage import StageContext, StageOutcome

if TYPE_CHECKING:
    from difflm.runtime.training import TrainingResult
    from difflm.training.loop import LoopConfig
    from difflm.training.task import TaskSpec
    from difflm_jobs.config import RuntimeConfig

EVENTS = "events.jsonl"


def run_training(
    context: StageContext,
    *,
    name: str,
    spec: TaskSpec,
    loop: LoopConfig,
    runtime: RuntimeConfig,
    work: Path | None = None,
    output: Path | None = None,
) -> StageOutcome:
    """Train where the run computes, or go on where a killed run stopped; at once where that training has ended.

    ``output`` then holds best.safetensors, summary.json and events.jsonl (the loss curve): by default the stage's own,
    as ``work`` is. A stage with several trainings gives each a folder.
    """
    from difflm.runtime.training import TrainingJob, chosen_engine

    context.report(0, None, "starting workers")
    compute = context.start_cluster()
    job = TrainingJob(
        name=name,
        spec=spec,
        loop=loop,
        engine=chosen_engine(runtime.engine, runtime.workers.num_workers),
        workers=runtime.workers,
        work_dir=work or context.work,
        output_dir=output or context.output,
    )

    def progress(step: int, total: int, metrics: Mapping[str, float]) -> None:
        context.report(step, total, f"step {step} of at most {total}, loss {metrics['loss']:.4g}")

    try:
        return _outcome(compute.train(job, progress=progress))
    except SystemExit as ended:  # how Ray Train answers Ctrl-C
        raise KeyboardInterrupt from ended


def _outcome(result: TrainingResult) -> StageOutcome:
    return StageOutcome(
        compute_seconds=_own_seconds(result.timings),
        peak_rss_mib={f"worker {worker['rank']}": _mib(worker["peak_rss_mib"]) for worker in result.workers},
        facts={
            "steps": result.steps,
            "stopped": result.stopped,
            "best_step": result.best_step,
            "best_objective": result.best_objective,
            "precision": result.precision,
            "loop_seconds": result.loop_seconds,
            "timings": {part: round(seconds, 3) for part, seconds in result.timings.items()},
        },
    )


def _own_seconds(timings: Mapping[str, float]) -> float:
    """Sum the seconds of building the task and the engine and of training, which would be spent without Ray, too."""
    return sum(timings.get(part, 0.0) for part in ("task", "engine", "loop"))


def _mib(value: JSON) -> float:
    assert isinstance(value, (int, float)), "peak_rss_mib is a number"
    return float(value)
