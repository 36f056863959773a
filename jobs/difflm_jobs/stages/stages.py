"""The stages of an experiment, in order, and the cluster they run on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from difflm.artifacts import Artifact
from difflm_jobs.pipeline.pipeline import ClusterFactory
from difflm_jobs.pipeline.stage import Stage
from difflm_jobs.stages.autoencoder import Encode, TrainAutoencoder
from difflm_jobs.stages.decoder import FitDecoder
from difflm_jobs.stages.evaluate import Evaluate
from difflm_jobs.stages.prepare import Prepare
from difflm_jobs.stages.prior import TrainConditional, TrainDiffusion
from difflm_jobs.stages.synthesize import Assemble, Synthesize

if TYPE_CHECKING:
    from difflm.runtime.compute import Compute
    from difflm_jobs.config import ExperimentConfig, RuntimeConfig


def build_stages(config: ExperimentConfig, *, against: Artifact | None = None) -> list[Stage]:
    """Every stage that this configuration asks for, each with its own part of it; `against` is as of `Evaluate`."""
    return [
        Prepare(data=config.data, schema=config.schema_, seed=config.seed),
        FitDecoder(config=config),
        TrainAutoencoder(config=config),
        Encode(config=config),
        TrainDiffusion(config=config),
        *([TrainConditional(config=config)] if config.conditions.enabled else []),
        Assemble(conditional=config.conditions.enabled),
        Synthesize(config=config),
        Evaluate(config=config, against=against),
    ]


def cluster_of(runtime: RuntimeConfig) -> ClusterFactory:
    """A context that starts or joins the configured cluster, and leaves it at its end."""

    @contextmanager
    def cluster() -> Iterator[Compute]:
        from difflm.runtime.cluster import start_or_connect, stop
        from difflm.runtime.compute import RayCompute

        start_or_connect(runtime.cluster)
        try:
            yield RayCompute()
        finally:
            stop()

    return cluster


@contextmanager
def this_process() -> Iterator[Compute]:
    """Compute in this process, without Ray (a `ClusterFactory`)."""
    from difflm.runtime.compute import LocalCompute

    yield LocalCompute()


@contextmanager
def kept_cluster(runtime: RuntimeConfig) -> Iterator[ClusterFactory]:
    """One cluster for several runs: started by the first of them that needs it, left when all have ended."""
    with ExitStack() as stack:
        started: list[Compute] = []

        @contextmanager
        def cluster() -> Iterator[Compute]:
            if not started:
                started.append(stack.enter_context(cluster_of(runtime)()))
            yield started[0]

        yield cluster
