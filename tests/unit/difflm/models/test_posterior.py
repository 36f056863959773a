"""The posterior against torch's own distributions."""

import torch
from torch.distributions import Independent, Normal, kl_divergence

from difflm.models.autoencoder import GaussianPosterior


def _posterior() -> GaussianPosterior:
    generator = torch.Generator().manual_seed(0)
    return GaussianPosterior(
        mean_BZ=torch.randn(6, 5, generator=generator), log_variance_BZ=2 * torch.randn(6, 5, generator=generator)
    )


def test_the_divergence_is_summed_over_dimensions() -> None:
    posterior = _posterior()
    own = Independent(Normal(posterior.mean_BZ, (0.5 * posterior.log_variance_BZ).exp()), 1)
    prior = Independent(Normal(torch.zeros(6, 5), torch.ones(6, 5)), 1)
    torch.testing.assert_close(posterior.kl_nats(), kl_divergence(own, prior))


def test_the_standard_normal_has_no_divergence() -> None:
    zero = torch.zeros(2, 4)
    assert GaussianPosterior(mean_BZ=zero, log_variance_BZ=zero).kl_nats().tolist() == [0.0, 0.0]


def test_samples_shift_and_scale_the_noise() -> None:
    posterior = _posterior()
    torch.testing.assert_close(posterior.sample(torch.zeros(6, 5)), posterior.mean_BZ)
    wanted = posterior.mean_BZ + posterior.log_variance_BZ.exp().sqrt()
    torch.testing.assert_close(posterior.sample(torch.ones(6, 5)), wanted)
