"""Variations: the flow backwards and forwards, arcs, and how much of a latent is left."""

import pytest
import torch
from torch import Tensor, nn

from difflm.diffusion.edm import EdmDenoiser, karras_sigmas
from difflm.diffusion.priors import DiffusionPrior, LatentScaler, Solver
from difflm.diffusion.variations import between, noise_of, slerp, vary

SIGMA_DATA = 0.5


class GaussianScore(EdmDenoiser):
    """The exact denoiser of N(0, sigma_data^2): a network that gives 0, in EDM's preconditioning."""

    def __init__(self) -> None:
        super().__init__(nn.Identity(), sigma_data=SIGMA_DATA)

    def forward(self, noisy_BZ: Tensor, sigma_B: Tensor, condition_BC: Tensor | None = None) -> Tensor:
        variance = SIGMA_DATA**2
        return noisy_BZ * variance / (variance + sigma_B[:, None].square())


def _prior(steps: int = 40, solver: Solver = "heun") -> DiffusionPrior:
    scaler = LatentScaler(mean_Z=torch.tensor([1.0, -2.0]), std_Z=torch.tensor([3.0, 0.5]), sigma_data=SIGMA_DATA)
    return DiffusionPrior(denoiser=GaussianScore(), scaler=scaler, sigmas_S=karras_sigmas(steps), solver=solver)


def _latents(count: int, seed: int = 0) -> Tensor:
    drawn = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
    return drawn * _prior().scaler.std_Z + _prior().scaler.mean_Z


def test_no_strength_leaves_the_latents_and_full_strength_leaves_nothing_of_them() -> None:
    prior, latents, noise = _prior(), _latents(4), torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(vary(prior, latents, noise, strength=0.0), latents)
    whole = vary(prior, latents, noise, strength=1.0)
    torch.testing.assert_close(whole, prior.sample(noise), atol=0.05, rtol=0.02)


def test_variations_keep_the_distribution_and_leave_more_the_stronger_they_are() -> None:
    prior, latents = _prior(), _latents(4000)
    noise = torch.randn(4000, 2, generator=torch.Generator().manual_seed(1))
    kept = []
    for strength in (0.2, 0.4, 0.6, 0.8):
        varied = vary(prior, latents, noise, strength=strength)
        torch.testing.assert_close(varied.std(dim=0), latents.std(dim=0), rtol=0.06, atol=0)
        kept.append(float(torch.corrcoef(torch.stack([latents[:, 0], varied[:, 0]]))[0, 1]))
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > 0.95
    assert kept[-1] < 0.5


@pytest.mark.parametrize("solver", ["heun", "dpmpp_2m"])
def test_the_flow_leads_back_to_the_latents_that_the_noise_is_of(solver: Solver) -> None:
    prior, latents = _prior(solver=solver), _latents(6)
    torch.testing.assert_close(prior.sample(noise_of(prior, latents)), latents, atol=0.02, rtol=0.01)


def test_the_way_begins_and_ends_at_its_ends_and_stays_as_likely() -> None:
    prior, (first, last) = _prior(), _latents(2, seed=3)
    way = between(prior, first, last, torch.linspace(0, 1, 9))
    torch.testing.assert_close(way[[0, -1]], torch.stack([first, last]), atol=0.02, rtol=0.01)
    norms = (prior.scaler.normalize(way) / SIGMA_DATA).norm(dim=1)
    assert float(norms.min()) > 0.95 * float(norms[[0, -1]].min())
    steps = (way[1:] - way[:-1]).norm(dim=1)
    assert float(steps.max()) < 0.5 * float((first - last).norm()) + 1.0


def test_parallel_vectors_are_joined_by_a_straight_line() -> None:
    one = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(slerp(one, 3 * one, torch.tensor([0.0, 0.5, 1.0])), torch.stack([one, 2 * one, 3 * one]))


@pytest.mark.parametrize("strength", [-0.1, 1.1])
def test_a_strength_is_a_share(strength: float) -> None:
    with pytest.raises(ValueError, match="strength must be from 0 to 1"):
        vary(_prior(), _latents(1), _latents(1), strength=strength)
