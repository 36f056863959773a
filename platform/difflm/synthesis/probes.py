"""Parts of a bundle drawn by themselves, to see which of them loses what: records there and back, the decoder alone.

Shape legend: N draws, M noise numbers, R given records, Z latent size, S slots, D embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor, nn

from difflm.errors import ModelError
from difflm.models.autoencoder import Autoencoder, GaussianPosterior
from difflm.models.compact import EMBEDDING_STD
from difflm.models.decoder_store import DecoderParts, read_tensors
from difflm.models.injector import EmbeddingScale
from difflm.models.prompt import Prompt
from difflm.synthesis.bundle import encode_table
from difflm.synthesis.grammar.constraint import RecordSet
from difflm.synthesis.plans.draw_plans import DrawPlan
from difflm.synthesis.synthesizer import OpenBundle, Synthesizer


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _NoLatents:
    """Latents of no numbers, for a prompt that does not depend on any."""

    @property
    def noise_size(self) -> int:
        return 0

    def latents(self, indices: Sequence[int], noise_NM: Tensor) -> Tensor:
        return noise_NM


class _OnePrompt(nn.Module):
    """In the place of an injector: the same soft tokens whatever z is."""

    prompt_SD: Tensor

    def __init__(self, prompt_SD: Tensor) -> None:
        super().__init__()
        self.register_buffer("prompt_SD", prompt_SD)

    @property
    def positions(self) -> int:
        """S."""
        return len(self.prompt_SD)

    def prompt(self, latents_BZ: Tensor) -> Prompt:
        return Prompt(embeds_BKD=self.prompt_SD.expand(len(latents_BZ), -1, -1))


def decoder_alone(opened: OpenBundle, prompt_SD: Tensor) -> Synthesizer:
    """Make the synthesizer of a bundle's decoder behind its `empty_prompt`, without encoder, prior and injector."""
    whole = opened.bundle.autoencoder
    alone = Autoencoder(encoder=whole.encoder, head=whole.head, injector=whole.injector, decoder=whole.decoder)
    alone.add_module("injector", _OnePrompt(prompt_SD.to(opened.device)))
    plan = DrawPlan(latents=_NoLatents(), records=RecordSet())
    return Synthesizer(replace(opened.bundle, autoencoder=alone.eval()), opened.config, device=opened.device, plan=plan)


FITTED = "best.safetensors"


def empty_prompt(decoder: Path, parts: DecoderParts) -> Tensor:
    """Read the soft tokens (S, D) that the compact decoder in a folder was fitted to take for no record at all.

    Raises:
        ModelError: it was not fitted with an empty prompt, or the folder has lost it; says why in one sentence.
    """
    if parts.facts["config"]["kind"] != "compact":
        raise ModelError("a pretrained decoder was not fitted with an empty prompt")
    if not (decoder / FITTED).is_file():
        raise ModelError(f"{decoder} has no {FITTED}, in which the fit keeps the empty prompt")
    tensors = read_tensors(decoder / FITTED)
    absent_SD, slots = tensors.get("absent"), parts.slots.count
    if absent_SD is None or absent_SD.dim() != 2 or len(absent_SD) != slots:
        raise ModelError(f"{decoder / FITTED} holds no empty prompt of {slots} vectors")
    if not absent_SD.any():
        raise ModelError("the decoder was never fitted without a record to read, so its empty prompt is untrained")
    size = int(absent_SD.shape[1])
    scaled_SD: Tensor = EmbeddingScale(size, scale=EMBEDDING_STD)(absent_SD.float())
    return scaled_SD
