"""Engine: how one optimizer step happens on this process and its peers; the plain one needs nothing but torch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from difflm.errors import TrainingError
from difflm.models.precision import Precision
from difflm.seeding import derive_seed
from difflm.training.optimizer import (
    Method,
    load_optimizer_state,
    named_trainable_parameters,
    optimizer_state,
    optimizers,
    read_engine_state,
    trainable_parameters,
    write_engine_state,
)

if TYPE_CHECKING:
    from difflm.training.task import TrainingTask


class Engine(Protocol):
    """Forward, backward and step of one module on `world_size` ranks: the same weights, different batches.

    One optimizer step is `gradient_accumulation` times (`forward`, `backward`), then `step`: the gradient is the mean
    over micro-batches and ranks. Methods are collective, every rank calls them; `forward` only where
    `lockstep` says so.
    """

    @property
    def rank(self) -> int: ...

    @property
    def world_size(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def precision(self) -> Precision:
        """What forward passes compute in: float32, or bfloat16 by autocast."""
        ...

    @property
    def lockstep(self) -> bool:
        """Whether even forward passes are collective, as they are when weights are sharded (ZeRO-3)."""
        ...

    def set_training(self, training: bool) -> None: ...

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]: ...

    def backward(self, loss: Tensor) -> None: ...

    def step(self, learning_rate: float) -> float:
        """Apply the accumulated gradient and return its norm over all ranks, before clipping.

        A norm that is not finite ends the training (the loop raises), so what happens to the weights then is open.
        """
        ...

    def mean(self, metrics: Mapping[str, float], weight: float) -> dict[str, float]:
        """Weighted mean over ranks; the same keys on every rank. All weights zero: TrainingError."""
        ...

    def any(self, flag: bool) -> bool:
        """Whether `flag` holds on any rank."""
        ...

    def whole_parameters(self) -> AbstractContextManager[None]:
        """Within it the trainable parameters are whole on every rank, gathered where they are sharded; for reading."""
        ...

    def save(self, directory: Path) -> None:
        """Write trainable parameters and optimizer state (an `EngineState`); every rank calls it, rank 0 writes."""
        ...

    def load(self, directory: Path) -> None:
        """Read what `save` of any engine wrote, on any number of ranks."""
        ...


class PlainEngine:
    """AdamW, or Muon beside it, in one process, or on several with an all-reduce of gradients where torch.distributed
    is initialised.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        device: torch.device | None = None,
        weight_decay: float = 0.0,
        gradient_clip: float = 1.0,
        gradient_accumulation: int = 1,
        precision: Precision = "float32",
        method: Method = "adamw",
    ) -> None:
        self._collective = Collective(device or torch.device("cpu"))
        self.rank, self.world_size = self._collective.rank, self._collective.world_size
        self.device = self._collective.device
        self._module = module.to(self.device)
        self._named = named_trainable_parameters(module)
        self._parameters = trainable_parameters(module)
        if not self._parameters:
            raise TrainingError("the module has no trainable parameters: every parameter has requires_grad=False")
        fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in self._parameters)
        self._optimizers = optimizers(module, method, weight_decay=weight_decay, fused=fused)
        self._clip = gradient_clip
        self._accumulation = gradient_accumulation
        self.precision: Precision = precision
        self._collective.broadcast([p.data for p in self._parameters])

    @property
    def lockstep(self) -> bool:
        return False

    def set_training(self, training: bool) -> None:
        self._module.train(training)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        inputs = to_device(batch, self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
            outputs: dict[str, Tensor] = self._module(**inputs)
        return outputs

    def backward(self, loss: Tensor) -> None:
        torch.autograd.backward(loss / self._accumulation)

    def step(self, learning_rate: float) -> float:
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self._parameters]
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        self._collective.average(gradients)
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self._clip))
        if torch.isfinite(torch.tensor(norm)):
            for optimizer in self._optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate * group.get("rate", 1.0)
                optimizer.step()
        for parameter in self._parameters:
            parameter.grad = None
        return norm

    def mean(self, metrics: Mapping[str, float], weight: float) -> dict[str, float]:
        return self._collective.mean(metrics, weight)

    def any(self, flag: bool) -> bool:
        return self._collective.any(flag)

    def whole_parameters(self) -> AbstractContextManager[None]:
        return nullcontext()

    def save(self, directory: Path) -> None:
        if self.rank == 0:
            write_engine_state(directory, optimizer_state(self._named, *self._optimizers))

    def load(self, directory: Path) -> None:
        load_optimizer_state(read_engine_state(directory, self._named, self.device), self._named, *self._optimizers)


class Collective:
    """The few collective operations engines share; with one process (or no process group) they are the identity."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        ready = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if ready else 0
        self.world_size = dist.get_world_size() if ready else 1

    def broadcast(self, tensors: list[Tensor]) -> None:
        """Overwrite the tensors of every rank by those of rank 0."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def average(self, tensors: list[Tensor]) -> None:
        """Replace the tensors in place by their mean over ranks, in one message."""
        if self.world_size == 1:
            return
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.world_size
        offset = 0
        for tensor in tensors:
            tensor.copy_(flat[offset : offset + tensor.numel()].view_as(tensor))
            offset += tensor.numel()

    def mean(self, metrics: Mapping[str, float], weight: float) -> dict[str, float]:
        """Weighted mean over ranks in double precision."""
        names = sorted(metrics)
        values = [weight * metrics[name] if weight else 0.0 for name in names]
        sums = torch.tensor([*values, weight], dtype=torch.float64, device=self.device)
        if self.world_size > 1:
            dist.all_reduce(sums)
        *totals, total_weight = sums.tolist()
        if total_weight <= 0:
            raise TrainingError("nothing to average: every rank has weight 0; is the validation split empty?")
        return {name: total / total_weight for name, total in zip(names, totals, strict=True)}

    def any(self, flag: bool) -> bool:
        """Logical or over ranks."""
        if self.world_size == 1:
            return flag
        count = torch.tensor([float(flag)], device=self.device)
        dist.all_reduce(count)
        return bool(count.item() > 0)


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return the batch's tensors on `device`."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def evaluate(task: TrainingTask, engine: Engine, *, seed: int) -> dict[str, float]:
    """Mean of every scalar that `module.forward` returns over the validation records of all ranks, without gradients.

    torch's global generator is seeded from (seed, batch number, rank) before every forward pass, so that two
    evaluations differ by the weights alone. A rank without validation batches evaluates a training batch with weight
    0: it learns the metrics' names, and on a lockstep engine (ZeRO-3) every rank makes as many forward passes as the
    busiest one.
    """
    batches = task.validation_batches(engine.rank, engine.world_size)
    spare: dict[str, Tensor] | None = None
    sums: dict[str, float] = {}
    total_weight, number = 0, 0
    engine.set_training(False)
    with torch.no_grad():
        while True:
            weight, batch = next(batches, (0, None))
            pending = engine.any(batch is not None) if engine.lockstep else batch is not None
            if not pending and sums:
                break
            if batch is None:
                batch = spare if spare is not None else task.batch(0, 0, engine.rank, engine.world_size)
            spare = batch
            torch.manual_seed(derive_seed(seed, "validation", number, engine.rank))
            for name, value in engine.forward(batch).items():
                sums[name] = sums.get(name, 0.0) + weight * float(value)
            total_weight, number = total_weight + weight, number + 1
            if not pending:
                break
    engine.set_training(True)
    means = {name: value / total_weight if total_weight else 0.0 for name, value in sums.items()}
    if not sums:
        raise TrainingError("module.forward returned no scalars for a validation batch; it must return at least 'loss'")
    return engine.mean(means, float(total_weight))
