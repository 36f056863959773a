"""Where stages compute: in this process, or on a Ray cluster; the same jobs, the same artifacts, the same rows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from difflm.artifacts.dataset import Shard
from difflm.errors import ConfigError
from difflm.models.precision import Precision, fast_precision, own_device
from difflm.runtime.ledger import ShardLedger
from difflm.runtime.shard_actor import (
    KERNEL_CACHES,
    ActorPoolConfig,
    MapSummary,
    ShardRunner,
    ShardWorker,
    raise_failure,
)
from difflm.runtime.training import TrainingJob, TrainingResult, launch_on_ray, train, worker_job
from difflm.runtime.work_folder import Progress, WorkFolder, following
from difflm.runtime.worker_precision import worker_precision
from difflm.telemetry import JSON, peak_rss_mib

OnResult = Callable[[dict[str, JSON]], None]
Record = Callable[[Mapping[str, Any]], None]
"""Counts the account of a piece of a map."""


class Compute(Protocol):
    """Trains and maps; what comes back, and what is left on disk, does not depend on where it was done."""

    def train(self, job: TrainingJob, *, progress: Progress | None = None) -> TrainingResult:
        """Run a training job, or go on with it; see `difflm.runtime.training.train`."""
        ...

    def map_shards(
        self,
        shards: Sequence[Shard],
        worker: type[ShardWorker],
        args: Mapping[str, Any],
        pool: ActorPoolConfig,
        on_result: OnResult,
        timeout_s: float,
        *,
        folders: Mapping[str, Path] | None = None,
    ) -> MapSummary:
        """Run a worker on every shard; see `difflm.runtime.batch_actors.map_shards`."""
        ...

    def metrics(self, job: str) -> Record:
        """Open the metrics of a map, under the name of its job."""
        ...

    def fast_precision(self, pool: ActorPoolConfig, timeout_s: float) -> Precision:
        """Find the precision that workers of a map are fast in.

        All of them compute in it where nothing else is asked for.
        """
        ...


class RayCompute:
    """Computes on the Ray cluster that this process is connected to."""

    def train(self, job: TrainingJob, *, progress: Progress | None = None) -> TrainingResult:
        """Run the workers of a job as a Ray Train run."""
        return train(job, progress=progress, launch=launch_on_ray)

    def map_shards(
        self,
        shards: Sequence[Shard],
        worker: type[ShardWorker],
        args: Mapping[str, Any],
        pool: ActorPoolConfig,
        on_result: OnResult,
        timeout_s: float,
        *,
        folders: Mapping[str, Path] | None = None,
    ) -> MapSummary:
        """Map with a pool of Ray Data actors."""
        from difflm.runtime.batch_actors import map_shards

        return map_shards(shards, worker, args, pool, on_result, timeout_s, folders=folders)

    def metrics(self, job: str) -> Record:
        """Count for Prometheus, on the metrics port of this node."""
        from difflm.runtime.metrics import PrometheusMetrics

        return PrometheusMetrics(job).record

    def fast_precision(self, pool: ActorPoolConfig, timeout_s: float) -> Precision:
        """Look where a worker would run.

        Raises:
            ClusterError: no node had room for a worker within `timeout_s`.
        """
        return worker_precision("auto", cpus=pool.cpus_per_actor, gpus=pool.gpus_per_actor, timeout_s=timeout_s)


class LocalCompute:
    """Computes in this process, one thing after the other; Ray is neither started nor imported."""

    def train(self, job: TrainingJob, *, progress: Progress | None = None) -> TrainingResult:
        """Run the only worker of a job here.

        Raises:
            ConfigError: the job wants several workers, or an engine that shards among them.
        """
        return train(job, progress=progress, launch=_launch_here)

    def map_shards(
        self,
        shards: Sequence[Shard],
        worker: type[ShardWorker],
        args: Mapping[str, Any],
        pool: ActorPoolConfig,
        on_result: OnResult,
        timeout_s: float,
        *,
        folders: Mapping[str, Path] | None = None,
    ) -> MapSummary:
        """Work on the shards in order. A call cannot be interrupted, so nothing watches `timeout_s`."""
        del timeout_s
        for name, capacity in KERNEL_CACHES.items():  # read at torch's first product
            os.environ.setdefault(name, capacity)
        started, first = time.monotonic(), 0.0
        ledger = ShardLedger(attempts=pool.attempts, max_failures=pool.max_failures, max_given_up=pool.max_given_up)
        here = {name: str(path.resolve()) for name, path in (folders or {}).items()}
        runner = ShardRunner(
            worker,
            {**args, **here},
            attempts=pool.attempts,
            ledger=lambda method, *given: getattr(ledger, method)(*given),
        )
        with _threads(pool.cpus_per_actor):
            for shard in shards:
                for row in runner.rows(shard):
                    if "error" in row:
                        raise_failure(row)
                    first = first or time.monotonic() - started
                    on_result(row)
        peaks = {os.getpid(): peak_rss_mib()} if shards else {}
        return MapSummary(
            shards=len(shards), seconds=time.monotonic() - started, first_result_seconds=first, peak_rss_mib=peaks
        )

    def metrics(self, job: str) -> Record:
        """Count nothing: the metrics are Ray's."""
        del job
        return lambda account: None

    def fast_precision(self, pool: ActorPoolConfig, timeout_s: float) -> Precision:
        """Look at this machine."""
        del pool, timeout_s
        return fast_precision(own_device())


def _launch_here(job: TrainingJob, own: WorkFolder, progress: Progress | None) -> None:
    """Train with one worker in this process (a `Launch`)."""
    import torch

    from difflm.runtime.training_worker import run_worker

    if job.workers.num_workers > 1 or job.engine.kind != "plain":
        raise ConfigError(
            f"runtime.workers.num_workers {job.workers.num_workers} with the engine {job.engine.kind}: one process "
            "trains with one worker and the plain engine; give a cluster, such as 'auto', for more"
        )
    device = torch.device("cuda" if job.workers.gpus_per_worker else "cpu")
    with _threads(job.workers.cpus_per_worker), following(own.events, progress):
        run_worker(worker_job(job, own), device=device, report=lambda folder, step: None)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch use so many threads within, as a worker of that size does, and afterwards what it used before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
