"""Diffusion against closed forms: for Gaussian data the ideal denoiser and the flow's solution are known."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from difflm.diffusion.edm import (
    Denoiser,
    EdmDenoiser,
    draw_sigma,
    karras_sigmas,
    sample_heun,
    sample_multistep,
    score_matching_loss,
)
from difflm.diffusion.network import MlpNetwork

MEAN, STD = 1.5, 0.4


def ideal(noisy_BZ: Tensor, sigma_B: Tensor) -> Tensor:
    """E[x | x + sigma n] for x ~ N(MEAN, STD^2)."""
    sigma2 = sigma_B[:, None].square()
    return (STD**2 * noisy_BZ + sigma2 * MEAN) / (STD**2 + sigma2)


def exact(start_BZ: Tensor, sigma_from: float, sigma_to: float) -> Tensor:
    """The solution of the probability flow ODE for the same data."""
    return MEAN + (start_BZ - MEAN) * math.sqrt((STD**2 + sigma_to**2) / (STD**2 + sigma_from**2))


def euler(start_BZ: Tensor, sigmas_S: Tensor) -> Tensor:
    current = start_BZ
    for sigma, following in zip(sigmas_S[:-1].tolist(), sigmas_S[1:].tolist(), strict=True):
        slope = (current - ideal(current, current.new_full((len(current),), sigma))) / sigma
        current = current + (following - sigma) * slope
    return current


def noise(count: int = 64, size: int = 3, *, seed: int = 0) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def observed_orders(errors: list[float]) -> list[float]:
    return [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]


def test_heun_with_the_ideal_denoiser_follows_the_exact_solution() -> None:
    drawn = noise()
    wanted = exact(drawn * 80.0, 80.0, 0.0)
    for steps, most in ((50, 2e-2 * STD * 3), (200, 2e-3 * STD * 3)):
        assert float((sample_heun(ideal, drawn, karras_sigmas(steps)) - wanted).abs().max()) < most


def test_heun_converges_with_order_two_and_euler_with_order_one() -> None:
    drawn, heun_errors, euler_errors = noise(), list[float](), list[float]()
    for steps in (33, 65, 129, 257):
        sigmas = karras_sigmas(steps, sigma_min=0.05, sigma_max=20.0)[:-1]
        wanted = exact(drawn * 20.0, 20.0, 0.05)
        heun_errors.append(float((sample_heun(ideal, drawn, sigmas) - wanted).abs().max()))
        euler_errors.append(float((euler(drawn * 20.0, sigmas) - wanted).abs().max()))
    assert observed_orders(heun_errors) == pytest.approx([2.0] * 3, abs=0.25)
    assert observed_orders(euler_errors) == pytest.approx([1.0] * 3, abs=0.25)


def test_the_multistep_solver_follows_the_exact_solution_and_converges_with_order_two() -> None:
    drawn, errors = noise(), list[float]()
    wanted = exact(drawn * 80.0, 80.0, 0.0)
    assert float((sample_multistep(ideal, drawn, karras_sigmas(100)) - wanted).abs().max()) < 2e-2 * STD * 3
    for steps in (33, 65, 129, 257):
        sigmas = karras_sigmas(steps, sigma_min=0.05, sigma_max=20.0)[:-1]
        reached = sample_multistep(ideal, drawn, sigmas)
        errors.append(float((reached - exact(drawn * 20.0, 20.0, 0.05)).abs().max()))
    assert observed_orders(errors) == pytest.approx([2.0] * 3, abs=0.25)


def test_the_multistep_solver_asks_the_denoiser_once_a_step() -> None:
    asked = list[float]()

    def counted(noisy_BZ: Tensor, sigma_B: Tensor) -> Tensor:
        asked.append(float(sigma_B))
        return ideal(noisy_BZ, sigma_B)

    sample_multistep(counted, noise(), karras_sigmas(8, sigma_min=0.1, sigma_max=10.0))
    assert asked == pytest.approx(karras_sigmas(8, sigma_min=0.1, sigma_max=10.0)[:-1].tolist())


@pytest.mark.parametrize("solve", [sample_heun, sample_multistep])
def test_samples_have_the_moments_of_the_data(solve: Callable[[Denoiser, Tensor, Tensor], Tensor]) -> None:
    sampled = solve(ideal, noise(40_000, 1), karras_sigmas(30))
    assert float(sampled.mean()) == pytest.approx(MEAN, abs=4 * STD / 200 + 0.005)
    assert float(sampled.std()) == pytest.approx(STD, rel=0.03)


class Recorder(torch.nn.Module):
    """A network that outputs one number and remembers what it was given."""

    def __init__(self, output: float) -> None:
        super().__init__()
        self.output, self.seen = output, torch.empty(0)

    def forward(self, scaled_BZ: Tensor, c_noise_B: Tensor) -> Tensor:
        self.seen, self.c_noise_B = scaled_BZ, c_noise_B
        return torch.full_like(scaled_BZ, self.output)


@pytest.mark.parametrize("sigma", [0.002, 0.05, 0.5, 3.0, 80.0])
@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_preconditioning_gives_unit_variance_inputs_and_targets(sigma: float, sigma_data: float) -> None:
    clean = noise(50_000, 1, seed=1) * sigma_data
    noisy, sigma_B = clean + sigma * noise(50_000, 1, seed=2), torch.full((50_000,), sigma, dtype=torch.float64)
    zero, one = Recorder(0.0), Recorder(1.0)
    skipped = EdmDenoiser(zero, sigma_data=sigma_data)(noisy, sigma_B)
    c_out = EdmDenoiser(one, sigma_data=sigma_data)(noisy, sigma_B) - skipped
    target = (clean - skipped) / c_out
    assert float(zero.seen.std()) == pytest.approx(1.0, rel=0.02)
    assert float(target.std()) == pytest.approx(1.0, rel=0.02)
    assert float(zero.c_noise_B[0]) == pytest.approx(math.log(sigma) / 4)


def test_the_loss_of_a_silent_network_on_standardised_data_is_one() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = 0.5 * torch.randn(20_000, 4, generator=generator)
    drawn, sigma_B = torch.randn(20_000, 4, generator=generator), draw_sigma(20_000, generator=generator)
    loss = score_matching_loss(EdmDenoiser(Recorder(0.0), sigma_data=0.5), clean, sigma_B, drawn, sigma_data=0.5)
    assert float(loss) == pytest.approx(1.0, rel=0.02)


def test_noise_levels_are_log_normal() -> None:
    logs = draw_sigma(100_000, generator=torch.Generator().manual_seed(0)).log()
    assert float(logs.mean()) == pytest.approx(-1.2, abs=0.02)
    assert float(logs.std()) == pytest.approx(1.2, abs=0.02)


def test_the_ideal_denoiser_minimises_the_loss() -> None:
    generator = torch.Generator().manual_seed(3)
    clean = MEAN + STD * torch.randn(40_000, 2, generator=generator)
    drawn, sigma_B = torch.randn(40_000, 2, generator=generator), draw_sigma(40_000, generator=generator)

    def loss(scale: float, shift: float) -> float:
        def denoiser(noisy_BZ: Tensor, sigma_B: Tensor) -> Tensor:
            # The deviations vanish with sigma, as they do behind the preconditioning.
            gain = sigma_B[:, None] / (1 + sigma_B[:, None])
            return ideal(noisy_BZ, sigma_B) + gain * (scale * (noisy_BZ - MEAN) + shift)

        return float(score_matching_loss(denoiser, clean, sigma_B, drawn, sigma_data=0.5))

    best = loss(0.0, 0.0)
    assert all(loss(scale, shift) > best for scale, shift in ((0.1, 0.0), (-0.1, 0.0), (0.0, 0.1), (0.0, -0.1)))


def test_a_small_network_approaches_the_ideal_denoiser() -> None:
    generator = torch.Generator().manual_seed(4)
    torch.manual_seed(4)
    denoiser = EdmDenoiser(MlpNetwork(latent_size=2, width=32, blocks=1, noise_size=16), sigma_data=0.5)
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=5e-3)
    mean, std = torch.tensor([0.4, -0.2]), torch.tensor([0.6, 0.3])
    for step in range(400):
        clean = mean + std * torch.randn(256, 2, generator=generator)
        drawn, sigma_B = torch.randn(256, 2, generator=generator), draw_sigma(256, generator=generator)
        loss = score_matching_loss(denoiser, clean, sigma_B, drawn, sigma_data=0.5)
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * (1 - step / 400)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for sigma in (0.1, 0.3, 1.0):
        clean = mean + std * torch.randn(2000, 2, generator=generator)
        noisy = clean + sigma * torch.randn(2000, 2, generator=generator)
        wanted = (std**2 * noisy + sigma**2 * mean) / (std**2 + sigma**2)
        with torch.no_grad():
            error = (denoiser(noisy, torch.full((2000,), sigma)) - wanted).square().mean().sqrt()
        assert float(error) < 0.25 * float((noisy - wanted).square().mean().sqrt()) + 0.01


def test_levels_that_are_equal_take_no_step() -> None:
    """Whoever asks for many between two that are near gets some that their precision does not tell apart."""
    twice = torch.tensor([2.0, 2.0, 1.0, 1.0, 0.0])
    start = torch.ones(3, 2)
    made = [
        sample_multistep(lambda noisy, _sigma: noisy * 0.5, start, levels) for levels in (twice, twice.unique().flip(0))
    ]
    torch.testing.assert_close(*made)
