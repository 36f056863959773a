"""Soft tokens written through the vocabulary, and the draft that encoder and injector learn without the language model.

A pretrained model reads its own token embeddings at once, and what lies between them is noise to it. So the injector
says, for each place of a slot, how likely every token is that training uses, and hands over the expected embedding

    v = softmax(h E^T / tau) E

with the frozen embeddings E of these tokens. As tau falls, v becomes the embedding of one token: a draft of the record,
which the model behind it only has to correct. The draft's tokens are known, so encoder and injector first learn them
by cross-entropy, without a pass through the language model.

Shape legend: B records, Z latent size, S slots, R places of a slot, K = S R positions, U tokens that training uses,
D width of token embeddings, G grid cells, V vocabulary, F fields.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from difflm.config import Config
from difflm.models.field_slots import SlotLayout
from difflm.models.prompt import Prompt

NOTHING = 0
"""Index of the token of a place that a value leaves empty: the padding, the first of the tokens that are used."""

UNKNOWN = -100
"""In place of a token that training does not use: no draft has it, and no loss is asked for it."""


class VocabularyConfig(Config):
    """Expected token embeddings before the text, one for each place of a slot; learned as a draft of the record first.

    For pretrained decoders, with latents that are aligned with fields.
    """

    kind: Literal["vocabulary"] = "vocabulary"
    hidden_size: int = Field(default=256, ge=1)
    temperature: float = Field(default=1.0, gt=0, description="tau; near 0 every soft token is one token's embedding")


def used_tokens(grid_NG: Tensor, *, pad_id: int, rows: int = 1) -> Tensor:
    """List the tokens of training's values that so many rows have, shape (U,), the padding first."""
    sorted_NG = grid_NG.sort(dim=1).values
    again_NG = torch.zeros_like(sorted_NG, dtype=torch.bool)
    again_NG[:, 1:] = sorted_NG[:, 1:] == sorted_NG[:, :-1]
    found_U, count_U = torch.unique(sorted_NG[~again_NG], return_counts=True)
    found_U = found_U[count_U >= rows]
    return torch.cat([torch.tensor([pad_id]), found_U[found_U != pad_id]])


def places_among(tokens_U: Tensor, wanted: Tensor) -> Tensor:
    """Return where tokens stand among those that are used, of the same shape; -100 where they are not among them."""
    order_U = torch.argsort(tokens_U)
    sorted_U = tokens_U[order_U]
    found = torch.searchsorted(sorted_U, wanted.contiguous()).clamp(max=len(sorted_U) - 1)
    return torch.where(sorted_U[found] == wanted, order_U[found], UNKNOWN)


class VocabularyInjector(nn.Module):
    """Distributions over tokens from each slot's part of z, by an MLP that all slots share.

    `embeddings_UD` are the decoder's own, of `tokens_U`; they take no gradient and are in no artifact.
    """

    tokens_U: Tensor
    embeddings_UD: Tensor
    cells_SR: Tensor
    field_S: Tensor

    def __init__(
        self,
        config: VocabularyConfig,
        layout: SlotLayout,
        tokens_U: Tensor,
        embeddings_UD: Tensor,
        *,
        latent_per_slot: int,
    ) -> None:
        super().__init__()
        self.slots, self.latent_per_slot, self.temperature = layout.count, latent_per_slot, config.temperature
        self.grid_size, hidden, width = layout.grid.size, config.hidden_size, embeddings_UD.shape[1]
        self.register_buffer("tokens_U", tokens_U)
        self.register_buffer("embeddings_UD", embeddings_UD.detach().float(), persistent=False)
        self.register_buffer("cells_SR", layout.cells_SC(), persistent=False)
        self.register_buffer("field_S", layout.field_S, persistent=False)
        self.slot_embedding = nn.Parameter(torch.randn(self.slots, hidden) * 0.5)
        self.per_slot = nn.Parameter(torch.randn(self.slots, latent_per_slot, hidden) * latent_per_slot**-0.5)
        self.mlp = nn.Sequential(
            nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, self.places * width)
        )
        self.bias_U = nn.Parameter(torch.zeros(len(tokens_U)))

    @property
    def places(self) -> int:
        """R."""
        return int(self.cells_SR.shape[1])

    @property
    def positions(self) -> int:
        """K."""
        return self.slots * self.places

    def forward(self, latents_BZ: Tensor) -> Tensor:
        """Return how likely each used token is at each place, as unscaled logarithms of shape (B, S, R, U)."""
        return self.scores(self.keys(latents_BZ))

    def keys(self, latents_BZ: Tensor) -> Tensor:
        """Return what each place's token is compared with, shape (B, S, R, D)."""
        parts_BSd = latents_BZ.reshape(-1, self.slots, self.latent_per_slot)
        hidden_BSH = torch.einsum("bsd,sdh->bsh", parts_BSd, self.per_slot) + self.slot_embedding
        keys_BSRD: Tensor = self.mlp(hidden_BSH).unflatten(-1, (self.places, -1))
        return keys_BSRD

    def scores(self, keys_D: Tensor) -> Tensor:
        """Return how likely each used token is behind keys of shape (..., D), shape (..., U)."""
        scores_U: Tensor = keys_D @ self.embeddings_UD.T + self.bias_U
        return scores_U

    def expected(self, logits_BSRU: Tensor) -> Tensor:
        """Return the expected embeddings, shape (B, K, D)."""
        return ((logits_BSRU / self.temperature).softmax(dim=-1) @ self.embeddings_UD).flatten(1, 2)

    def prompt(self, latents_BZ: Tensor) -> Prompt:
        """Return what the decoder reads of z."""
        return Prompt(embeds_BKD=self.expected(self(latents_BZ)))

    def draft(self, grid_BG: Tensor) -> Tensor:
        """Return the draft of records as indices of used tokens, shape (B, S, R); -100 where training lacks a token."""
        padded_BG = torch.cat([grid_BG, self.tokens_U[NOTHING].expand(len(grid_BG), 1)], dim=1)
        return places_among(self.tokens_U, padded_BG[:, self.cells_SR])


def exact_fields(drafted_BSR: Tensor, wanted_BSR: Tensor, field_S: Tensor) -> Tensor:
    """Tell for each record and field whether every place of its slots is right, shape (B, F)."""
    right_BS = (drafted_BSR == wanted_BSR).all(dim=-1)
    fields = int(field_S.max()) + 1
    return torch.stack([right_BS[:, field_S == field].all(dim=1) for field in range(fields)], dim=1)
