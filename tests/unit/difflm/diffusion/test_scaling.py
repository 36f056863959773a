"""The latent scaler: moments of z ~ q(z|x), and its inverse."""

import pytest
import torch

from difflm.diffusion.priors import SMALLEST_STD, LatentScaler


def _posteriors(rows: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mean = torch.tensor([3.0, -1.0, 0.0]) + torch.tensor([0.1, 2.0, 1.0]) * torch.randn(rows, 3, generator=generator)
    return mean, torch.tensor([-1.0, -4.0, 0.5]) + 0.3 * torch.randn(rows, 3, generator=generator)


def test_normalized_latents_have_mean_zero_and_the_data_sigma() -> None:
    mean, log_variance = _posteriors()
    scaler = LatentScaler.fit(mean, log_variance, sigma_data=0.5)
    latents = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))
    normalized = scaler.normalize(latents)
    assert normalized.mean(dim=0).tolist() == pytest.approx([0.0] * 3, abs=0.03)
    assert normalized.std(dim=0).tolist() == pytest.approx([0.5] * 3, rel=0.04)


def test_denormalize_is_the_inverse() -> None:
    mean, log_variance = _posteriors(50)
    scaler = LatentScaler.fit(mean, log_variance, sigma_data=0.5)
    torch.testing.assert_close(scaler.denormalize(scaler.normalize(mean)), mean)


def test_a_dead_dimension_does_not_divide_by_zero() -> None:
    scaler = LatentScaler.fit(torch.ones(5, 2), torch.full((5, 2), -100.0), sigma_data=0.5)
    assert scaler.std_Z.tolist() == pytest.approx([SMALLEST_STD] * 2)
    assert torch.isfinite(scaler.normalize(torch.ones(5, 2))).all()
