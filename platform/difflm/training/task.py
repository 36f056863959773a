"""Training task: everything the training loop asks of a model, its data and its schedules.

Tasks: what a `TaskSpec.factory` builds; modules are imported when they are asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from difflm.errors import TrainingError
from difflm.telemetry import JSON

if TYPE_CHECKING:
    from difflm.models.precision import Precision
    from difflm.training.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a task makes of one evaluation.

    `objective` is what "best" means (lower is better, finite), `stop` asks for early stopping after this evaluation,
    `note` is a human-readable remark for the log ("beta decreased to 0.07").
    """

    objective: float
    stop: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """A recipe from which any process can build the same task.

    `factory` is a key of `TASKS`, or itself "module:function" of an installed package; `config` is plain JSON; `inputs`
    maps names to paths on storage that every worker can read; `seed` is the root of all randomness of the task and of
    its training.
    """

    factory: str
    config: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    seed: int = 0


class TrainingTask(Protocol):
    """A model with its batches, its validation and its schedules; knows nothing of engines, workers or Ray.

    Steps: `batch` takes the index of the optimizer step, 0 ... steps() - 1. `after_step`, `observe` and every event
    carry the number of optimizer steps *completed*, 1 ... steps().

    Randomness: `batch` draws from generators of its own. Randomness inside `module.forward` (reparameterisation
    noise, dropout) uses torch's global generator, which the loop seeds before every forward pass from (seed, step,
    micro, rank); for validation from (seed, batch number, rank), so that all evaluations see the same noise. A
    resumed run therefore repeats itself exactly.
    """

    @property
    def module(self) -> nn.Module:
        """Trainable and frozen parameters; `forward(**batch)` returns named scalars, among them "loss", a mean over
        the batch.
        """
        ...

    def steps(self) -> int:
        """Return the most optimizer steps the training takes."""
        ...

    def batch(self, step: int, micro: int, rank: int, world_size: int) -> dict[str, Tensor]:
        """Return the micro-batch: a pure function of its arguments, the task's seed and what `state_dict` holds,
        such as beta, so that resuming needs no data state.
        """
        ...

    def validation_batches(self, rank: int, world_size: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Yield this rank's share of the validation split as (number of records, batch); the same on every call."""
        ...

    def observe(self, step: int, metrics: Mapping[str, float]) -> Verdict:
        """Judge an evaluation and update schedules; called on every rank with the same numbers (means over all
        records).
        """
        ...

    def after_step(self, step: int) -> None:
        """Follow every optimizer step, with the whole trainable parameters in place (exponential moving
        averages).
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything beyond parameters and optimizer state: tensors and plain Python values, equal on every rank."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        ...

    def artifact_tensors(self) -> dict[str, Tensor]:
        """Return what is kept as the best state: trainable tensors (or their averages) by name, never frozen ones."""
        ...

    def summary(self) -> dict[str, JSON]:
        """Return final facts for the artifact, asked once on rank 0 when training has ended."""
        ...


@runtime_checkable
class OwnEngine(Protocol):
    """A task that must be trained by an engine of its own and by no other, such as one that adds noise."""

    def make_engine(self, device: torch.device, precision: Precision) -> Engine:
        """Return that engine, of one process."""
        ...


TASKS: dict[str, str] = {
    "decoder": "difflm.training.decoder_task:build_decoder_task",
    "steered_decoder": "difflm.training.steered_task:build_steered_task",
    "autoencoder": "difflm.training.autoencoder_task:build_autoencoder_task",
    "diffusion": "difflm.training.diffusion_task:build_diffusion_task",
    "conditional": "difflm.training.conditional_task:build_conditional_task",
    "language_model": "difflm.training.language_model_task:build_language_model_task",
    "draft": "difflm.training.draft_task:build_draft_task",
    "private_decoder": "difflm.training.private.task:build_private_task",
}


def build_task(spec: TaskSpec, device: torch.device | str) -> TrainingTask:
    """Return the task of a specification, on `device`; TrainingError when nobody knows `spec.factory`."""
    place = TASKS.get(spec.factory, spec.factory)
    if ":" not in place:
        raise TrainingError(f"no training task {spec.factory!r}; known are {', '.join(sorted(TASKS))}")
    module, _, function = place.partition(":")
    return cast(TrainingTask, getattr(importlib.import_module(module), function)(spec, device))
