"""Training loop: steps, evaluations, checkpoints and early stopping of any task on any engine.

A step is a pure function of (seed, step, micro-batch, rank, world size) and of the state before it: batches are
addressed by those numbers, the learning rate is a function of the step, and torch's global generator is seeded from
them before every forward pass. So a run that was killed and resumed from a checkpoint repeats the uninterrupted run,
bit for bit on a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from difflm.config import Config
from difflm.errors import MISFITS, TrainingError, reason_of
from difflm.models.precision import DESCRIPTION, PrecisionSetting
from difflm.seeding import derive_seed
from difflm.telemetry import JSON, peak_rss_mib
from difflm.training.averages import ExponentialMovingAverage
from difflm.training.checkpoints import LoopFacts
from difflm.training.engine import Engine, evaluate
from difflm.training.optimizer import Method, Schedule, learning_rate_at, load_state
from difflm.training.task import TrainingTask

Event = dict[str, JSON]

_TASK_FILE, _BEST_FILE, _AVERAGE_FILE = "task.pt", "best.safetensors", "average.safetensors"
_FORMAT_VERSION = 2
_UNREADABLE: tuple[type[Exception], ...] = (*MISFITS, OSError, RuntimeError, SafetensorError)


class LoopConfig(Config):
    """Settings of the loop that every task shares; steps are optimizer steps."""

    method: Method = Field(
        default="adamw",
        exclude_if=lambda method: method == "adamw",  # artifacts made before there was a choice keep their names
        description="adamw, or muon for the matrices of layers; DeepSpeed's engine has AdamW alone",
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="Peak learning rate of AdamW.")
    warmup_steps: int = Field(default=50, ge=0, description="Steps of linear warm-up.")
    schedule: Schedule = Field(default="cosine", description="Learning rate after the warm-up.")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW weight decay of matrices; vectors do not decay.")
    gradient_clip: float = Field(default=1.0, gt=0, description="Largest norm of the gradient over all ranks.")
    gradient_accumulation: int = Field(default=1, ge=1, description="Micro-batches per optimizer step and rank.")
    ema_decay: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        exclude_if=lambda decay: decay == 0,  # artifacts made before there was a choice keep their names
        description="Decay of the average of weights that is kept; with 0, or ZeRO-3, the weights themselves are.",
    )
    precision: PrecisionSetting = Field(default="auto", description=f"Of forward passes. {DESCRIPTION}.")
    evaluate_every: int = Field(default=100, ge=1, description="Steps between evaluations; one ends the run.")
    checkpoint_every: int = Field(default=200, ge=1, description="Steps between checkpoints; a kill loses fewer.")
    log_every: int = Field(default=10, ge=1, description="Steps between logged training losses.")
    most_seconds: float | None = Field(
        default=None,
        gt=0,
        exclude_if=lambda seconds: seconds is None,  # artifacts made before there was a choice keep their names
        description="So long at most, over all lives: where the steps take longer, there are as many as fit, and the "
        "learning rate falls over these. How many depends on the machine.",
    )


class LoopIO(Protocol):
    """Where a loop's state and events go; Ray Train's adapter and the tests' directories implement it."""

    def resume_from(self) -> Path | None:
        """Directory of the last complete checkpoint with the files of all ranks; None starts from the beginning."""
        ...

    def started(self, step: int) -> None:
        """Take, once, the step that is resumed from (0: none): later events of an earlier life are to be
        forgotten.
        """
        ...

    def log(self, event: Event) -> None:
        """Take one event; called on rank 0 only."""
        ...

    def checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
        """On every rank, let `write` fill a directory (own or shared) and keep the files of all ranks, or
        none.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult:
    """How a training ended. `best_tensors` are CPU tensors on rank 0 and empty elsewhere; seconds count over all
    lives.
    """

    steps: int
    stopped: Literal["early", "time", "complete"]
    best_step: int
    best_objective: float
    best_tensors: dict[str, Tensor]
    seconds: float
    peak_rss_mib: float


@dataclass(slots=True, kw_only=True)
class _State:
    """What changes while the loop runs and goes into its checkpoints."""

    step: int = 0
    best_step: int = 0
    best_objective: float = math.inf
    best_tensors: dict[str, Tensor] = field(default_factory=dict)
    average: ExponentialMovingAverage | None = None
    seconds_before: float = 0.0
    started: float = field(default_factory=lambda: time.perf_counter())

    def seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started


def run_loop(task: TrainingTask, engine: Engine, config: LoopConfig, io: LoopIO, *, seed: int) -> LoopResult:
    """Train until `task.steps()` or until the task asks to stop; evaluates at least once, at the end.

    Called on every rank. Raises TrainingError naming the step when a loss, a gradient or an objective is not finite,
    and when a checkpoint does not fit.
    """
    state = _State()
    if config.ema_decay and not engine.lockstep:
        state.average = ExponentialMovingAverage(task.module, decay=config.ema_decay)
    resumed = io.resume_from()
    if resumed is not None:
        _load(resumed, state, task, engine)
    io.started(state.step)
    total, stop = _total(config, state, task, engine), False
    if total < 1:
        raise TrainingError(f"the task asks for {total} optimizer steps; it needs at least 1")
    engine.set_training(True)
    while state.step < total and not stop:
        rate = learning_rate_at(
            state.step, total, peak=config.learning_rate, warmup_steps=config.warmup_steps, schedule=config.schedule
        )
        outputs, norm = _optimizer_step(task, engine, config, state.step, rate, seed=seed)
        state.step += 1
        with engine.whole_parameters():
            task.after_step(state.step)
        if state.average is not None:
            state.average.update(task.module, state.step)
        if config.most_seconds is not None and state.step % config.log_every == 0:
            total = _total(config, state, task, engine)
        last = state.step == total
        if state.step % config.log_every == 0 or last:
            _log_step(engine, io, state, outputs, total=total, rate=rate, norm=norm)
        if state.step % config.evaluate_every == 0 or last:
            with nullcontext() if state.average is None else state.average.in_place(task.module):
                stop = _evaluate(task, engine, io, state, seed=seed)
            total = _total(config, state, task, engine)  # it may want more now
        if state.step % config.checkpoint_every == 0 and not (last or stop):
            io.checkpoint(state.step, lambda directory: _save(directory, state, task, engine))
    asked = task.steps()
    return LoopResult(
        steps=state.step,
        stopped="complete" if state.step >= asked else "early" if stop else "time",
        best_step=state.best_step,
        best_objective=state.best_objective,
        best_tensors=state.best_tensors,
        seconds=state.seconds(),
        peak_rss_mib=peak_rss_mib(),
    )


def _total(config: LoopConfig, state: _State, task: TrainingTask, engine: Engine) -> int:
    """Return how many steps there will be: as many as the task asks for, or fit into the seconds at the pace so far."""
    asked = task.steps()
    if config.most_seconds is None or state.step == 0:
        return asked
    spent = state.seconds()
    fitting = state.step + (config.most_seconds - spent) * state.step / spent
    agreed = engine.mean({"fitting": fitting}, 1.0)["fitting"]  # every rank has to end at the same step
    return max(state.step, min(asked, int(agreed)))


def _optimizer_step(
    task: TrainingTask, engine: Engine, config: LoopConfig, step: int, rate: float, *, seed: int
) -> tuple[list[dict[str, Tensor]], float]:
    """One optimizer step; returns the detached outputs of its micro-batches and the gradient's norm."""
    outputs: list[dict[str, Tensor]] = []
    for micro in range(config.gradient_accumulation):
        batch = task.batch(step, micro, engine.rank, engine.world_size)
        torch.manual_seed(derive_seed(seed, "step", step, micro, engine.rank))
        output = engine.forward(batch)
        engine.backward(output["loss"])
        outputs.append({name: value.detach() for name, value in output.items()})
    norm = engine.step(rate)
    losses = torch.stack([output["loss"].float() for output in outputs]).tolist()
    if not all(map(math.isfinite, [norm, *losses])):
        raise TrainingError(
            f"loss {losses} and gradient norm {norm} at step {step + 1} on rank {engine.rank} are not all finite; "
            f"lower loop.learning_rate (now {config.learning_rate:g}) or look for broken values in the batch"
        )
    return outputs, norm


def _log_step(
    engine: Engine, io: LoopIO, state: _State, outputs: list[dict[str, Tensor]], *, total: int, rate: float, norm: float
) -> None:
    """Log the step's own loss: the mean over its micro-batches and over ranks."""
    own = {name: sum(float(output[name]) for output in outputs) / len(outputs) for name in outputs[0]}
    metrics = engine.mean(own, 1.0)
    loss = metrics.pop("loss")
    if engine.rank == 0:
        event: Event = {
            "kind": "train",
            "step": state.step,
            "total": total,
            "loss": loss,
            "lr": rate,
            "grad_norm": norm,
        }
        io.log(event | {"metrics": dict(metrics), "seconds": state.seconds(), "rss": peak_rss_mib()})


def _evaluate(task: TrainingTask, engine: Engine, io: LoopIO, state: _State, *, seed: int) -> bool:
    """Evaluate, let the task judge, keep the best tensors; returns whether training should stop."""
    metrics = evaluate(task, engine, seed=seed)
    verdict = task.observe(state.step, metrics)
    if not math.isfinite(verdict.objective):
        raise TrainingError(f"the validation objective is {verdict.objective} at step {state.step} (metrics {metrics})")
    improved = verdict.objective < state.best_objective
    if improved:
        state.best_objective, state.best_step = verdict.objective, state.step
        with engine.whole_parameters():
            tensors = task.artifact_tensors()
            if engine.rank == 0:
                state.best_tensors = {
                    name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
                }
    if engine.rank == 0:
        event: Event = {"kind": "validation", "step": state.step, "loss": metrics.get("loss"), "best": improved}
        event |= {"metrics": dict(metrics), "objective": verdict.objective, "note": verdict.note, "stop": verdict.stop}
        io.log(event | {"seconds": state.seconds(), "rss": peak_rss_mib()})
    return verdict.stop


def _save(directory: Path, state: _State, task: TrainingTask, engine: Engine) -> None:
    """Write this rank's part of a checkpoint."""
    engine.save(directory)
    if engine.rank != 0:
        return
    torch.save(task.state_dict(), directory / _TASK_FILE)
    if state.average is not None:
        save_file(state.average.state_dict(), directory / _AVERAGE_FILE)
    if state.best_tensors:
        save_file(state.best_tensors, directory / _BEST_FILE)
    facts = LoopFacts(
        format_version=_FORMAT_VERSION,
        step=state.step,
        best_step=state.best_step,
        best_objective=state.best_objective if state.best_tensors else None,
        seconds=state.seconds(),
        precision=engine.precision,
    )
    facts.write(directory)


def _load(directory: Path, state: _State, task: TrainingTask, engine: Engine) -> None:
    """Take the state of a checkpoint; the number of ranks that wrote it may be another one."""
    try:
        facts = LoopFacts.read(directory)
        if (version := facts.format_version) != _FORMAT_VERSION:
            raise TrainingError(
                f"{directory}: checkpoint of format {version}, this version reads {_FORMAT_VERSION}; remove it"
            )
        engine.load(directory)
        task.load_state_dict(load_state(directory / _TASK_FILE, "cpu"))
        if state.average is not None:
            state.average.load_state_dict(load_file(directory / _AVERAGE_FILE))
        state.step, state.best_step, state.seconds_before = facts.step, facts.best_step, facts.seconds
        if facts.best_objective is not None:
            state.best_objective = facts.best_objective
            if engine.rank == 0:
                state.best_tensors = load_file(directory / _BEST_FILE)
    except _UNREADABLE as error:
        reason = reason_of(error)
        raise TrainingError(f"{directory}: no complete checkpoint ({reason}); remove it to start over") from error
