"""Heun's method for the probability flow ODE dx/dsigma = (x - D(x; sigma)) / sigma (Karras et al. 2022, Algorithm 1).

Shape legend: B batch, Z latent size, S + 1 noise levels.
"""

from __future__ import annotations

from torch import Tensor

from difflm.diffusion.precondition import Denoiser


def sample_heun(denoiser: Denoiser, noise_BZ: Tensor, sigmas_S: Tensor) -> Tensor:
    """Latents from unit Gaussian noise along decreasing `sigmas_S` (the last may be 0); second order in step size."""
    return follow_flow(denoiser, noise_BZ * float(sigmas_S[0]), sigmas_S)


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
