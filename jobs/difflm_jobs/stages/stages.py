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
from difflm_jobs.stages.private import FitPrivately, KeepRows, StartDecoder, Summarize
from difflm_jobs.stages.synthesize import Assemble, Synthesize

if TYPE_CHECKING:
    from difflm.privacy.budget import PrivacyConfig
    from difflm.runtime.compute import Compute
    from difflm.training.autoencoder_task import AutoencoderConfig
    from difflm.training.steered_task import Steering
    from difflm_jobs.config import ExperimentConfig, RuntimeConfig


def build_stages(config: ExperimentConfig, *, against: Artifact | None = None) -> list[Stage]:
    """Make every stage that a configuration asks for, each with its own part of it; `against` is as of `Evaluate`."""
    decoder, autoencoder, seed = config.decoder, config.autoencoder, config.seed
    compact, cells = decoder.kind == "compact", autoencoder.encoder.kind != "pretrained"
    fit = FitDecoder(
        decoder=decoder,
        fit=config.decoder_fit if compact else None,
        steering=_steering(autoencoder) if compact else None,
        seed=seed,
        cells=compact or cells,
        rows_per_piece=config.protect.threshold if config.protect.enabled and config.privacy is None else 0,
    )
    corrected = fit.steering is not None  # with privacy, by rows of the private counts, which cost nothing
    return [
        *(_prepared(config, fit) if config.privacy is None else _private(config, config.privacy, fit)),
        TrainAutoencoder(autoencoder=autoencoder, seed=seed),
        Encode(rows_per_shard=config.runtime.encoding.rows_per_shard),
        TrainDiffusion(prior=config.prior, seed=seed),
        *([TrainConditional(conditions=config.conditions, seed=seed)] if config.conditions.enabled else []),
        Assemble(
            conditional=config.conditions.enabled,
            calibration=config.calibration if corrected else None,
            critic=config.critic if corrected and config.data.record_kind.tabular else None,
            least_rows=config.protect.threshold if config.protect.enabled else 1,
            seed=seed,
        ),
        Synthesize(
            sampling=config.sampling,
            rows=config.rows,
            rows_per_shard=config.runtime.synthesis.rows_per_shard,
            seed=seed,
            protected=config.protect.enabled and config.privacy is None,
        ),
        Evaluate(
            title=config.name,
            kind=config.data.kind,
            evaluation=config.evaluation,
            copies=config.copies,
            language=config.language,
            maps=compact and cells and config.data.record_kind.tabular,
            published=config.published,
            shown=config.model_dump(mode="json", by_alias=True, exclude={"published", "runtime"}),
            against=against,
            private=config.privacy is not None,
        ),
    ]


def _prepared(config: ExperimentConfig, fit: FitDecoder) -> list[Stage]:
    prepare = Prepare(
        data=config.data,
        schema=config.schema_,
        seed=config.seed,
        relations=config.relations,
        protect=config.protect,
    )
    return [prepare, fit]


def _private(config: ExperimentConfig, privacy: PrivacyConfig, fit: FitDecoder) -> list[Stage]:
    """Make the stages that read real rows, and what takes their place."""
    target, seed = config.data.target, config.seed
    return [
        KeepRows(data=config.data, privacy=privacy),
        Summarize(privacy=privacy, schema=config.schema_, target=target, seed=seed),
        StartDecoder(fit=fit),
        FitPrivately(privacy=privacy, fit=fit, seed=seed),
    ]


def _steering(autoencoder: AutoencoderConfig) -> Steering | None:
    """Return the latent that a compact decoder is fitted with; None where z carries whole records."""
    from difflm.training.steered_task import Steering

    if autoencoder.encoder.kind != "pooled" or autoencoder.kl.kind != "capacity":
        return None
    return Steering(shape=autoencoder.shape, nats=autoencoder.kl.nats)


def cluster_of(runtime: RuntimeConfig) -> ClusterFactory:
    """Return a context that starts or joins the configured cluster, and leaves it at its end."""

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
    """Share one cluster among several runs: started by the first of them that needs it, left when all have ended."""
    with ExitStack() as stack:
        started: list[Compute] = []

        @contextmanager
        def cluster() -> Iterator[Compute]:
            if not started:
                started.append(stack.enter_context(cluster_of(runtime)()))
            yield started[0]

        yield cluster
