"""Latent sources: where the latents of a synthesis come from, each a function of an index and its noise.

The noise is that of the draw's address (seed, index, attempt), so a source holds no randomness of its own.

Shape legend: N draws, M noise numbers, Z latent size, C condition features, R given records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from difflm.diffusion.conditional import ConditionalPrior
from difflm.diffusion.priors import DiffusionPrior, LatentPrior
from difflm.diffusion.variations import between, vary


class LatentSource(Protocol):
    """Latents by index."""

    @property
    def noise_size(self) -> int:
        """M: standard normal numbers that one latent takes."""
        ...

    def latents(self, indices: Sequence[int], noise_NM: Tensor) -> Tensor:
        """Compute the latents (N, Z) of indices from their noise; each row depends on its own index and noise alone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorLatents:
    """Any prior, the same for every index."""

    prior: LatentPrior

    @property
    def noise_size(self) -> int:
        return self.prior.noise_size

    def latents(self, indices: Sequence[int], noise_NM: Tensor) -> Tensor:
        return self.prior.sample(noise_NM)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionedLatents:
    """The conditional prior; `features` gives the condition (N, C) of indices."""

    prior: ConditionalPrior
    features: Callable[[Sequence[int]], Tensor]

    @property
    def noise_size(self) -> int:
        return self.prior.noise_size

    def latents(self, indices: Sequence[int], noise_NM: Tensor) -> Tensor:
        return self.prior.sample(noise_NM, self.features(indices).to(noise_NM.device))


@dataclass(frozen=True, slots=True, kw_only=True)
class VariedLatents:
    """Variations of given records by turns: index i varies record i modulo R."""

    prior: DiffusionPrior
    latents_RZ: Tensor
    strength: float

    @property
    def noise_size(self) -> int:
        return self.prior.noise_size

    def latents(self, indices: Sequence[int], noise_NM: Tensor) -> Tensor:
        turns_N = torch.tensor([index % len(self.latents_RZ) for index in indices])
        return vary(self.prior, self.latents_RZ[turns_N].to(noise_NM.device), noise_NM, strength=self.strength)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathLatents:
    """Indices 0 to `count` - 1 lead from one record to another; the noise has no part in it."""

    prior: DiffusionPrior
    first_Z: Tensor
    last_Z: Tensor
    count: int

    @property
    def noise_size(self) -> int:
        return self.prior.noise_size

    def latents(self, indices: Sequence[int], noise_NM: Tensor) -> Tensor:
        share_N = torch.tensor([index / max(1, self.count - 1) for index in indices], device=noise_NM.device)
        return between(self.prior, self.first_Z.to(noise_NM.device), self.last_Z.to(noise_NM.device), share_N)
