"""Heun's method for the probability flow ODE dx/dsigma = (x - D(x; sigma)) / sigma (Karras et al. 2022, Algorithm 1).

Shape legend: B batch, Z latent size, S + 1 noise levels.
"""

from __future__ import annotations

from torch import Tensor

from difflm.diffusion.precondition import Denoiser


def sample_heun(denoiser: Denoiser, noise_BZ: Tensor, sigmas_S: Tensor) -> Tensor:
    """Latents from unit Gaussian noise along decreasing `sigmas_S` (the last may be 0); second order in step size."""
    current_BZ = noise_BZ * float(sigmas_S[0])
    for sigma, following in zip(sigmas_S[:-1].tolist(), sigmas_S[1:].tolist(), strict=True):
        slope_BZ = _slope(denoiser, current_BZ, sigma)
        step = following - sigma
        euler_BZ = current_BZ + step * slope_BZ
        if following > 0:
            euler_BZ = current_BZ + step * 0.5 * (slope_BZ + _slope(denoiser, euler_BZ, following))
        current_BZ = euler_BZ
    return current_BZ


def _slope(denoiser: Denoiser, current_BZ: Tensor, sigma: float) -> Tensor:
    sigma_B = current_BZ.new_full((current_BZ.shape[0],), sigma)
    return (current_BZ - denoiser(current_BZ, sigma_B)) / sigma
