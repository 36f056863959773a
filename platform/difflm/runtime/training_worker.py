"""Training worker: what each process of a training job does, and how its checkpoints reach the shared folder.

A checkpoint is a folder `checkpoints/step-<n>` into which all ranks write; rank 0 renames it into place when every
rank has written and flushed its files, then all ranks report it to Ray Train. So a folder of that name is complete,
whatever was killed when, and the newest one is where a run goes on: no other bookkeeping needs to survive. Two are
kept.

An error raised on purpose (DiffLMError) would only be raised again, so it is recorded in `failure.json` and ends the
job; anything else (a peer that vanished, a lost node) counts as a failure that Ray Train retries.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from difflm.artifacts.atomic import (
    atomic_directory,
    remove_temporaries,
    remove_tree,
    temporary_sibling,
    write_json_atomic,
)
from difflm.config import Config
from difflm.errors import DiffLMError, TrainingError
from difflm.models.precision import Precision, fast_precision
from difflm.runtime.deepspeed_engine import DeepSpeedEngine, DeepSpeedEngineConfig
from difflm.runtime.work_folder import WorkFolder
from difflm.telemetry import JSON, append_event, truncate_events
from difflm.training.checkpoints import checkpoint_precision
from difflm.training.engine import Engine, PlainEngine
from difflm.training.loop import Event, LoopConfig, LoopResult, run_loop
from difflm.training.task import OwnEngine, TaskSpec, TrainingTask, build_task

_STEP_PREFIX = "step-"
_KEPT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerJob:
    """What a worker is told; paths are absolute."""

    spec: TaskSpec
    loop: LoopConfig
    engine: Config
    threads: int
    work: WorkFolder


class Peers:
    """The processes of a training job, as torch.distributed knows them; without a process group, this one alone."""

    def __init__(self) -> None:
        self._ready = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if self._ready else 0
        self.count = dist.get_world_size() if self._ready else 1

    def barrier(self) -> None:
        """Wait until every process has come this far."""
        if self._ready:
            dist.barrier()

    def gather(self, own: object) -> list[Any]:
        """Collect what every process gives, by rank."""
        found: list[Any] = [own] * self.count
        if self._ready:
            dist.all_gather_object(found, own)
        return found

    def agree(self, own: object) -> Any:
        """Return what rank 0 gives, on every rank."""
        found = [own]
        if self._ready:
            dist.broadcast_object_list(found, src=0)
        return found[0]


def work(config: Mapping[str, Any]) -> None:
    """Train on a worker of Ray Train: `config["job"]` is a `WorkerJob`, `config["gpu"]` whether it has a GPU."""
    run_worker(config["job"], device=_device_of_ray(gpu=config["gpu"]), report=_report)


def run_worker(job: WorkerJob, *, device: torch.device, report: Callable[[Path, int], None]) -> None:
    """Run the loop of a job on this process, among its peers where there is a process group.

    Errors on purpose are recorded in the work folder, where the driver finds them. `report(folder, step)` is called
    after every checkpoint.
    """
    peers = Peers()
    if job.work.lost or job.work.failure.exists():
        return  # another driver goes on, or an earlier try of this group ended on purpose; the driver says why
    try:
        _work(job, peers, device, report)
    except DiffLMError as error:
        _record(job, error)
        if peers.count > 1:
            raise  # peers may be waiting for this rank: Ray Train has to end them
    except (torch.OutOfMemoryError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        told = TrainingError(f"out of memory ({reason}); use smaller batches with more loop.gradient_accumulation")
        _record(job, told)
        if peers.count > 1:
            raise told from error


def _work(job: WorkerJob, peers: Peers, device: torch.device, report: Callable[[Path, int], None]) -> None:
    marks = {"entered": time.time()}
    torch.set_num_threads(job.threads)
    if peers.rank == 0:
        remove_temporaries(job.work.checkpoints)
    peers.barrier()
    precision = agreed_precision(job, peers, device)
    task = build_task(_told(job.spec, precision), device)
    marks["task"] = time.time()
    engine = _build_engine(job, task, device, precision)
    marks["engine"] = time.time()
    io = SharedFolderIO(job.work, peers, report)
    result = run_loop(task, engine, job.loop, io, seed=job.spec.seed)
    marks["loop"] = time.time()
    workers = peers.gather({"rank": peers.rank, "pid": os.getpid(), "peak_rss_mib": result.peak_rss_mib})
    if peers.rank == 0:
        _finish(job, task, result, workers, precision=precision, resumed_from=io.resumed_from, marks=marks)


def agreed_precision(job: WorkerJob, peers: Peers, device: torch.device) -> Precision:
    """Agree on what all workers compute in.

    Under `auto` this is what the checkpoint they go on from was trained in, or else bfloat16 if every worker's
    processor is fast in it.
    """
    if job.loop.precision != "auto":
        return job.loop.precision
    checkpoint = newest_checkpoint(job.work)
    recorded = None if checkpoint is None else checkpoint_precision(checkpoint)
    told = peers.gather((recorded, fast_precision(device)))
    kept: Precision | None = told[0][0]  # as rank 0 sees the shared folder
    return kept or ("bfloat16" if all(fast == "bfloat16" for _, fast in told) else "float32")


def _told(spec: TaskSpec, precision: Precision) -> TaskSpec:
    """Return the same task, which reads in its configuration what was agreed on in place of `auto`."""
    if "loop" not in spec.config:
        return spec
    loop = {**cast("Mapping[str, JSON]", spec.config["loop"]), "precision": precision}
    return replace(spec, config={**spec.config, "loop": loop})


def _build_engine(job: WorkerJob, task: TrainingTask, device: torch.device, precision: Precision) -> Engine:
    if isinstance(task, OwnEngine):
        return task.make_engine(device, precision)
    if isinstance(job.engine, DeepSpeedEngineConfig):
        return DeepSpeedEngine(
            task.module,
            job.engine,
            device=device,
            weight_decay=job.loop.weight_decay,
            gradient_clip=job.loop.gradient_clip,
            gradient_accumulation=job.loop.gradient_accumulation,
            precision=precision,
        )
    return PlainEngine(
        task.module,
        device=device,
        weight_decay=job.loop.weight_decay,
        gradient_clip=job.loop.gradient_clip,
        gradient_accumulation=job.loop.gradient_accumulation,
        precision=precision,
        method=job.loop.method,
    )


def _device_of_ray(*, gpu: bool) -> torch.device:
    """Return the GPU that Ray gave this worker, or the CPU where it asked for none."""
    if not gpu:
        return torch.device("cpu")
    from ray.train.torch import get_device

    device: torch.device = get_device()
    return device


def _finish(
    job: WorkerJob,
    task: TrainingTask,
    result: LoopResult,
    workers: list[Any],
    *,
    precision: Precision,
    resumed_from: int,
    marks: dict[str, float],
) -> None:
    """Put the outcome into `finished/`, whole or not at all."""
    with job.work.writing(job.work.finished), atomic_directory(job.work.finished) as folder:
        save_file(result.best_tensors, folder / "best.safetensors")
        facts: dict[str, JSON] = {
            "steps": result.steps,
            "stopped": result.stopped,
            "precision": precision,
            "best_step": result.best_step,
            "best_objective": result.best_objective,
            "resumed_from": resumed_from,
            "loop_seconds": result.seconds,
            "workers": workers,
            "summary": task.summary(),
            "marks": {**marks, "finished": time.time()},
        }
        (folder / job.work.result.name).write_text(json.dumps(facts, allow_nan=False))


def _record(job: WorkerJob, error: DiffLMError) -> None:
    """Tell the driver, which stops the job; the first rank to fail is heard."""
    if not job.work.lost and not job.work.failure.exists():
        write_json_atomic(job.work.failure, {"kind": type(error).__name__, "message": str(error)})


def newest_checkpoint(work: WorkFolder) -> Path | None:
    """Find where a run goes on; None where there is no checkpoint yet."""
    return max(work.checkpoints.glob(f"{_STEP_PREFIX}*"), default=None)


class SharedFolderIO:
    """The loop's `LoopIO` on the job's work folder; `report` hears of every checkpoint, as Ray Train has to."""

    def __init__(self, work: WorkFolder, peers: Peers, report: Callable[[Path, int], None]) -> None:
        self._work = work
        self._peers = peers
        self._report = report
        self.resumed_from = 0

    def resume_from(self) -> Path | None:
        return newest_checkpoint(self._work)

    def started(self, step: int) -> None:
        self.resumed_from = step
        if self._peers.rank == 0:
            with self._work.writing(path := self._work.events):
                try:
                    truncate_events(path, lambda event: _step_of(event) <= step)
                except ValueError as error:
                    raise TrainingError(f"{path}: no log of a training ({error}); remove it to go on") from error
        self._peers.barrier()

    def log(self, event: Event) -> None:
        with self._work.writing(self._work.events):
            append_event(self._work.events, event)

    def checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
        final = self._work.checkpoints / f"{_STEP_PREFIX}{step:08d}"
        partial = self._agreed_sibling(final)
        try:
            with self._work.writing(partial):
                write(partial)
                _flush(partial)
        except BaseException:
            with suppress(OSError):  # what counts is the first error
                remove_tree(partial)
            raise
        self._peers.barrier()
        if self._peers.rank == 0:
            with self._work.writing(final):
                remove_tree(final)
                partial.rename(final)
            for old in sorted(self._work.checkpoints.glob(f"{_STEP_PREFIX}*"))[:-_KEPT]:
                remove_tree(old)
        self._peers.barrier()
        self._report(final, step)

    def _agreed_sibling(self, final: Path) -> Path:
        """Agree on a fresh folder, made by rank 0, under a name that all ranks know."""
        name = None
        if self._peers.rank == 0:
            partial = temporary_sibling(final)
            with self._work.writing(partial):
                partial.mkdir()
            name = partial.name
        return final.with_name(str(self._peers.agree(name)))


def _report(folder: Path, step: int) -> None:
    from ray.train import Checkpoint, report
    from ray.train import CheckpointUploadMode as UploadMode

    report({"step": step}, checkpoint=Checkpoint(str(folder)), checkpoint_upload_mode=UploadMode.NO_UPLOAD)


def _flush(folder: Path) -> None:
    """Ask the operating system to write this folder's files to disk; a file that another rank moved meanwhile is its
    own.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _step_of(event: Mapping[str, JSON]) -> int:
    step = event.get("step")
    return step if isinstance(step, int) else 0
