"""EDM (Karras et al. 2022; DiffLM, Eq. 5-7): noise levels, preconditioning, score matching, Heun's method.

EDM preconditioning: a raw network becomes a denoiser D(x; sigma).

Source: Karras et al. 2022, arXiv 2206.00364, Eq. 7 and Table 1.

Shape legend: B batch, Z latent size, C condition features.

Denoising score matching with EDM's noise distribution and weights (DiffLM Eq. 6; Karras et al. 2022, section 5).

Shape legend: B batch, Z latent size.

Heun's method for the probability flow ODE dx/dsigma = (x - D(x; sigma)) / sigma (Karras et al. 2022, Algorithm 1), and
DPM-Solver++(2M) for the same (Lu et al. 2022, arXiv 2211.01095, Algorithm 2), which asks the denoiser once a step.

Shape legend: B batch, Z latent size, S + 1 noise levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn


def karras_sigmas(steps: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """Return `steps` decreasing noise levels from sigma_max to sigma_min, then 0: shape (steps + 1,), float64."""
    if steps < 2:
        raise ValueError(f"a sampler needs at least 2 steps, got {steps}")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    sigmas = (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    return torch.cat([sigmas, torch.zeros(1, dtype=torch.float64)])


class Denoiser(Protocol):
    """E[x | x + sigma * noise], approximately; a single sigma is that of every row."""

    def __call__(self, noisy_BZ: Tensor, sigma_B: Tensor) -> Tensor: ...


class EdmDenoiser(nn.Module):
    """D(x; sigma) = c_skip x + c_out F(c_in x; c_noise), with unit-variance inputs and targets for F at every sigma."""

    def __init__(self, network: nn.Module, *, sigma_data: float) -> None:
        super().__init__()
        self.network, self.sigma_data = network, sigma_data

    def forward(self, noisy_BZ: Tensor, sigma_B: Tensor, condition_BC: Tensor | None = None) -> Tensor:
        sigma_B1 = sigma_B[:, None]
        total = sigma_B1.square() + self.sigma_data**2
        c_skip = self.sigma_data**2 / total
        c_out = sigma_B1 * self.sigma_data / total.sqrt()
        c_in = total.rsqrt()
        c_noise_B = sigma_B.log() / 4.0
        inputs = (c_in * noisy_BZ, c_noise_B) if condition_BC is None else (c_in * noisy_BZ, c_noise_B, condition_BC)
        raw_BZ: Tensor = self.network(*inputs)
        return c_skip * noisy_BZ + c_out * raw_BZ.to(noisy_BZ.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionedDenoiser:
    """A denoiser that always sees the same conditions, one row of features per latent: E[x | x + sigma noise, it]."""

    denoiser: EdmDenoiser
    condition_BC: Tensor

    def __call__(self, noisy_BZ: Tensor, sigma_B: Tensor) -> Tensor:
        denoised_BZ: Tensor = self.denoiser(noisy_BZ, sigma_B, self.condition_BC)
        return denoised_BZ


LOG_SIGMA_MEAN = -1.2
LOG_SIGMA_STD = 1.2


def draw_sigma(count: int, *, generator: torch.Generator, log_mean: float = LOG_SIGMA_MEAN) -> Tensor:
    """Noise levels of shape (count,): log sigma ~ N(log_mean, 1.2^2)."""
    return (log_mean + LOG_SIGMA_STD * torch.randn(count, generator=generator)).exp()


def score_matching_loss(
    denoiser: Denoiser, clean_BZ: Tensor, sigma_B: Tensor, noise_BZ: Tensor, *, sigma_data: float
) -> Tensor:
    """Weighted squared error of the denoised latents, mean over batch and dimensions.

    It is 1 for a network that outputs 0 on data of standard deviation `sigma_data`.
    """
    denoised_BZ = denoiser(clean_BZ + sigma_B[:, None] * noise_BZ, sigma_B)
    weight_B = (sigma_B.square() + sigma_data**2) / (sigma_B * sigma_data).square()
    return (weight_B[:, None] * (denoised_BZ - clean_BZ).square()).mean()


def sample_heun(denoiser: Denoiser, noise_BZ: Tensor, sigmas_S: Tensor) -> Tensor:
    """Latents from unit Gaussian noise along decreasing `sigmas_S` (the last may be 0); second order in step size."""
    return follow_flow(denoiser, noise_BZ * float(sigmas_S[0]), sigmas_S)


def sample_multistep(denoiser: Denoiser, noise_BZ: Tensor, sigmas_S: Tensor) -> Tensor:
    """Latents from unit Gaussian noise along decreasing `sigmas_S` (the last may be 0), by DPM-Solver++(2M).

    Between two levels the denoised latent is taken to be linear in log sigma; the one before says how steep.
    """
    sigmas: list[float] = sigmas_S.tolist()
    current_BZ, before = noise_BZ * sigmas[0], 0.0
    before_BZ: Tensor | None = None
    for sigma, following in pairwise(sigmas):
        if following == sigma:
            continue  # two levels that their precision does not tell apart
        denoised_BZ = denoiser(current_BZ, current_BZ.new_full((1,), sigma))
        if following == 0:
            return denoised_BZ
        step = math.log(sigma / following)  # h of the paper: lambda is -log sigma
        reached_BZ = denoised_BZ
        if before_BZ is not None:
            reached_BZ = denoised_BZ + (denoised_BZ - before_BZ) * (0.5 * step / math.log(before / sigma))
        current_BZ = current_BZ * (following / sigma) - reached_BZ * math.expm1(-step)
        before_BZ, before = denoised_BZ, sigma
    return current_BZ


def follow_flow(denoiser: Denoiser, start_BZ: Tensor, sigmas_S: Tensor) -> Tensor:
    """Where the flow takes latents that have the noise level `sigmas_S[0]`, which is not 0, by the last level.

    Decreasing levels take noise away; increasing ones find the noise that a latent comes from.
    """
    current_BZ = start_BZ
    for sigma, following in zip(sigmas_S[:-1].tolist(), sigmas_S[1:].tolist(), strict=True):
        slope_BZ = _slope(denoiser, current_BZ, sigma)
        step = following - sigma
        euler_BZ = current_BZ + step * slope_BZ
        if following > 0:
            euler_BZ = current_BZ + step * 0.5 * (slope_BZ + _slope(denoiser, euler_BZ, following))
        current_BZ = euler_BZ
    return current_BZ


def _slope(denoiser: Denoiser, current_BZ: Tensor, sigma: float) -> Tensor:
    sigma_1 = current_BZ.new_full((1,), sigma)
    return (current_BZ - denoiser(current_BZ, sigma_1)) / sigma
