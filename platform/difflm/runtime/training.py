"""Training jobs: run a task's loop as a Ray Train job that survives the death of any worker and of the driver."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from difflm.artifacts.atomic import (
    remove_temporaries,
    remove_tree,
    storage_errors,
    temporary_sibling,
    write_json_atomic,
)
from difflm.config import Config
from difflm.errors import MISFITS, ClusterError, DiffLMError, TrainingError, reason_of
from difflm.models.precision import Precision
from difflm.regular_files import read_file
from difflm.runtime.cluster import current_context, require_resources
from difflm.runtime.deepspeed_engine import DeepSpeedEngineConfig
from difflm.runtime.process import error_class, handler_kept, last_line
from difflm.runtime.training_worker import WorkerJob, work
from difflm.runtime.work_folder import Progress, WorkFolder, following, take_over
from difflm.telemetry import JSON, parse_json
from difflm.training.loop import LoopConfig
from difflm.training.task import TaskSpec

_JOB_FILE = "job.json"


class PlainEngineConfig(Config):
    """Torch alone: every worker holds the whole model, gradients are averaged by one all-reduce."""

    kind: Literal["plain"] = "plain"


class AutoEngineConfig(Config):
    """The plain engine for one worker, where there is nothing to shard, and DeepSpeed for several."""

    kind: Literal["auto"] = "auto"
    zero_stage: Literal[0, 1, 2, 3] = Field(default=2, description="What several workers shard: 0 nothing, 3 all.")

    def chosen(self, workers: int) -> PlainEngineConfig | DeepSpeedEngineConfig:
        return PlainEngineConfig() if workers == 1 else DeepSpeedEngineConfig(zero_stage=self.zero_stage)


EngineConfig = Annotated[AutoEngineConfig | PlainEngineConfig | DeepSpeedEngineConfig, Field(discriminator="kind")]


def chosen_engine(engine: EngineConfig, workers: int) -> PlainEngineConfig | DeepSpeedEngineConfig:
    """Choose the engine that so many workers train with."""
    return engine.chosen(workers) if isinstance(engine, AutoEngineConfig) else engine


class WorkersConfig(Config):
    """The processes of a training job."""

    num_workers: int = Field(default=1, ge=1, description="Processes; each sees other batches of the same size.")
    cpus_per_worker: int = Field(default=1, ge=1, description="CPUs, and torch threads, of each process.")
    gpus_per_worker: int = Field(default=0, ge=0, le=1, description="1 trains on a GPU with nccl, 0 on CPUs with gloo.")
    max_failures: int = Field(default=3, ge=0, description="How often a dead or failing worker is replaced.")
    timeout_s: int = Field(default=1800, ge=1, description="After this long without an answer a peer counts as dead.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One stage's training. `work_dir` lies on storage that all workers share; `output_dir` only the driver writes.

    What is in the work folder, and who may write there, says `work_folder.py`.
    """

    name: str
    spec: TaskSpec
    loop: LoopConfig
    engine: PlainEngineConfig | DeepSpeedEngineConfig
    workers: WorkersConfig
    work_dir: Path
    output_dir: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """The outcome. Seconds are wall clock: `loop_seconds` over all lives of the job, `total_seconds` of this call.

    `timings` splits this call into start (driver to train function), task, engine, loop, finish, stop (loop end to
    return); `workers` has rank, pid and peak_rss_mib of each process.
    """

    steps: int
    stopped: str
    best_step: int
    best_objective: float
    precision: Precision
    resumed_from: int
    loop_seconds: float
    total_seconds: float
    timings: dict[str, float]
    workers: list[dict[str, JSON]]
    summary: dict[str, JSON]


Launch = Callable[[TrainingJob, WorkFolder, Progress | None], None]
"""Runs the workers of a job until they have ended, on Ray or in this process; errors on purpose are raised."""


def train(job: TrainingJob, *, progress: Progress | None = None, launch: Launch | None = None) -> TrainingResult:
    """Run the job, or go on where an earlier call with the same work folder was killed; return when it has ended.

    Afterwards `output_dir` holds best.safetensors, summary.json and events.jsonl (the history). Checkpoints are
    removed. A killed call, worker or driver, goes on from the last complete checkpoint, at most `checkpoint_every`
    steps back, and repeats the same loss curve; workers that outlive their driver cannot disturb the next one's.
    `progress(step, total, metrics)` is called in a thread of the driver. `launch` says where the workers run: on Ray by
    default.

    Checkpoints hold whole tensors, so a call with other workers or another engine goes on from them as well; its
    batches, and so its curve, are then others.

    Raises TrainingError (loss not finite, work folder of another job, another call went on with the work), ClusterError
    (workers failed more than `max_failures` times, resources never there) and whatever DiffLMError the task raised.
    """
    started = time.time()
    work_dir = job.work_dir.resolve()
    with storage_errors(work_dir):
        work_dir.mkdir(parents=True, exist_ok=True)
        _claim(job, work_dir)
        own = take_over(work_dir)
        remove_temporaries(work_dir)
        remove_temporaries(own.folder)
    if not own.result.exists():
        remove_tree(own.failure)
        (launch or launch_on_ray)(job, own, progress)
        raise_recorded(own)
    own.check()
    if not own.result.exists():
        raise ClusterError(f"{job.name}: the workers ended without a result in {own.finished}; run it again")
    try:
        with storage_errors(job.output_dir):
            facts = _deliver(own, job.output_dir)
            remove_tree(own.checkpoints)
        return _result(facts, started)
    except MISFITS as error:
        reason = reason_of(error)
        raise TrainingError(f"{own.result}: not what workers write ({reason}); remove {own.folder}") from error


def launch_on_ray(job: TrainingJob, own: WorkFolder, progress: Progress | None) -> None:
    """Run a job on Ray Train, with worker failures retried from the last checkpoint."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    workers, gpu = job.workers, job.workers.gpus_per_worker > 0
    cpus = workers.num_workers * workers.cpus_per_worker
    require_resources(current_context(), cpus=cpus, gpus=workers.num_workers * int(gpu), purpose=f"training {job.name}")
    # Durable state is this project's own (see training_worker); what Ray remembers of an earlier driver may be torn.
    remove_tree(own.checkpoints / "checkpoint_manager_snapshot.json")
    with handler_kept(signal.SIGINT), following(own.events, progress), _meeting(job) as meeting:
        trainer = TorchTrainer(
            work,
            train_loop_config={"job": worker_job(job, own), "gpu": gpu},
            scaling_config=ScalingConfig(
                num_workers=workers.num_workers,
                use_gpu=gpu,
                resources_per_worker={"CPU": workers.cpus_per_worker} | ({"GPU": 1} if gpu else {}),
            ),
            torch_config=meeting,
            run_config=RunConfig(
                name=own.checkpoints.name,
                storage_path=str(own.folder),
                failure_config=FailureConfig(max_failures=workers.max_failures),
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            raise_recorded(own)
            own.check()
            _raise_deliberate(error)
            raise ClusterError(f"training {job.name} failed: {_one_line(error)}") from error


@contextmanager
def _meeting(job: TrainingJob) -> Iterator[Any]:
    """Say how the workers of a job find each other: on one machine nobody else may reach them."""
    from ray.train.torch import TorchConfig

    from difflm.runtime.rendezvous import OneMachineConfig

    backend, timeout_s = "nccl" if job.workers.gpus_per_worker else "gloo", job.workers.timeout_s
    if not current_context().loopback:
        yield TorchConfig(backend=backend, timeout_s=timeout_s)
        return
    peers = job.workers.num_workers > 1 or job.engine.kind != "plain"
    with tempfile.TemporaryDirectory(prefix="difflm-peers-", ignore_cleanup_errors=True) as folder:
        yield OneMachineConfig(backend=backend, timeout_s=timeout_s, folder=folder, peers=peers)


def worker_job(job: TrainingJob, own: WorkFolder) -> WorkerJob:
    """Say what each worker of a job is to do."""
    inputs = {name: str(Path(path).resolve()) for name, path in job.spec.inputs.items()}
    spec = TaskSpec(factory=job.spec.factory, config=job.spec.config, inputs=inputs, seed=job.spec.seed)
    return WorkerJob(spec=spec, loop=job.loop, engine=job.engine, threads=job.workers.cpus_per_worker, work=own)


def _claim(job: TrainingJob, work_dir: Path) -> None:
    """Write what the work folder is of; refuse a folder with the checkpoints of another job.

    Any number of workers and any engine may go on with it.
    """
    own: dict[str, JSON] = {
        "name": job.name,
        "spec": json.loads(json.dumps({**asdict(job.spec), "inputs": sorted(job.spec.inputs)})),
        "loop": job.loop.model_dump(mode="json"),
    }
    path = work_dir / _JOB_FILE
    if path.exists():
        other = _facts(path)
        changed = sorted(key for key in own if own[key] != other.get(key))
        if changed:
            raise TrainingError(
                f"{path}: the unfinished work there is of another job, it differs in {', '.join(changed)}; "
                f"run it as it was or remove {work_dir} to start over"
            )
        return
    write_json_atomic(path, own)


def _deliver(own: WorkFolder, output_dir: Path) -> Mapping[str, Any]:
    """Copy the outcome and the history to the output folder, each file whole or not at all."""
    facts = _facts(own.result)
    output_dir.mkdir(parents=True, exist_ok=True)
    for source in (own.finished / "best.safetensors", own.events):
        temporary = temporary_sibling(output_dir / source.name)
        shutil.copyfile(source, temporary)
        temporary.replace(output_dir / source.name)
    named = ("steps", "stopped", "best_step", "best_objective", "precision", "loop_seconds", "workers")
    training = {key: facts[key] for key in named}
    write_json_atomic(output_dir / "summary.json", {**facts["summary"], "training": training})
    return facts


def _result(facts: Mapping[str, Any], started: float) -> TrainingResult:
    marks: Mapping[str, float] = facts["marks"]
    ended = time.time()
    timings: dict[str, float] = {}
    if marks["entered"] >= started:  # otherwise an earlier call did the work
        names = ["entered", "task", "engine", "loop", "finished"]
        times = [started, *(marks[name] for name in names), ended]
        labels = ["start", "task", "engine", "loop", "finish", "stop"]
        timings = {label: after - before for label, before, after in zip(labels, times, times[1:], strict=False)}
    return TrainingResult(
        steps=facts["steps"],
        stopped=facts["stopped"],
        best_step=facts["best_step"],
        best_objective=facts["best_objective"],
        precision=facts["precision"],
        resumed_from=facts["resumed_from"],
        loop_seconds=facts["loop_seconds"],
        total_seconds=ended - started,
        timings=timings,
        workers=facts["workers"],
        summary=facts["summary"],
    )


def raise_recorded(own: WorkFolder) -> None:
    """Raise again, in the driver, the error on purpose that a worker recorded."""
    if not own.failure.exists():
        return
    recorded = _facts(own.failure)
    raise (error_class(str(recorded.get("kind"))) or TrainingError)(str(recorded.get("message")))


def _facts(path: Path) -> dict[str, Any]:
    """Read a file of a work folder, which may be a copy. Raises TrainingError where it holds no object in JSON."""
    try:
        found = parse_json(read_file(path))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: cannot be read ({error}); remove it to start over") from error
    if not isinstance(found, dict):
        raise TrainingError(f"{path}: holds no facts of a training; remove it to start over")
    return found


def _raise_deliberate(error: Any) -> None:
    """Raise again an error on purpose that a worker could not record, as where the disk is full."""
    failures: Mapping[int, Exception] = getattr(error, "worker_failures", None) or {}
    for _, failure in sorted(failures.items()):
        if isinstance(failure, DiffLMError):
            own = next(found for kind in type(failure).__mro__ if (found := error_class(kind.__name__)) is not None)
            raise own(last_line(failure, limit=500)) from error


def _one_line(error: Any) -> str:
    """Return the rank and last line of every worker's failure, or of the controller's."""
    failures: Mapping[int, Exception] = getattr(error, "worker_failures", None) or {}
    if not failures:
        return " ".join(str(error).split())[:500]
    return "; ".join(
        f"rank {rank}: {type(failure).__name__}: {last_line(failure)}" for rank, failure in sorted(failures.items())
    )
