"""Fitting a Gaussian mixture to the latents (the prior its reviewers asked to compare with).

Shape legend: N records, Z latent size, K components.
"""

from __future__ import annotations

import torch
from torch import Tensor


def fit_mixture(
    mean_NZ: Tensor, log_variance_NZ: Tensor, *, components: int, seed: int, most: int = 50_000
) -> dict[str, Tensor]:
    """Weights (K,), means (K, Z) and Cholesky factors (K, Z, Z) by expectation maximisation on z ~ q(z|x), at most
    `most` records.
    """
    from sklearn.mixture import GaussianMixture

    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(mean_NZ), generator=generator)[:most]
    mean, log_variance = mean_NZ[rows], log_variance_NZ[rows]
    latents = mean + (0.5 * log_variance).exp() * torch.randn(mean.shape, generator=generator)
    mixture = GaussianMixture(
        min(components, len(rows)), covariance_type="full", reg_covar=1e-4, random_state=seed % 2**32, max_iter=200
    )
    mixture.fit(latents.double().numpy())
    return {
        "weights": torch.from_numpy(mixture.weights_).float(),
        "means": torch.from_numpy(mixture.means_).float(),
        "factors": torch.linalg.cholesky(torch.from_numpy(mixture.covariances_)).float(),
    }
