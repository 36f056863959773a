"""The Gaussian posterior q(z|x) and its divergence from N(0, I) (DiffLM, Eq. 1 and 4).

Shape legend: B records, Z latent size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianPosterior:
    """A diagonal Gaussian for every record.

    `mean_BZ` is the deterministic encoding; `sample` is never deterministic.
    """

    mean_BZ: Tensor
    log_variance_BZ: Tensor

    def sample(self, noise_BZ: Tensor) -> Tensor:
        """z = mean + sigma * noise (Eq. 1); the caller draws the standard normal noise."""
        return self.mean_BZ + torch.exp(0.5 * self.log_variance_BZ) * noise_BZ

    def kl_nats(self) -> Tensor:
        """KL(q(z|x) || N(0, I)) of shape (B,), in nats, *summed* over the Z dimensions.

        The published code averages over its 1,024 dimensions, so a beta there is 1,024 times weaker than the same
        number here.
        """
        terms = self.mean_BZ.square() + self.log_variance_BZ.exp() - 1.0 - self.log_variance_BZ
        return 0.5 * terms.sum(dim=-1)
