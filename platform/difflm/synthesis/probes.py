"""Parts of a bundle drawn by themselves, to see which of them loses what: records there and back, the decoder alone.

Shape legend: N draws, M noise numbers, R given records, Z latent size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor

from difflm.models.autoencoder import GaussianPosterior
from difflm.synthesis.bundle import encode_table
from difflm.synthesis.grammar.constraint import RecordSet
from difflm.synthesis.open_bundle import OpenBundle
from difflm.synthesis.plans.draw_plans import DrawPlan
from difflm.synthesis.synthesizer import Synthesizer


@dataclass(frozen=True, slots=True, kw_only=True)
class PosteriorLatents:
    """Latents of given records by turns: index i is a sample of the posterior of record i modulo R."""

    posterior: GaussianPosterior

    @property
    def noise_size(self) -> int:
        return int(self.posterior.mean_BZ.shape[1])

    def latents(self, indices: Sequence[int], noise_NM: Tensor) -> Tensor:
        mean_RZ, log_variance_RZ = self.posterior.mean_BZ, self.posterior.log_variance_BZ
        rows_N = torch.tensor([index % len(mean_RZ) for index in indices], device=mean_RZ.device)
        chosen = GaussianPosterior(mean_BZ=mean_RZ[rows_N], log_variance_BZ=log_variance_RZ[rows_N])
        return chosen.sample(noise_NM)


def reconstructor(opened: OpenBundle, table: pa.Table) -> Synthesizer:
    """Make the synthesizer that decodes a normalised table's records again: encoder, posterior, injector, decoder."""
    bundle = opened.bundle
    encoded = list(
        encode_table(bundle.autoencoder, bundle.parts, bundle.shape, table, bundle.schema, device=opened.device)
    )
    posterior = GaussianPosterior(
        mean_BZ=torch.cat([part.mean_BZ for part in encoded]),
        log_variance_BZ=torch.cat([part.log_variance_BZ for part in encoded]),
    )
    plan = DrawPlan(latents=PosteriorLatents(posterior=posterior), records=RecordSet())
    return Synthesizer(bundle, opened.config, device=opened.device, plan=plan)


def decoder_alone(opened: OpenBundle) -> Synthesizer:
    """Make the synthesizer of a bundle's decoder behind its empty prompt, without encoder and prior.

    Raises:
        ModelError: it was not fitted to write without a latent.
    """
    opened.bundle.autoencoder.empty_prompt(1)
    plan = DrawPlan(latents=None, records=RecordSet())
    return Synthesizer(opened.bundle, opened.config, device=opened.device, plan=plan)
