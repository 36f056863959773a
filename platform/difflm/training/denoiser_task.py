"""Training a denoiser: what the prior's training and the conditional prior's share, over batches of their own.

Latents of the training split: reading them, and noised draws of them for denoising score matching.

Shape legend: B batch, N records, Z latent size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from difflm.diffusion.edm import LOG_SIGMA_MEAN, draw_sigma
from difflm.diffusion.priors import LatentScaler
from difflm.errors import TrainingError
from difflm.seeding import torch_generator
from difflm.telemetry import JSON
from difflm.training.averages import ExponentialMovingAverage
from difflm.training.task import Verdict


def read_latents(directory: Path) -> tuple[Tensor, Tensor]:
    """Means and log variances of shape (N, Z), in the order of the records.

    Raises TrainingError naming the directory.
    """
    parts = sorted(directory.glob("part-*.parquet"))
    if not parts:
        raise TrainingError(f"{directory}: no latents in it; run the encode stage again")
    table = pq.read_table(parts)
    order = np.argsort(table["index"].to_numpy())
    return _matrix(table, "mean", order), _matrix(table, "log_variance", order)


def _matrix(table: Any, name: str, order: Any) -> Tensor:
    flat = table[name].combine_chunks().flatten().to_numpy()
    return torch.from_numpy(flat.reshape(len(order), -1)[order].astype(np.float32))


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisedLatents:
    """Posteriors on a device, as clean latents with noise to add."""

    mean_NZ: Tensor
    std_NZ: Tensor
    scaler: LatentScaler

    @classmethod
    def of(cls, mean_NZ: Tensor, log_variance_NZ: Tensor, scaler: LatentScaler, device: torch.device) -> NoisedLatents:
        std_NZ = (0.5 * log_variance_NZ).exp()
        return cls(mean_NZ=mean_NZ.to(device), std_NZ=std_NZ.to(device), scaler=scaler.to(device))

    def batch(
        self, rows_B: Tensor, generator: torch.Generator, *, log_sigma_mean: float = LOG_SIGMA_MEAN
    ) -> dict[str, Tensor]:
        """`clean_BZ` ~ q(z|x) of the rows, normalized, with `noise_BZ` and `sigma_B`; drawn on the CPU."""
        device, shape = self.mean_NZ.device, (len(rows_B), self.mean_NZ.shape[1])
        drawn_BZ, noise_BZ = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
        sigma_B = draw_sigma(len(rows_B), generator=generator, log_mean=log_sigma_mean)
        rows_B = rows_B.to(device)
        clean_BZ = self.scaler.normalize(self.mean_NZ[rows_B] + self.std_NZ[rows_B] * drawn_BZ.to(device))
        return {"clean_BZ": clean_BZ, "sigma_B": sigma_B.to(device), "noise_BZ": noise_BZ.to(device)}


def held_out_order(count: int, share: float, seed: int) -> tuple[Tensor, int]:
    """All rows in random order, and how many of them are trained on; the others only tell memorising from learning."""
    held = max(1, int(count * share))
    return torch.randperm(count, generator=torch_generator(seed, "held out")), max(1, count - held)


class DenoiserBatches(Protocol):
    """Noised latents with what the denoiser reads beside them; as of `TrainingTask`, where it has the same names."""

    @property
    def scaler(self) -> LatentScaler:
        """What normalized the latents."""
        ...

    def steps(self) -> int: ...

    def batch(self, step: int, micro: int, rank: int, world_size: int) -> dict[str, Tensor]: ...

    def validation_batches(self, rank: int, world_size: int) -> Iterator[tuple[int, dict[str, Tensor]]]: ...

    def facts(self) -> dict[str, JSON]:
        """Return what a summary says of them."""
        ...


class DenoiserTask:
    """`TrainingTask` of a module whose `denoiser` is trained; `forward` is its loss.

    The last moving average is kept: the validation loss is watched, but a lower one does not mean better samples.
    """

    def __init__(self, module: nn.Module, batches: DenoiserBatches, *, ema_decay: float) -> None:
        self._module, self.batches = module, batches
        self.ema = ExponentialMovingAverage(module, decay=ema_decay)
        self.last: dict[str, float] = {}

    @property
    def module(self) -> nn.Module:
        return self._module

    def steps(self) -> int:
        return self.batches.steps()

    def batch(self, step: int, micro: int, rank: int, world_size: int) -> dict[str, Tensor]:
        return self.batches.batch(step, micro, rank, world_size)

    def validation_batches(self, rank: int, world_size: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
        return self.batches.validation_batches(rank, world_size)

    def observe(self, step: int, metrics: Mapping[str, float]) -> Verdict:
        self.last = dict(metrics)
        return Verdict(objective=-float(step), note=f"held-out loss {metrics['loss']:.4f}")

    def after_step(self, step: int) -> None:
        self.ema.update(self._module, step)

    def state_dict(self) -> dict[str, Any]:
        return {"ema": self.ema.state_dict(), "last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ema.load_state_dict(state["ema"])
        self.last = state["last"]

    def artifact_tensors(self) -> dict[str, Tensor]:
        averages = {name.removeprefix("denoiser."): value for name, value in self.ema.averages.items()}
        scaler = self.batches.scaler
        return averages | {"scaler.mean": scaler.mean_Z, "scaler.std": scaler.std_Z}

    def summary(self) -> dict[str, JSON]:
        return {
            **self.batches.facts(),
            "parameters": sum(value.numel() for value in self._module.parameters()),
            "held_out_loss": self.last.get("loss"),
        }
