"""The compact decoder: a small Llama fitted to the training split to copy a record from a prefix, then frozen.

Shape legend: B records, S slots, T text tokens, D embedding width.

A small LM cannot be steered by a soft prompt unless it has learned to read one. So it is fitted with prefixes made from
the record itself: every slot (a field's value tokens) becomes one vector, a random subset of them is kept, noise is
added, and the loss is on the record only. Complete and clean prefixes come first (copying appears suddenly or not at
all); later, some or all slots are withheld, which teaches the joint distribution of the fields. Unlike text prefixes,
one vector per slot is what the injector will write later, so the frozen decoder already speaks the injector's language.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from difflm.config import Config
from difflm.models.injector import EmbeddingScale
from difflm.models.likelihood import causal_nll
from difflm.models.prompt import Prompt
from difflm.models.slots import (
    SLOTS_PER_VALUE,
    VALUE_TOKENS,
    SlotEmbedder,
    SlotLayout,
    SlotsPerValue,
    ValueTokens,
)

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


class CompactDecoderConfig(Config):
    """A small Llama with a tokenizer of its own, both fitted to the training split."""

    kind: Literal["compact"] = "compact"
    hidden_size: int = Field(default=128, ge=16)
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=4, ge=1)
    key_heads: int = Field(default=1, ge=1, description="key and value heads; query heads share them in equal groups")
    intermediate_size: int = Field(default=384, ge=16)
    vocabulary_size: int = Field(default=1000, ge=300)
    cells_per_slot: int = Field(default=8, ge=1)
    value_tokens: ValueTokens = VALUE_TOKENS
    slots_per_value: SlotsPerValue = SLOTS_PER_VALUE

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.hidden_size % (2 * self.heads):  # rotary positions turn pairs of numbers within a head
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of twice the heads ({self.heads})")
        if self.heads % self.key_heads:
            raise ValueError(f"heads {self.heads} must be a multiple of key_heads ({self.key_heads})")
        return self


class CompactDecoderFit(nn.Module):
    """The trainable decoder with its prefix embedder: what the fitting stage optimizes."""

    def __init__(
        self,
        config: CompactDecoderConfig,
        layout: SlotLayout,
        *,
        vocabulary_size: int,
        bos_id: int,
        pad_id: int,
        longest: int,
    ) -> None:
        super().__init__()
        self.bos_id = bos_id
        self.model = build_compact_llama(
            config, vocabulary_size=vocabulary_size, bos_id=bos_id, pad_id=pad_id, longest=longest + layout.count + 1
        )
        size = config.hidden_size
        self.embedder = SlotEmbedder(
            layout, vocabulary_size=vocabulary_size, pad_id=pad_id, embedding_size=48, hidden_size=2 * size, size=size
        )
        self.absent = nn.Parameter(torch.zeros(layout.count, size))
        self.scale = EmbeddingScale(size, scale=EMBEDDING_STD)

    def forward(
        self, ids_BT: Tensor, lengths_B: Tensor, grid_BG: Tensor, keep_BS: Tensor, noise_B: Tensor
    ) -> dict[str, Tensor]:
        """Loss and nats per record; `keep_BS` says which slots the prefix shows, `noise_B` how much noise it bears (in
        embedding scales).
        """
        prompt_BSD = torch.where(keep_BS[..., None], self.embedder(grid_BG), self.absent)
        prompt_BSD = self.scale(prompt_BSD)
        prompt_BSD = prompt_BSD + torch.randn_like(prompt_BSD) * (noise_B[:, None, None] * self.scale.scale)
        nats_BT = causal_nll(self.model, Prompt(embeds_BKD=prompt_BSD), ids_BT, lengths_B, bos_id=self.bos_id)
        return {"loss": nats_BT.sum() / lengths_B.sum(), "nats": nats_BT.sum(dim=1).mean()}


EMBEDDING_STD = 0.05
EAGER_POSITIONS = 256


def build_compact_llama(
    config: CompactDecoderConfig, *, vocabulary_size: int, bos_id: int, pad_id: int, longest: int
) -> LlamaForCausalLM:
    """A Llama of the compact size with room for `longest` positions."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.key_heads,
            max_position_embeddings=longest,
            initializer_range=EMBEDDING_STD,
            tie_word_embeddings=True,
            bos_token_id=bos_id,
            eos_token_id=None,
            pad_token_id=pad_id,
        )
    )
    model.set_attn_implementation(attention(longest))
    return model


def attention(positions: int) -> str:
    """The attention for records of so many positions.

    On CPUs and a few dozen tokens the fused kernel's backward pass takes a third of a training step, so short records
    attend eagerly; eager attention needs memory with the square of the positions.
    """
    return "eager" if positions <= EAGER_POSITIONS else "sdpa"
