"""The engine of DP-SGD: clipped gradients of single units, noise, and Adam on what is left.

A step sees a Poisson sample of units. The sum of their clipped gradients (norms below one) and of their losses, as one
further coordinate, gets Gaussian noise of `noise` times the largest norm that a unit can have in it. What is logged of
a step is that noisy loss and the norm of the noisy gradient: nothing else of the rows leaves this class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from difflm.models.precision import Precision
from difflm.privacy.budget import Steps
from difflm.privacy.secret_noise import secret_normal
from difflm.training.engine import PlainEngine
from difflm.training.private.clipped_gradients import ClippedGradients

LOSS_SHARE = 0.1
"""Of the largest norm of a gradient, is how far a unit's loss can move its own coordinate."""
SENSITIVITY = math.hypot(1.0, LOSS_SHARE)


class PrivateEngine:
    """An `Engine` of one process whose module has `model` (the compact Llama) and `nats_B(**batch)`."""

    def __init__(
        self,
        module: Any,
        *,
        steps: Steps,
        units: int,
        largest_nats: float,
        chunk_rows: int,
        device: torch.device,
        precision: Precision,
    ) -> None:
        """Take the sample rate and noise, the units it samples from, and the nats above which losses are cut."""
        self._plain = PlainEngine(module, device=device, gradient_clip=math.inf, precision=precision)
        assert self._plain.world_size == 1, "one process draws the sample and the noise"
        self._module, self._steps, self._chunk_rows = module, steps, chunk_rows
        self._expected, self._largest = max(1.0, steps.rate * units), largest_nats
        self._gradients = ClippedGradients(model=module.model)
        self._parameters = dict(module.model.named_parameters())
        self.rank, self.world_size, self.device, self.precision = 0, 1, device, precision
        self.lockstep = False

    def set_training(self, training: bool) -> None:
        self._plain.set_training(training)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of a sample, leave the noisy gradient at the parameters and return the noisy mean loss."""
        if not self._module.training:
            return self._plain.forward(batch)
        sums = {name: torch.zeros_like(value) for name, value in self._parameters.items()}
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        count = len(batch["lengths_B"])
        for first in range(0, count, self._chunk_rows):
            part = {name: value[first : first + self._chunk_rows].to(self.device) for name, value in batch.items()}
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
                clipped, nats_B = self._gradients(partial(self._module.nats_B, **part))
            for name, value in clipped.items():
                sums[name] += value
            loss += nats_B.double().clamp(0, self._largest).sum()
        return {"loss": self._noised(sums, loss)}

    def _noised(self, sums: dict[str, Tensor], loss: Tensor) -> Tensor:
        """Add noise to sums and loss, put the mean gradient at the parameters, and return the mean loss in nats."""
        deviation = self._steps.noise * SENSITIVITY
        sizes = [value.numel() for value in sums.values()]
        noise = (deviation * secret_normal(sum(sizes) + 1)).to(self.device)
        for (name, value), part in zip(sums.items(), noise[:-1].split(sizes), strict=True):  # type: ignore[no-untyped-call]
            total = value.double() + part.view_as(value)
            self._parameters[name].grad = (total / self._expected).to(value.dtype)
        coordinate = loss * (LOSS_SHARE / self._largest) + noise[-1]
        return (coordinate * (self._largest / LOSS_SHARE) / self._expected).float()

    def backward(self, loss: Tensor) -> None:
        """Do nothing: gradients are there with the noisy loss."""

    def step(self, learning_rate: float) -> float:
        return self._plain.step(learning_rate)

    def mean(self, metrics: Mapping[str, float], weight: float) -> dict[str, float]:
        return self._plain.mean(metrics, weight)

    def any(self, flag: bool) -> bool:
        return flag

    def whole_parameters(self) -> AbstractContextManager[None]:
        return self._plain.whole_parameters()

    def save(self, directory: Path) -> None:
        self._plain.save(directory)

    def load(self, directory: Path) -> None:
        self._plain.load(directory)
