"""A prefix of keys and values that a frozen model reads as if it were text, and that z changes (prefix tuning).

What a pretrained model has to know of all records (their form, their subject, how they sound) is the same in each. So
the prefix is learned as one set of keys and values per layer, and begins as those that the model itself makes of a text
(Li and Liang 2021, arXiv 2101.00190: real words are a far better beginning than noise). z moves its last positions by a
map of low rank, which is zero at first: what one record has of its own. Nothing is normed, for vectors that say a lot
to a frozen model are far longer than its own.

What z says is read best as words. With `words`, the tokens of each field that z makes likelier than they are stand
between the prefix and the record (`words`).

Shape legend: B records, Z latent size, K positions, S of them that z moves, R rank, L layers, X keys and values (2), H
key heads, E head size, T tokens of the text, D width of token embeddings.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from difflm.config import Config
from difflm.errors import ModelError
from difflm.models.injection.words import FieldWords
from difflm.models.prompt import Prompt

RATE = 16.0
"""How many times faster than other weights the prefix is learned: its numbers are of the size of 1, and theirs small.

The parameter is the prefix divided by this, so that a step of Adam moves it so many times further."""


class PrefixConfig(Config):
    """Keys and values of every layer, begun as those of a text, of which z moves the last; for pretrained decoders."""

    kind: Literal["prefix"] = "prefix"
    positions: int = Field(default=40, ge=1, description="in front of the text")
    steered: int = Field(default=16, ge=1, description="how many of the positions z moves, the last ones")
    rank: int = Field(default=32, ge=1, description="of the map from z to keys and values")
    hidden_size: int = Field(default=256, ge=1)
    text: str | None = Field(
        default=None, min_length=1, description="what the prefix begins as, repeated; null: the names of the fields"
    )
    words: int = Field(
        default=0,
        ge=0,
        exclude_if=lambda words: not words,  # artifacts that were made before there was a choice keep their names
        description="tokens of each field that z makes likelier than they are, which stand behind the prefix as the "
        "decoder's own embeddings; chosen by what encoder and injector first learn without it (autoencoder.draft)",
    )


class PrefixInjector(nn.Module):
    """The learned prefix, the map by which the whole of z moves its last positions, and words of z behind them.

    `layers`, `heads` and `head_size` are those of the decoder's keys and values; `width` is that of its embeddings.
    """

    def __init__(
        self,
        config: PrefixConfig,
        *,
        latent_size: int,
        layers: int,
        heads: int,
        head_size: int,
        width: int,
        words: FieldWords | None = None,
    ) -> None:
        super().__init__()
        self.latent_size, self.width, self.words = latent_size, width, words
        self.length, self.steered = config.positions, min(config.steered, config.positions)
        self.slowed_KLXHE = nn.Parameter(torch.randn(self.length, layers, 2, heads, head_size) / RATE)
        hidden = config.hidden_size
        self.mlp = nn.Sequential(
            nn.Linear(latent_size, hidden), nn.GELU(), nn.Linear(hidden, config.rank), nn.LayerNorm(config.rank)
        )
        self.moves = nn.Linear(config.rank, self.steered * math.prod(self.vector_shape), bias=False)
        nn.init.zeros_(self.moves.weight)

    @property
    def positions(self) -> int:
        """Of the prefix and of the words behind it."""
        return self.length + (0 if self.words is None else self.words.positions)

    @property
    def vector_shape(self) -> tuple[int, ...]:
        """Numbers of one position: L, X, H, E."""
        return tuple(self.slowed_KLXHE.shape[1:])

    @torch.no_grad()
    def begin(self, memory_LXHTE: Tensor) -> None:
        """Let the prefix begin as keys and values of a text, of which the first K positions are taken.

        Raises:
            ModelError: there are fewer: the decoder attends to a window of positions.
        """
        memory_TLXHE = memory_LXHTE.permute(3, 0, 1, 2, 4)[: self.length]
        if len(memory_TLXHE) < self.length:
            raise ModelError(
                f"injector.positions is {self.length}, and the decoder attends to {len(memory_TLXHE)}: lower it"
            )
        self.slowed_KLXHE.copy_(memory_TLXHE / RATE)

    def forward(self, latents_BZ: Tensor, told_B: Tensor | None = None) -> Tensor:
        """Return keys and values of shape (B, K, L, X, H, E); of records that are not in `told_B` z says nothing."""
        prefix_KLXHE = self.slowed_KLXHE * RATE
        moved_BSLXHE = self.moves(self.mlp(latents_BZ)).unflatten(-1, (self.steered, *prefix_KLXHE.shape[1:]))
        if told_B is not None:
            moved_BSLXHE = moved_BSLXHE * told_B.reshape(-1, 1, 1, 1, 1, 1)
        kept = self.length - self.steered
        prefix_BKLXHE = prefix_KLXHE.expand(len(latents_BZ), *prefix_KLXHE.shape)
        return torch.cat([prefix_BKLXHE[:, :kept], prefix_BKLXHE[:, kept:] + moved_BSLXHE], dim=1)

    def prompt(self, latents_BZ: Tensor, told_B: Tensor | None = None) -> Prompt:
        """Return what the decoder reads of z; of records that are not in `told_B` the prefix alone."""
        memory_BKLXHE = self(latents_BZ, told_B)
        nothing_B0D = memory_BKLXHE.new_empty((len(memory_BKLXHE), 0, self.width))
        return Prompt(
            embeds_BKD=nothing_B0D if self.words is None else self.words(latents_BZ, told_B),
            memory_BLXHKE=memory_BKLXHE.permute(0, 2, 3, 4, 1, 5),
        )
