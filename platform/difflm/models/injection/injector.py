"""Latent injection: how z becomes what the frozen decoder reads (DiffLM, section 3.3).

An injector writes K vectors of z, one per slot or as many as are asked for; a form says what these are to the decoder:
soft tokens (the paper's choice), keys and values of every layer (the memory of Li et al. 2020, "Optimus"), or
something that is added to every token embedding (the same paper's other scheme).

Shape legend: B records, Z latent size, S slots, K positions, W numbers of a vector, D width of the decoder's token
embeddings, L layers, X keys and values (2), H key heads, E head size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, TypeGuard

import torch
from pydantic import Field
from torch import Tensor, nn

from difflm.config import Config
from difflm.models.injection.prefix import PrefixConfig, PrefixInjector
from difflm.models.injection.vocabulary import VocabularyConfig
from difflm.models.prompt import Prompt


class SoftPromptConfig(Config):
    """k virtual token embeddings before the text. With slots, k is the number of slots (plus the learned prefix)."""

    kind: Literal["soft_prompt"] = "soft_prompt"
    soft_tokens: int = Field(
        default=32, ge=1, description="virtual tokens made from z when the latent is pooled, not aligned with fields"
    )
    learned_prefix: int = Field(default=0, ge=0, description="virtual tokens that do not depend on z")
    hidden_size: int = Field(default=256, ge=1)
    empty: bool = Field(
        default=False,
        exclude_if=lambda empty: not empty,  # artifacts that were made before there was a choice keep their names
        description="also a learned prompt that says nothing, for pooled latents: what conditions are written behind",
    )


class KvMemoryConfig(Config):
    """Keys and values of every layer before the text. With slots, there is one position per slot."""

    kind: Literal["kv_memory"] = "kv_memory"
    positions: int = Field(
        default=32, ge=1, description="positions made from z when the latent is pooled, not aligned with fields"
    )
    learned_prefix: int = Field(default=0, ge=0, description="positions that do not depend on z")
    hidden_size: int = Field(default=256, ge=1)


class EmbeddingConfig(Config):
    """One vector from the whole of z, added to every token embedding."""

    kind: Literal["embedding"] = "embedding"
    hidden_size: int = Field(default=256, ge=1)


READ_ONCE = ("kv_memory", "prefix")
"""Kinds whose prompts are keys and values, which layers cannot read once more in the backward pass."""

InjectorConfig = Annotated[
    SoftPromptConfig | KvMemoryConfig | EmbeddingConfig | VocabularyConfig | PrefixConfig, Field(discriminator="kind")
]


class EmbeddingScale(nn.Module):
    """Layer norm to the scale of the decoder's own vectors, so that soft tokens look like tokens to its first layer.

    `scale` is one number, or one for every vector of a (L, X, W) memory, shape (L, X, 1).
    """

    scale: Tensor

    def __init__(self, size: int, *, scale: float | Tensor) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size, elementwise_affine=False)
        self.register_buffer("scale", torch.as_tensor(scale))

    def forward(self, vectors: Tensor) -> Tensor:
        out: Tensor = self.norm(vectors) * self.scale
        return out


class PromptForm(Protocol):
    """What an injector's vectors are to the decoder."""

    @property
    def vector_shape(self) -> tuple[int, ...]:
        """Shape of a vector of W numbers."""
        ...

    @property
    def scale(self) -> float | Tensor:
        """Root mean square of what the decoder itself has in their place, as of `EmbeddingScale`."""
        ...

    def prompt(self, vectors_BKW: Tensor) -> Prompt:
        """Return the prompt that scaled vectors of this shape are."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftTokens:
    """Vectors that the decoder reads as token embeddings."""

    size: int
    scale: float

    @property
    def vector_shape(self) -> tuple[int, ...]:
        return (self.size,)

    def prompt(self, vectors_BKW: Tensor) -> Prompt:
        return Prompt(embeds_BKD=vectors_BKW)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryShape:
    """The keys and values of a decoder."""

    layers: int
    heads: int
    head_size: int


class PromptReader(Protocol):
    """What an injector writes for: a decoder, or the sizes of one that is not loaded."""

    @property
    def width(self) -> int:
        """Width D of its token embeddings."""
        ...

    @property
    def memory_shape(self) -> MemoryShape:
        """The keys and values of its layers."""
        ...

    def memory_scales(self) -> Tensor:
        """Root mean square of its own keys and of its values, shape (L, 2, 1)."""
        ...

    def embeddings(self, tokens_U: Tensor) -> Tensor:
        """Embeddings of some tokens, shape (U, D)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysAndValues:
    """Vectors that are the keys and values of every layer; `size` is the width D of token embeddings."""

    size: int
    shape: MemoryShape
    scale: Tensor

    @property
    def vector_shape(self) -> tuple[int, ...]:
        return (self.shape.layers, 2, self.shape.heads * self.shape.head_size)

    def prompt(self, vectors_BKW: Tensor) -> Prompt:
        memory_BKLXHE = vectors_BKW.reshape(*vectors_BKW.shape[:-1], self.shape.heads, self.shape.head_size)
        return Prompt(
            embeds_BKD=vectors_BKW.new_empty((len(vectors_BKW), 0, self.size)),
            memory_BLXHKE=memory_BKLXHE.permute(0, 2, 3, 4, 1, 5),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedEmbedding:
    """One vector that is added to every token embedding, and a memory of no positions in front of the text."""

    size: int
    shape: MemoryShape
    scale: float

    @property
    def vector_shape(self) -> tuple[int, ...]:
        return (self.size,)

    def prompt(self, vectors_BKW: Tensor) -> Prompt:
        nothing = (len(vectors_BKW), self.shape.layers, 2, self.shape.heads, 0, self.shape.head_size)
        return Prompt(
            embeds_BKD=vectors_BKW[:, :0], memory_BLXHKE=vectors_BKW.new_empty(nothing), added_BD=vectors_BKW[:, 0]
        )


class SlotInjector(nn.Module):
    """One vector per slot, from that slot's part of z by an MLP that all slots share and an embedding that tells them
    apart.
    """

    def __init__(
        self, form: PromptForm, *, slots: int, latent_per_slot: int, hidden_size: int, learned_prefix: int
    ) -> None:
        super().__init__()
        self.form, self.slots, self.latent_per_slot = form, slots, latent_per_slot
        self.slot_embedding = nn.Parameter(torch.randn(slots, hidden_size) * 0.5)
        self.per_slot = nn.Parameter(torch.randn(slots, latent_per_slot, hidden_size) * latent_per_slot**-0.5)
        self.mlp = nn.Sequential(
            nn.GELU(),
            nn.Linear(hidden_size, hidden_size),
            nn.GELU(),
            nn.Linear(hidden_size, math.prod(form.vector_shape)),
        )
        self.scale = EmbeddingScale(form.vector_shape[-1], scale=form.scale)
        self.prefix = _learned(form, learned_prefix)

    @property
    def positions(self) -> int:
        """K, with the learned prefix."""
        return self.slots + int(self.prefix.shape[0])

    @property
    def latent_size(self) -> int:
        """Z."""
        return self.slots * self.latent_per_slot

    def prompt(self, latents_BZ: Tensor) -> Prompt:
        """Return what the decoder reads of z."""
        return self.form.prompt(self(latents_BZ))

    def forward(self, latents_BZ: Tensor) -> Tensor:
        parts_BSd = latents_BZ.reshape(-1, self.slots, self.latent_per_slot)
        hidden_BSH = torch.einsum("bsd,sdh->bsh", parts_BSd, self.per_slot) + self.slot_embedding
        vectors_BSW = self.mlp(hidden_BSH).unflatten(-1, self.form.vector_shape)
        return _with_prefix(self.prefix, self.scale(vectors_BSW))


class PooledInjector(nn.Module):
    """`vectors` vectors from the whole of z by one MLP: for records without fields (free text, code).

    `positions` is how many of them stand in front of the text, with the learned prefix.
    """

    def __init__(
        self,
        form: PromptForm,
        *,
        latent_size: int,
        vectors: int,
        hidden_size: int,
        learned_prefix: int,
        empty: bool = False,
    ) -> None:
        super().__init__()
        self.form, self.vectors, self.latent_size = form, vectors, latent_size
        self.mlp = nn.Sequential(
            nn.Linear(latent_size, hidden_size),
            nn.GELU(),
            nn.Linear(hidden_size, hidden_size),
            nn.GELU(),
            nn.Linear(hidden_size, vectors * math.prod(form.vector_shape)),
        )
        self.scale = EmbeddingScale(form.vector_shape[-1], scale=form.scale)
        self.prefix = _learned(form, learned_prefix)
        self.empty = nn.Parameter(torch.randn(vectors, *form.vector_shape)) if empty else None

    @property
    def positions(self) -> int:
        """K, with the learned prefix; 0 where the vector is added to the text's own embeddings."""
        return 0 if isinstance(self.form, AddedEmbedding) else self.vectors + int(self.prefix.shape[0])

    def prompt(self, latents_BZ: Tensor, told_B: Tensor | None = None) -> Prompt:
        """Return what the decoder reads of z; of records that are not in `told_B` (booleans) the empty prompt."""
        return self.form.prompt(self(latents_BZ, told_B))

    def forward(self, latents_BZ: Tensor, told_B: Tensor | None = None) -> Tensor:
        vectors_BKW = self.mlp(latents_BZ).unflatten(-1, (self.vectors, *self.form.vector_shape))
        if told_B is not None:
            assert self.empty is not None, "only injectors with an empty prompt leave records without their latents"
            told = told_B.reshape(-1, *[1] * (vectors_BKW.ndim - 1))
            vectors_BKW = torch.where(told, vectors_BKW, self.empty.to(vectors_BKW.dtype))
        return _with_prefix(self.prefix, self.scale(vectors_BKW))


def has_empty_prompt(injector: nn.Module) -> TypeGuard[PooledInjector | PrefixInjector]:
    """Tell whether records can be written behind a prompt that says nothing of them."""
    return isinstance(injector, PrefixInjector) or (isinstance(injector, PooledInjector) and injector.empty is not None)


def _learned(form: PromptForm, count: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(count, *form.vector_shape) * form.scale)


def _with_prefix(prefix_PW: Tensor, vectors_BKW: Tensor) -> Tensor:
    if prefix_PW.shape[0] == 0:
        return vectors_BKW
    return torch.cat([prefix_PW.expand(len(vectors_BKW), *prefix_PW.shape).to(vectors_BKW.dtype), vectors_BKW], dim=1)
