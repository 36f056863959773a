"""Keys and values of every slot's record: slots are filled, read up to different lengths, replaced and dropped.

Shape legend: B slots, N of them, H key heads, C positions that a slot has room for, K positions of the prompt, E head
size, D width of token embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

GROWTH = 32  # positions that a cache grows by; batched products of other lengths cost up to twice as much


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptCache:
    """Keys and values of N prompts, one (N, H, K, E) tensor per layer, and what their tokens' embeddings get added."""

    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    added_ND: Tensor | None = None


class SlotCache:
    """One (B, H, C, E) tensor of keys and one of values per layer.

    Attention reads all C positions: batched products of a part of them cost two to six times as much (they are copied
    first), so C is kept close to what the longest record needs and grows with it. What a slot has not written is read
    and masked out, so it has to be finite: memory is zero at first, and a slot that held something else is cleared.
    """

    def __init__(self, prompts: PromptCache, *, slots: int) -> None:
        self.keys = [tensor.new_zeros((slots, *tensor.shape[1:])) for tensor in prompts.keys]
        self.values = [tensor.new_zeros((slots, *tensor.shape[1:])) for tensor in prompts.values]
        added_ND = prompts.added_ND
        self.added_BD = None if added_ND is None else added_ND.new_zeros((slots, *added_ND.shape[1:]))

    @property
    def positions(self) -> int:
        """C."""
        return int(self.keys[0].shape[2])

    def reserve(self, positions: int) -> None:
        """Make room for so many positions, and a few more."""
        more = -(-positions // GROWTH) * GROWTH - self.positions
        if more > 0:
            self.keys = [functional.pad(tensor, (0, 0, 0, more)) for tensor in self.keys]
            self.values = [functional.pad(tensor, (0, 0, 0, more)) for tensor in self.values]

    def admit(self, prompts: PromptCache, rows_N: Tensor, slots_N: Tensor) -> None:
        """Put prompts into slots, in front of what their records will write."""
        for cached, prompt in zip((*self.keys, *self.values), (*prompts.keys, *prompts.values), strict=True):
            cached[slots_N, :, : prompt.shape[2]] = prompt[rows_N]
        if self.added_BD is not None and prompts.added_ND is not None:
            self.added_BD[slots_N] = prompts.added_ND[rows_N]

    def keep(self, slots_N: Tensor) -> None:
        """Drop all slots but these."""
        self.keys = [tensor[slots_N] for tensor in self.keys]
        self.values = [tensor[slots_N] for tensor in self.values]
        self.added_BD = None if self.added_BD is None else self.added_BD[slots_N]

    def grow(self, slots: int) -> None:
        """Add so many slots."""
        self.keys = [functional.pad(tensor, (0, 0, 0, 0, 0, 0, 0, slots)) for tensor in self.keys]
        self.values = [functional.pad(tensor, (0, 0, 0, 0, 0, 0, 0, slots)) for tensor in self.values]
        self.added_BD = None if self.added_BD is None else functional.pad(self.added_BD, (0, 0, 0, slots))

    def clear(self, slots_N: Tensor) -> None:
        """Make slots finite again that may hold NaN."""
        for tensor in (*self.keys, *self.values):
            tensor[slots_N] = 0.0
        if self.added_BD is not None:
            self.added_BD[slots_N] = 0.0

    def rows(self, slot_P: Tensor, position_P: Tensor) -> Tensor:
        """Return where `write` puts single tokens, the same in every layer."""
        heads, positions = self.keys[0].shape[1:3]
        head_H = torch.arange(heads, device=slot_P.device)
        return ((slot_P[..., None] * heads + head_H) * positions + position_P[..., None]).flatten()

    def write(self, layer: int, rows: Tensor, keys_PHE: Tensor, values_PHE: Tensor) -> None:
        """Write the keys and values of single tokens: whole rows, which costs a third of writing by three indices."""
        for cached, new in ((self.keys[layer], keys_PHE), (self.values[layer], values_PHE)):
            size = cached.shape[-1]
            cached.view(-1, size).index_copy_(0, rows, new.reshape(-1, size))


def joined(parts: Sequence[PromptCache]) -> PromptCache:
    """Join the caches of prompts that were computed piece by piece."""
    if len(parts) == 1:
        return parts[0]
    return PromptCache(
        keys=[torch.cat(layers) for layers in zip(*(part.keys for part in parts), strict=True)],
        values=[torch.cat(layers) for layers in zip(*(part.values for part in parts), strict=True)],
    )
