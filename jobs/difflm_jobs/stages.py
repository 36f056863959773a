"""The stages of an experiment, in order, and the cluster they run on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from difflm_jobs.pipeline import ClusterFactory
from difflm_jobs.prepare import Prepare
from difflm_jobs.stage import Stage

if TYPE_CHECKING:
    from difflm_jobs.config import ExperimentConfig


def build_stages(config: ExperimentConfig) -> list[Stage]:
    """Every stage that this configuration asks for, each with its own part of it."""
    return [Prepare(data=config.data, schema=config.schema_, seed=config.seed)]


def cluster_of(config: ExperimentConfig) -> ClusterFactory:
    """A context that starts or joins the configured cluster, and leaves it at its end."""

    @contextmanager
    def cluster() -> Iterator[object]:
        from difflm.runtime.cluster import start_or_connect, stop

        context = start_or_connect(config.runtime.cluster)
        try:
            yield context
        finally:
            stop()

    return cluster
