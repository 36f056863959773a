"""The plan of an experiment: which stages would run, how large they are, and what memory they need; nothing is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from difflm.artifacts import ArtifactStore
from difflm.errors import ConfigError, UserError
from difflm.records.files.paths import files_of
from difflm.runtime.training import chosen_engine
from difflm_jobs.cli.columns_shown import writers_line
from difflm_jobs.cli.summary import choice_line
from difflm_jobs.cli.terminal import print_line
from difflm_jobs.inputs.sources import locate
from difflm_jobs.pipeline.engine_check import check_engine, check_json
from difflm_jobs.pipeline.pipeline import Step, resolve
from difflm_jobs.planning.arithmetic import rough_time
from difflm_jobs.planning.choice import Choice
from difflm_jobs.planning.lines import PlanLine, plan_lines
from difflm_jobs.planning.machine import Machine, runs_here, this_machine
from difflm_jobs.planning.memory import ProcessMemory
from difflm_jobs.planning.quality import span_text
from difflm_jobs.planning.room import too_large
from difflm_jobs.planning.times import STARTING
from difflm_jobs.stages.prepare import describe
from difflm_jobs.stages.stages import build_stages

if TYPE_CHECKING:
    from difflm_jobs.config import ExperimentConfig
    from difflm_jobs.planning.choice import Chooser, Wish


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The lines of a plan; what is missing for a run, and what does not fit (None where nothing is); the prepared table
    where there is one.
    """

    lines: list[PlanLine]
    missing: str | None
    refused: str | None
    prepared: Path | None = None


def plan(config: ExperimentConfig, runs: Path, machine: Machine) -> Plan:
    """Plan what would run on `machine`, or on a cluster that need not be there.

    Data that are not there do not stop a plan: sizes that depend on them are assumed. Nor does a machine without GPUs
    where workers want some: it is not the one that they would run on.
    """
    stages, store = build_stages(config), ArtifactStore(runs / config.name)
    steps: dict[str, Step] = {}
    missing: str | None = None
    try:
        steps = {step.stage.name: step for step in resolve(stages, store)}
    except UserError as error:
        missing = str(error)

    def planner(any_: ExperimentConfig) -> list[PlanLine]:
        return plan_lines(any_, stages, store, steps, gpus=len(machine.gpus_mib))

    lines = planner(config)
    elsewhere = any(line.gpus for line in lines) and not machine.gpus_mib
    known = runs_here(config.runtime) and not elsewhere
    refused = too_large(config, planner, machine if known else None)
    return Plan(lines=lines, missing=missing, refused=refused, prepared=_prepared(store, steps))


def _prepared(store: ArtifactStore, steps: Mapping[str, Step]) -> Path | None:
    step = steps.get("prepare")
    found = None if step is None else store.find(step.stage.output, step.identity)
    return None if found is None else found.path


def print_plan(chooser: Chooser, wish: Wish, console: Console) -> None:
    """Print the plan of an experiment, with what would be chosen for a wish.

    Raises:
        ConfigError: the decoding engine is not installed, or has no GPU to run on; or a stage does not fit into this
            machine, if it would run here, or into what `runtime.memory` says; or nothing fits into the budget.
    """
    runs, choice = chooser.runs, chooser.choose(wish, keep=False)
    config = choice.experiment
    check_engine(config.sampling, config.runtime)
    check_json(config.sampling, holds_json=config.data.record_kind.holds_json)
    made = plan(config, runs, this_machine())
    console.print(f"{config.name} in {runs / config.name}: {_data(config)}", highlight=False, soft_wrap=True)
    if wish:
        print_line(console, choice_line(choice))
    else:
        choice = _expected(chooser, config, made.lines)
    console.print(_stages(made.lines, choice.times))
    console.print(_memory(made.lines))
    if (written := writers_line(config, made.prepared)) is not None:
        print_line(console, written)
    console.print(_processes(config), highlight=False, soft_wrap=True)
    console.print(_needs(made.lines), highlight=False, soft_wrap=True)
    if (said := _time(config, made.lines, choice)) is not None:
        print_line(console, said)
    if made.missing is not None:
        console.print(f"not ready to run: {made.missing}", highlight=False, soft_wrap=True, markup=False)
    if made.refused is not None:
        raise ConfigError(made.refused)


def _expected(chooser: Chooser, config: ExperimentConfig, lines: Sequence[PlanLine]) -> Choice:
    """Predict the times of what is left; why there are none is no reason not to plan."""
    if all(line.state == "finished" for line in lines):
        return Choice(experiment=config)
    try:
        return chooser.expected(config)
    except UserError as error:
        return Choice(experiment=config, unknown=str(error))


def _stages(lines: Sequence[PlanLine], times: Mapping[str, float]) -> Table:
    table = Table(title="Plan", title_justify="left")
    table.add_column("stage", no_wrap=True)
    table.add_column("state", no_wrap=True)
    if times:
        table.add_column("time", justify="right", no_wrap=True)
    table.add_column("size")
    for line in lines:
        finished = line.state == "finished"
        time = [] if not times else ["-" if finished else span_text(times.get(line.stage, 0.0))]
        table.add_row(line.stage, line.state, *time, line.size, style="dim" if finished else None)
    return table


def _time(config: ExperimentConfig, lines: Sequence[PlanLine], choice: Choice) -> str | None:
    """Say how long what is left takes, or why that is not known; None where nothing is left."""
    left = [line.stage for line in lines if line.state != "finished"]
    if not left:
        return None
    if not choice.times:
        unknown = None if choice.unknown is None else f"time: not known before it ran: {choice.unknown}"
        return rough_time(config, {line.stage: line.operations for line in lines if line.stage in left}) or unknown
    seconds = sum(choice.times.get(name, 0.0) for name in (STARTING, *left))
    words = "as an earlier run of this command predicted it" if choice.kept else "by a few steps of each training"
    return f"time: about {span_text(seconds)} on this machine, {words}; early stopping may end it sooner"


def _memory(lines: Sequence[PlanLine]) -> Table:
    """Tabulate the memory of each process.

    Where it works on a GPU, its parts are there; the last row is all it takes of its machine's own memory.
    """
    known = [(line, line.memory) for line in lines if line.memory is not None]
    table = Table(title="Memory of a process, MiB, estimated", title_justify="left")
    table.add_column("", no_wrap=True)
    for line, _ in known:
        table.add_column(line.stage, justify="right", style="dim" if line.state == "finished" else None)
    table.add_row("processes", *(str(line.processes) for line, _ in known))
    for name in ProcessMemory().parts():
        sizes = [memory.parts()[name] / 2**20 for _, memory in known]
        table.add_row(name, *(f"{size:,.0f}" if size else "-" for size in sizes))
    table.add_row("whole, on its GPU", *(f"{line.gpu_mib:,.0f}" if line.gpus else "-" for line, _ in known))
    table.add_row("whole, on its machine", *(f"{line.host_mib:,.0f}" for line, _ in known))
    return table


def _needs(lines: Sequence[PlanLine]) -> str:
    """Say what it takes to run what is left, at least."""
    if all(line.state == "finished" for line in lines):
        return "needs: nothing, every stage is finished"
    left = [line for line in lines if line.memory is not None and line.state != "finished"]
    gpus = max((line.processes * line.gpus for line in left), default=0.0)
    words = f"processes of up to {max((line.host_mib for line in left), default=0.0) / 1024:,.1f} GiB"
    if gpus:
        words += f", {gpus:g} GPU of {max(line.gpu_mib for line in left) / 1024:,.1f} GiB each"
    tokens = next((line.assumed_tokens for line in left if line.assumed_tokens is not None), None)
    if tokens is not None:
        words += f"; records of {tokens:,} tokens are assumed until the decoder has counted them"
    return f"needs: {words}"


def _data(config: ExperimentConfig) -> str:
    sources = {"data.train": config.data.train, "data.test": config.data.test}
    parts: list[str] = []
    for key, source in sources.items():
        if source is None:
            continue
        try:
            size = sum(file.stat().st_size for file in files_of(locate(source, key)))
            parts.append(f"{describe(source)} ({size / 2**20:.1f} MiB)")
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
