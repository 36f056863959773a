"""Slots: how the fields of a record are cut into the units that latents and soft tokens are aligned with.

Shape legend: B records, G grid cells, S slots, C cells per slot, E embedding size, D output size.

A field whose values take up to C tokens has one slot, a longer one (free text) has several, up to `most_per_field`.
Slot s of the latent is encoded from the tokens of that slot and steers one soft token: nothing has to learn which soft
token carries which column.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import Tensor, nn

from difflm.models.number_features import BINS, NumberFeatures
from difflm.records.tokenization import GridLayout

VALUE_TOKENS: Final = 64
SLOTS_PER_VALUE: Final = 8

# Left out of the written configuration where they are the default: artifacts that were made before there was a choice
# keep their names.
ValueTokens = Annotated[
    int,
    Field(
        ge=1,
        exclude_if=lambda tokens: tokens == VALUE_TOKENS,
        description="tokens of one value that encoder and prefix read; values with more are counted and reported",
    ),
]
SlotsPerValue = Annotated[
    int, Field(ge=1, exclude_if=lambda slots: slots == SLOTS_PER_VALUE, description="most slots of one value")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotLayout:
    """Which grid cells belong to which slot."""

    grid: GridLayout
    cells_per_slot: int = 8
    most_per_field: int = SLOTS_PER_VALUE

    def __post_init__(self) -> None:
        if self.cells_per_slot < 1 or self.most_per_field < 1:
            raise ValueError("cells_per_slot and most_per_field must be at least 1")

    @property
    def slots_per_field(self) -> tuple[int, ...]:
        return tuple(min(self.most_per_field, math.ceil(width / self.cells_per_slot)) for width in self.grid.widths)

    @property
    def count(self) -> int:
        return sum(self.slots_per_field)

    @property
    def field_S(self) -> Tensor:
        """The field of every slot."""
        return torch.tensor([field for field, slots in enumerate(self.slots_per_field) for _ in range(slots)])

    def cells_SC(self) -> Tensor:
        """Grid cell of every place of every slot; the value G (one past the last cell) marks an empty place."""
        rows: list[list[int]] = []
        start = 0
        for width, slots in zip(self.grid.widths, self.slots_per_field, strict=True):
            per_slot = math.ceil(width / slots)
            for slot in range(slots):
                first, last = start + slot * per_slot, min(start + (slot + 1) * per_slot, start + width)
                rows.append(list(range(first, last)))
            start += width
        most = max(len(row) for row in rows)
        return torch.tensor([row + [self.grid.size] * (most - len(row)) for row in rows])


class SlotEmbedder(nn.Module):
    """Value tokens to one vector per slot: token embeddings side by side, then a two-layer MLP shared by all slots.

    With `numbers`, the MLP also reads where a number stands among the training values.
    """

    cells_SC: Tensor

    def __init__(
        self,
        layout: SlotLayout,
        *,
        vocabulary_size: int,
        pad_id: int,
        embedding_size: int,
        hidden_size: int,
        size: int,
        numbers: NumberFeatures | None = None,
    ) -> None:
        super().__init__()
        cells_SC = layout.cells_SC()
        self.pad_id = pad_id
        self.register_buffer("cells_SC", cells_SC, persistent=False)
        self.tokens = nn.Embedding(vocabulary_size, embedding_size)
        self.slots = nn.Parameter(torch.randn(layout.count, hidden_size) * 0.5)
        self.inner = nn.Linear(cells_SC.shape[1] * embedding_size, hidden_size)
        self.outer = nn.Linear(hidden_size, size)
        self.numbers = numbers
        self.from_numbers = nn.Linear(BINS, hidden_size, bias=False) if numbers is not None else None

    def forward(self, grid_BG: Tensor) -> Tensor:
        """Vectors of shape (B, S, D) from value token ids of shape (B, G)."""
        padded = nn.functional.pad(grid_BG, (0, 1), value=self.pad_id)
        cells_BSC = padded[:, self.cells_SC]
        embedded = self.tokens(cells_BSC).flatten(2)
        hidden: Tensor = self.inner(embedded) + self.slots
        if self.numbers is not None and self.from_numbers is not None:
            hidden = hidden + self.from_numbers(self.numbers(grid_BG))
        out: Tensor = self.outer(nn.functional.gelu(hidden))
        return out
