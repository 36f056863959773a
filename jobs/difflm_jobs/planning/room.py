"""Whether the stages of an experiment fit into the memory that is there, and what would make them fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from difflm.artifacts import ArtifactStore
from difflm.config import apply_overrides, dump_yaml, parse_yaml, validate
from difflm.errors import ConfigError
from difflm.runtime.training import chosen_engine
from difflm_jobs.pipeline.pipeline import Step
from difflm_jobs.pipeline.stage import Stage
from difflm_jobs.planning.lines import POOLS, SECTIONS, PlanLine, plan_lines
from difflm_jobs.planning.machine import Machine, runs_here, this_machine

if TYPE_CHECKING:
    from difflm_jobs.config import ExperimentConfig, RuntimeConfig

SHOWN_SHARE = 0.05
FEWER = 8
"""By how much smaller batches are proposed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What there is to run on. `whole` says that all processes of a stage share one machine; None is unknown."""

    whole: bool
    node_mib: float | None
    gpu_mib: float | None
    gpus: float | None

    @classmethod
    def of(cls, runtime: RuntimeConfig, machine: Machine | None) -> Room:
        """Take what `runtime.memory` says, and what the machine has that the stages run on, if it is known."""
        given, gpus_mib = runtime.memory, () if machine is None else machine.gpus_mib
        node_mib = None if machine is None else machine.memory_mib
        gpus = None if machine is None else float(runtime.cluster.num_gpus or len(gpus_mib))
        return cls(
            whole=machine is not None,
            node_mib=given.node_gib * 1024 if given.node_gib else node_mib,
            gpu_mib=given.gpu_gib * 1024 if given.gpu_gib else min(gpus_mib, default=None),
            gpus=gpus,
        )

    def lacks_gpus(self, line: PlanLine) -> bool:
        """Say whether a stage asks for more GPUs than there are, whatever their memory."""
        return bool(line.gpus) and self.gpus is not None and self.gpus < line.gpus * line.processes

    def shortage(self, line: PlanLine) -> str | None:
        """Say what is too little for a stage; None where it fits, or nothing is known."""
        if line.memory is None or line.state == "finished":
            return None
        if self.lacks_gpus(line):
            each = f"{line.gpus:g} GPU of {_gib(line.gpu_mib)} GiB each"
            return (
                f"{line.stage} needs {line.processes} process(es) with {each}, and this machine has {self.gpus:g} GPU"
            )
        if line.gpus and self.gpu_mib is not None and line.gpu_mib > self.gpu_mib * min(1.0, line.gpus):
            share = "" if line.gpus >= 1 else f"{line.gpus:g} of "
            there = f"{share}a GPU with {_gib(self.gpu_mib)} GiB"
            return f"{line.stage} needs about {_gib(line.gpu_mib)} GiB ({_parts(line)}) on {there}{_assumed(line)}"
        count = line.processes if self.whole else 1
        if self.node_mib is not None and line.host_mib * count > self.node_mib:
            times = f"{count} processes of " if count > 1 else ""
            needs = f"{times}about {_gib(line.host_mib)} GiB ({_parts(line)})"
            return f"{line.stage} needs {needs} on a machine with {_gib(self.node_mib)} GiB{_assumed(line)}"
        return None


def _gib(mib: float) -> str:
    return f"{mib / 1024:,.1f}"


def _assumed(line: PlanLine) -> str:
    tokens = line.assumed_tokens
    return "" if tokens is None else f" (records of {tokens:,} tokens are assumed until the decoder has counted them)"


def _parts(line: PlanLine) -> str:
    """Name the largest of what the memory is for, three at most."""
    assert line.memory is not None, "only what is known is refused"
    parts = sorted(line.memory.parts().items(), key=lambda part: -part[1])[:3]
    large = [(name, size / 2**30) for name, size in parts if size >= SHOWN_SHARE * line.memory.working]
    return ", ".join(f"{name} {gib:,.1f}" for name, gib in large) or "libraries and loading"


Planner = Callable[["ExperimentConfig"], Sequence[PlanLine]]


def too_large(config: ExperimentConfig, planner: Planner, machine: Machine | None) -> str | None:
    """Say which stage cannot fit, why, and settings with which it needs less; None where all fit or nothing is known.

    `planner` gives the lines of a plan of any configuration; `machine` is the one that runs all, if that is known.
    """
    for line in planner(config):
        room = Room.of(config.runtime, machine)
        shortage = room.shortage(line)
        if shortage is not None:
            remedy = _fewer_gpus(line, room) if room.lacks_gpus(line) else _remedy(config, line, planner, machine)
            return f"{shortage}; {remedy}"
    return None


def refuse_too_large(
    config: ExperimentConfig, stages: Sequence[Stage], store: ArtifactStore, steps: Mapping[str, Step]
) -> None:
    """Refuse stages that cannot fit into this machine, if they run here, or into what `runtime.memory` says.

    Raises:
        ConfigError: names the stage, its need, what is there, and settings with which it needs less.
    """
    machine = this_machine() if runs_here(config.runtime) else None
    gpus = 0 if machine is None else len(machine.gpus_mib)
    refused = too_large(config, lambda any_: plan_lines(any_, stages, store, steps, gpus=gpus), machine)
    if refused is not None:
        raise ConfigError(refused)


def _fewer_gpus(line: PlanLine, room: Room) -> str:
    """Name a setting that uses the GPUs that there are, or none."""
    fitting = int((room.gpus or 0.0) // line.gpus)
    if line.stage in POOLS:
        pool = POOLS[line.stage]
        change = f"{pool}.max_actors={fitting}" if fitting else f"{pool}.gpus_per_actor=0"
    else:
        workers = "runtime.workers"
        change = f"{workers}.num_workers={fitting}" if fitting else f"{workers}.gpus_per_worker=0"
    return f"give {change}{'' if fitting else ' for CPUs alone'}, or machines with as many (runtime.cluster.address)"


def _remedy(config: ExperimentConfig, line: PlanLine, planner: Planner, machine: Machine | None) -> str:
    """Name what may be given with --set, each with what the stage needs then."""
    said: list[str] = []
    for overrides in _changes(config, line.stage):
        changed = _changed(config, overrides)
        (other,) = [item for item in planner(changed) if item.stage == line.stage]
        if _largest(other) < _largest(line):
            fits = Room.of(changed.runtime, machine).shortage(other) is None
            ends = "which fits" if fits else "still too much"
            said.append(f"{' '.join(overrides)} ({_gib(_largest(other))} GiB, {ends})")
    said.append("a smaller model, or machines with more memory (runtime.cluster.address)")
    return "give " + ", or ".join(said)


def _changed(config: ExperimentConfig, overrides: Sequence[str]) -> ExperimentConfig:
    written = apply_overrides(parse_yaml(dump_yaml(config), config.name), overrides)
    return validate(type(config), written, config.name, overrides)


def _largest(line: PlanLine) -> float:
    return line.gpu_mib if line.gpus else line.host_mib * line.processes


def _changes(config: ExperimentConfig, stage: str) -> Iterator[list[str]]:
    """Yield settings that may make a stage smaller."""
    from difflm.models.injection.injector import READ_ONCE

    if stage in POOLS:
        yield [f"{POOLS[stage]}.max_actors=1"]
        if stage == "synthesize":
            yield [f"sampling.batch_size={max(1, config.sampling.batch_size // FEWER)}"]
        return
    workers = config.runtime.workers
    engine = chosen_engine(config.runtime.engine, workers.num_workers)
    yield from _smaller_batches(config, stage)
    section = config.autoencoder
    if stage == "train-autoencoder" and not section.gradient_checkpointing and section.injector.kind not in READ_ONCE:
        yield ["autoencoder.gradient_checkpointing=true"]
    if stage == "train-autoencoder" and section.encoder.kind == "pretrained" and section.encoder.lora is None:
        yield ["autoencoder.encoder.lora={rank: 8}"]
    if not workers.gpus_per_worker and workers.num_workers > 1:
        yield ["runtime.workers.num_workers=1"]
    if engine.kind == "deepspeed" and workers.num_workers > 1 and engine.zero_stage < 3:
        yield ["runtime.engine={kind: deepspeed, zero_stage: 3}"]
    if workers.gpus_per_worker:
        stage_kept = 2 if engine.kind == "plain" else max(1, engine.zero_stage)
        yield [f"runtime.engine={{kind: deepspeed, zero_stage: {stage_kept}, offload_optimizer: true}}"]
        more = f"runtime.workers.num_workers={2 * workers.num_workers}"
        yield [more, "runtime.engine={kind: deepspeed, zero_stage: 3}"]


def _smaller_batches(config: ExperimentConfig, stage: str) -> Iterator[list[str]]:
    section = SECTIONS.get(stage)
    part: Any = None if section is None else getattr(config, section)
    if section is None or part.batch_size == 1:
        return
    fewer = [f"{section}.batch_size={max(1, part.batch_size // FEWER)}"]
    if hasattr(part, "tokens_per_batch"):
        fewer.append(f"{section}.tokens_per_batch={max(1, part.tokens_per_batch // FEWER)}")
    yield [*fewer, f"{section}.loop.gradient_accumulation={part.loop.gradient_accumulation * FEWER}"]
