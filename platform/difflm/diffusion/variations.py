"""Variations: latents near given ones, and on the way from one to another, by the flow of a diffusion prior.

Shape legend: B batch, Z latent size, S + 1 noise levels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from difflm.diffusion.edm import follow_flow
from difflm.diffusion.priors import DiffusionPrior


@torch.no_grad()
def vary(prior: DiffusionPrior, latents_BZ: Tensor, noise_BZ: Tensor, *, strength: float) -> Tensor:
    """Latents after some noise was added and taken away again (Meng et al. 2022, SDEdit, arXiv 2108.01073).

    `strength` is the share of the sampler's noise levels that are gone through: 0 gives the latents themselves, 1
    starts at its highest level, where next to nothing is left of them.
    """
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"strength must be from 0 to 1, got {strength}")
    sigmas_S = _levels(prior)
    levels = round(strength * (len(sigmas_S) - 1))
    if levels == 0:
        return latents_BZ
    sigmas_S = sigmas_S[-levels - 1 :]
    with prior.autocast(noise_BZ):
        noisy_BZ = prior.scaler.normalize(latents_BZ) + float(sigmas_S[0]) * noise_BZ
        return prior.scaler.denormalize(follow_flow(prior.denoiser, noisy_BZ, sigmas_S))


@torch.no_grad()
def noise_of(prior: DiffusionPrior, latents_BZ: Tensor) -> Tensor:
    """Return the unit Gaussian noise from which the prior's flow leads to these latents: the sampler, run backwards.

    It begins at the lowest level above 0, so the way back ends within that level of the latents.
    """
    sigmas_S = _levels(prior)[:-1].flip(0)
    with prior.autocast(latents_BZ):
        noisy_BZ = follow_flow(prior.denoiser, prior.scaler.normalize(latents_BZ), sigmas_S)
    return noisy_BZ / float(sigmas_S[-1])


def _levels(prior: DiffusionPrior) -> Tensor:
    """Noise levels for Heun's method, which can begin anywhere and run backwards: a multistep solver gets by with half
    as many.
    """
    sigmas_S = prior.sigmas_S
    if prior.solver == "heun":
        return sigmas_S
    halves_S = (sigmas_S[:-2] * sigmas_S[1:-1]).sqrt()
    return torch.cat([torch.stack([sigmas_S[:-2], halves_S], dim=1).flatten(), sigmas_S[-2:]])


@torch.no_grad()
def between(prior: DiffusionPrior, first_Z: Tensor, last_Z: Tensor, share_B: Tensor) -> Tensor:
    """Latents of shape (B, Z) at shares 0 to 1 of the way between two.

    The way is an arc between the noises that the two come from, then the flow: every point on it is as likely a draw of
    the prior as its ends are, which points on a straight line between latents are not (Song et al. 2021, DDIM,
    arXiv 2010.02502, section 5.3).
    """
    noise_2Z = noise_of(prior, torch.stack([first_Z, last_Z]))
    return prior.sample(slerp(noise_2Z[0], noise_2Z[1], share_B))


def slerp(first_Z: Tensor, last_Z: Tensor, share_B: Tensor) -> Tensor:
    """Points on the arc from one vector to another, shape (B, Z); a straight line where they are parallel."""
    cosine = torch.nn.functional.cosine_similarity(first_Z, last_Z, dim=0).clamp(-1.0, 1.0)
    angle, share_B1 = torch.acos(cosine), share_B[:, None]
    if float(angle) < 1e-4:
        return torch.lerp(first_Z, last_Z, share_B1)
    return (torch.sin((1 - share_B1) * angle) * first_Z + torch.sin(share_B1 * angle) * last_Z) / torch.sin(angle)
