"""Latent scaler: standardises every latent dimension, and is stored with the prior (no latent of a training row is).

Shape legend: N records, B batch, Z latent size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST_STD = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentScaler:
    """Per-dimension mean and standard deviation of the latents; normalized latents have mean 0 and standard deviation
    `sigma_data`.
    """

    mean_Z: Tensor
    std_Z: Tensor
    sigma_data: float

    @classmethod
    def fit(cls, mean_NZ: Tensor, log_variance_NZ: Tensor, *, sigma_data: float) -> LatentScaler:
        """Moments of z ~ q(z|x) over the records: var z = var of the means + mean of the variances."""
        variance_Z = mean_NZ.var(dim=0, unbiased=False) + log_variance_NZ.exp().mean(dim=0)
        return cls(mean_Z=mean_NZ.mean(dim=0), std_Z=variance_Z.sqrt().clamp(min=SMALLEST_STD), sigma_data=sigma_data)

    def normalize(self, latents_BZ: Tensor) -> Tensor:
        return (latents_BZ - self.mean_Z) / self.std_Z * self.sigma_data

    def denormalize(self, normalized_BZ: Tensor) -> Tensor:
        return normalized_BZ / self.sigma_data * self.std_Z + self.mean_Z

    def to(self, device: torch.device) -> LatentScaler:
        return LatentScaler(mean_Z=self.mean_Z.to(device), std_Z=self.std_Z.to(device), sigma_data=self.sigma_data)
