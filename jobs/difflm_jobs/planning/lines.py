"""The lines of a plan: every stage with its state, its size and what its processes need, from what is known by now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from difflm.artifacts import Artifact, ArtifactStore
from difflm_jobs.pipeline.pipeline import Step
from difflm_jobs.pipeline.stage import Stage
from difflm_jobs.planning.arithmetic import stage_operations
from difflm_jobs.planning.machine import runs_here
from difflm_jobs.planning.memory import ProcessMemory
from difflm_jobs.planning.sizes import Sizes
from difflm_jobs.planning.stage_sizes import StageSize, stage_sizes

if TYPE_CHECKING:
    from difflm_jobs.config import ExperimentConfig, MapConfig

SECTIONS = {
    "fit-decoder": "decoder_fit",
    "train-autoencoder": "autoencoder",
    "train-diffusion": "prior",
    "train-conditional": "conditions",
}
"""Of the configuration, for each stage that trains on workers."""
POOLS = {"encode": "runtime.encoding.pool", "synthesize": "runtime.synthesis.pool"}
"""Of actors, for each stage that maps rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanLine:
    """One stage: what would happen to it, its size in words, and what each of its processes needs.

    `assumed_tokens` is how long records are taken to be; None once they were counted. `operations` are those of its
    models, counted around a pretrained decoder alone.
    """

    stage: str
    state: str
    size: str
    memory: ProcessMemory | None
    processes: int = 1
    gpus: float = 0.0
    assumed_tokens: int | None = None
    operations: float = 0.0

    @property
    def gpu_mib(self) -> float:
        """Memory of a process on its GPU; 0 without one."""
        return 0.0 if self.memory is None else self.memory.gpu_mib(gpu=self.gpus > 0)

    @property
    def host_mib(self) -> float:
        """Memory of a process on its machine."""
        return 0.0 if self.memory is None else self.memory.host_mib(gpu=self.gpus > 0)


def plan_lines(
    config: ExperimentConfig, stages: Sequence[Stage], store: ArtifactStore, steps: Mapping[str, Step], *, gpus: int
) -> list[PlanLine]:
    """Return one line per stage. `steps` are those whose identity is known, `gpus` those of this machine.

    What an artifact that exists says of the records is used; else they are assumed.
    """
    prepared, decoder = (_find(store, steps.get(name)) for name in ("prepare", "fit-decoder"))
    facts = {} if prepared is None else prepared.manifest.facts
    sizes = Sizes.of(config, facts, None if decoder is None else decoder.path)
    known, operations = stage_sizes(sizes, columns=facts.get("columns")), stage_operations(sizes)
    lines = [
        _line(stage.name, _state(store, steps.get(stage.name)), known[stage.name], sizes, gpus=gpus) for stage in stages
    ]
    return [replace(line, operations=operations.get(line.stage, 0.0)) for line in lines]


def _line(stage: str, state: str, size: StageSize, sizes: Sizes, *, gpus: int) -> PlanLine:
    runtime, processes, each = sizes.config.runtime, 1, 0.0
    if stage in SECTIONS and not (stage == "fit-decoder" and sizes.config.decoder.kind == "pretrained"):
        processes, each = runtime.workers.num_workers, float(runtime.workers.gpus_per_worker)
    elif stage in POOLS:
        pool = runtime.encoding if stage == "encode" else runtime.synthesis
        rows = sizes.rows if stage == "encode" else sizes.config.rows or sizes.rows
        processes, each = _actors(sizes.config, pool, rows, gpus=gpus), pool.pool.gpus_per_actor
    return PlanLine(
        stage=stage,
        state=state,
        size=size.words,
        memory=size.memory,
        processes=processes,
        gpus=each,
        assumed_tokens=None if sizes.counted else sizes.tokens,
    )


def _actors(config: ExperimentConfig, map_config: MapConfig, rows: int | None, *, gpus: int) -> int:
    """Count actors of a map: as many as are asked for, or fit on this machine, or have a shard; of a cluster 1."""
    from difflm.runtime.process import usable_processors

    pool, cluster = map_config.pool, config.runtime.cluster
    fit = pool.min_actors or 1
    if runs_here(config.runtime):
        fit = (cluster.num_cpus or usable_processors()) // pool.cpus_per_actor
        if pool.gpus_per_actor:
            fit = min(fit, int((cluster.num_gpus or gpus) / pool.gpus_per_actor))
    shards = fit if rows is None else -(-rows // map_config.rows_per_shard)
    return max(1, min(pool.max_actors or fit, shards))


def _find(store: ArtifactStore, step: Step | None) -> Artifact | None:
    return store.find(step.stage.output, step.identity) if step is not None else None


def _state(store: ArtifactStore, step: Step | None) -> str:
    if step is None:
        return "would run"
    if _find(store, step) is not None:
        return "finished"
    return "would go on" if store.work(step.stage.output, step.identity).exists() else "would run"
