"""Evaluation: a task's validation metrics, averaged over records and ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from difflm.errors import TrainingError
from difflm.seeding import derive_seed
from difflm.training.engine import Engine
from difflm.training.task import TrainingTask


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
