"""The plan of an experiment: which stages would run, how large they are, and what memory they need; nothing is run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from rich.console import Console
from rich.table import Table

from difflm.artifacts import Artifact, ArtifactStore
from difflm.errors import UserError
from difflm.runtime.training import chosen_engine
from difflm_jobs.engine_check import check_engine, check_json
from difflm_jobs.pipeline import Step, resolve
from difflm_jobs.prepare import describe
from difflm_jobs.sizes import estimate
from difflm_jobs.sources import locate
from difflm_jobs.stages import build_stages

if TYPE_CHECKING:
    from difflm_jobs.config import ExperimentConfig


TRAINING = ("train-autoencoder", "train-diffusion", "train-conditional")
"""Stages whose workers are processes of their own; so is fitting a compact decoder, which is small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanLine:
    """One stage of a plan: what would happen to it, its size in words, and the memory of one process in MiB."""

    stage: str
    state: str
    size: str
    memory_mib: float | None


def plan(config: ExperimentConfig, runs: Path) -> tuple[list[PlanLine], str | None]:
    """The lines of a plan, and what is missing for a run (None when nothing is).

    Data that are not there do not stop a plan: sizes that depend on them are left out.
    """
    stages, store = build_stages(config), ArtifactStore(runs / config.name)
    steps: dict[str, Step] = {}
    missing: str | None = None
    try:
        steps = {step.stage.name: step for step in resolve(stages, store)}
    except UserError as error:
        missing = str(error)
    prepared = _find(store, steps.get("prepare"))
    sizes = estimate(config, prepared.manifest.facts if prepared is not None else {})
    lines: list[PlanLine] = []
    for stage in stages:
        size, memory = sizes.get(stage.name, ("", None))
        state = _state(store, steps.get(stage.name))
        lines.append(PlanLine(stage=stage.name, state=state, size=size, memory_mib=memory))
    return lines, missing or too_large(config, lines, here_mib=psutil.virtual_memory().total / 2**20)


def too_large(config: ExperimentConfig, lines: Sequence[PlanLine], *, here_mib: float) -> str | None:
    """Which stage cannot fit into this machine's memory, if the stages run here; None where nothing is known to.

    Models on a GPU are loaded into the machine's memory first, so the bound holds for them as well.
    """
    address = config.runtime.cluster.address or os.environ.get("RAY_ADDRESS") or "local"
    workers = config.runtime.workers.num_workers
    for line in lines:
        processes = workers if line.stage in TRAINING and line.memory_mib is not None else 1
        needed = (line.memory_mib or 0.0) * processes
        if address == "local" and line.state != "finished" and needed > here_mib:
            of = f"{processes} processes of " if processes > 1 else ""
            return (
                f"{line.stage} needs {of}at least {line.memory_mib:,.0f} MiB, and this machine has {here_mib:,.0f}; "
                "give fewer runtime.workers, a smaller model, or a cluster (runtime.cluster.address)"
            )
    return None


def _find(store: ArtifactStore, step: Step | None) -> Artifact | None:
    return store.find(step.stage.output, step.identity) if step is not None else None


def _state(store: ArtifactStore, step: Step | None) -> str:
    if step is None:
        return "would run"
    if _find(store, step) is not None:
        return "finished"
    return "would go on" if store.work(step.stage.output, step.identity).exists() else "would run"


def print_plan(config: ExperimentConfig, runs: Path, console: Console) -> None:
    """Print the plan of an experiment.

    Raises:
        ConfigError: the decoding engine is not installed, or has no GPU to run on.
    """
    check_engine(config.sampling, config.runtime)
    check_json(config.sampling, holds_json=config.data.kind == "tools")
    lines, missing = plan(config, runs)
    console.print(f"{config.name} in {runs / config.name}: {_data(config)}", highlight=False, soft_wrap=True)
    console.print(_table(lines))
    console.print(_processes(config), highlight=False, soft_wrap=True)
    if missing is not None:
        console.print(f"not ready to run: {missing}", highlight=False, soft_wrap=True, markup=False)


def _table(lines: Sequence[PlanLine]) -> Table:
    table = Table(title="Plan", title_justify="left")
    table.add_column("stage", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("size")
    table.add_column("MiB per process, at least", justify="right")
    for line in lines:
        memory = f"{line.memory_mib:,.0f}" if line.memory_mib is not None else "-"
        table.add_row(line.stage, line.state, line.size, memory, style="dim" if line.state == "finished" else None)
    return table


def _data(config: ExperimentConfig) -> str:
    sources = {"data.train": config.data.train, "data.test": config.data.test}
    parts: list[str] = []
    for key, source in sources.items():
        if source is None:
            continue
        try:
            parts.append(f"{describe(source)} ({locate(source, key).stat().st_size / 2**20:.1f} MiB)")
        except UserError:
            parts.append(f"{describe(source)} (not there)")
    target = f", target {config.data.target}" if config.data.target else ""
    return " and ".join(parts) + target


def _processes(config: ExperimentConfig) -> str:
    workers = config.runtime.workers
    engine = chosen_engine(config.runtime.engine, workers.num_workers)
    kind = f"{engine.kind} (ZeRO {engine.zero_stage})" if engine.kind == "deepspeed" else engine.kind
    where = config.runtime.cluster.address or "RAY_ADDRESS or this machine"
    gpus = f" and {workers.gpus_per_worker} GPU" if workers.gpus_per_worker else ""
    return (
        f"training: {workers.num_workers} worker(s) with {workers.cpus_per_worker} CPU{gpus} each, engine {kind}; "
        f"cluster: {where}"
    )
