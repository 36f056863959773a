"""Noise levels of the sampler (Karras et al. 2022, Eq. 5)."""

from __future__ import annotations

import torch
from torch import Tensor


def karras_sigmas(steps: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """`steps` decreasing noise levels from sigma_max to sigma_min, then 0: shape (steps + 1,), float64."""
    if steps < 2:
        raise ValueError(f"a sampler needs at least 2 steps, got {steps}")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    sigmas = (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    return torch.cat([sigmas, torch.zeros(1, dtype=torch.float64)])
