"""Field slots: the units of a record that latents and soft tokens are for, and where their numbers stand.

Slots: how the fields of a record are cut into the units that latents and soft tokens are aligned with.

Shape legend: B records, G grid cells, S slots, C cells per slot, E embedding size, D output size.

A field whose values take up to C tokens has one slot, a longer one (free text) has several, up to `most_per_field`.
Slot s of the latent is encoded from the tokens of that slot and steers one soft token: nothing has to learn which soft
token carries which column.

Number features: where the value that a field's digits spell stands among the training values.

Shape legend: B records, G grid cells, F fields, S slots, K bins, V vocabulary.

Tokens alone give the encoder no reason to put 39 and 40 next to each other, and a latent space in which neighbours are
not neighbours is hard for a prior to learn. So each slot of a number (or date) also gets the piecewise linear encoding
of its value over quantile bins of the training split (Gorishniy et al. 2022, arXiv 2203.05556, section 3.2.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import Tensor, nn

from difflm.records.protection.rounding import rounded_edges
from difflm.records.tokenization import GridLayout, RecordTokenizer

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
    max_per_field: int = SLOTS_PER_VALUE

    def __post_init__(self) -> None:
        if self.cells_per_slot < 1 or self.max_per_field < 1:
            raise ValueError("cells_per_slot and max_per_field must be at least 1")

    @property
    def slots_per_field(self) -> tuple[int, ...]:
        return tuple(min(self.max_per_field, math.ceil(width / self.cells_per_slot)) for width in self.grid.widths)

    @property
    def count(self) -> int:
        return sum(self.slots_per_field)

    @property
    def field_S(self) -> Tensor:
        """The field of every slot."""
        return torch.tensor([field for field, slots in enumerate(self.slots_per_field) for _ in range(slots)])

    def cells_SC(self) -> Tensor:
        """Return the grid cell of every place of every slot; G (one past the last cell) marks an empty place."""
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
        """Return vectors of shape (B, S, D) from value token ids of shape (B, G)."""
        padded = nn.functional.pad(grid_BG, (0, 1), value=self.pad_id)
        cells_BSC = padded[:, self.cells_SC]
        embedded = self.tokens(cells_BSC).flatten(2)
        hidden: Tensor = self.inner(embedded) + self.slots
        if self.numbers is not None and self.from_numbers is not None:
            hidden = hidden + self.from_numbers(self.numbers(grid_BG))
        out: Tensor = self.outer(nn.functional.gelu(hidden))
        return out


BINS = 32
ROWS_PER_BIN = 10
Knots = tuple[tuple[float, ...], ...]
"""Per field, increasing bin edges in spelled units; empty for a field that is no number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitTokens:
    """What tokens count in numbers: the whole number that a token's digits spell (`value_V`, -1: none), and ten to the
    power of how many they are (`base_V`), both float64; the token of the minus sign.
    """

    value_V: Tensor
    base_V: Tensor
    minus_id: int

    @classmethod
    def of(cls, tokenizer: RecordTokenizer) -> DigitTokens:
        pieces = tokenizer.pieces
        value_V = torch.full((len(tokenizer.tokenizer),), -1.0, dtype=torch.float64)
        base_V = torch.ones_like(value_V)
        digits = {pieces.characters(str(digit))[0] for digit in range(10)} | set(pieces.numbers.values())
        for token in digits:
            spelled = pieces.bytes_V[token].removeprefix(b".")
            value_V[token], base_V[token] = int(spelled), 10.0 ** len(spelled)
        return cls(value_V=value_V, base_V=base_V, minus_id=pieces.characters("-")[0])

    def to(self, device: torch.device) -> DigitTokens:
        """Copy the tables to a device."""
        return DigitTokens(value_V=self.value_V.to(device), base_V=self.base_V.to(device), minus_id=self.minus_id)


def spelled_values(grid_NG: Tensor, layout: GridLayout, digits: DigitTokens) -> Tensor:
    """Return the whole number that a field's digits spell, with its sign, passing over other tokens: (N, F), float64.

    Places after the point are a constant factor within a field and ISO dates are in order: what matters is kept.
    """
    values = []
    for cells_NW in torch.split(grid_NG, list(layout.widths), dim=1):
        value_N = torch.zeros(len(grid_NG), dtype=torch.float64, device=grid_NG.device)
        for token_N in cells_NW.unbind(dim=1):
            digit_N = digits.value_V[token_N]
            value_N = torch.where(digit_N >= 0, value_N * digits.base_V[token_N] + digit_N, value_N)
        # Only in front is it a sign: dates and exponents have others behind.
        values.append(torch.where(cells_NW[:, 0] == digits.minus_id, -value_N, value_N))
    return torch.stack(values, dim=1)


def fit_knots(values_NF: Tensor, numeric: Sequence[bool]) -> Knots:
    """Compute the distinct quantiles of each numeric field's spelled values.

    They go into the bundle, so a bin spans at least ROWS_PER_BIN training rows, and its edges are rounded to less than
    its width: they say little about single rows.
    """
    bins = min(BINS, max(1, len(values_NF) // ROWS_PER_BIN))
    ranks = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    rows = values_NF[: 10**6]
    return tuple(
        rounded_edges(torch.unique(torch.quantile(rows[:, f], ranks)).tolist()) if wanted else ()
        for f, wanted in enumerate(numeric)
    )


class NumberFeatures(nn.Module):
    """The encoding, per slot; zeros for slots of fields that are no numbers.

    Its tables are float64 and no buffers: converting a model to bfloat16 must not round them.
    """

    def __init__(self, knots: Knots, layout: GridLayout, field_S: Tensor, *, digits: DigitTokens) -> None:
        super().__init__()
        self.layout, self.digits = layout, digits
        low_FK = torch.zeros(len(knots), BINS, dtype=torch.float64)
        width_FK, used_FK = torch.ones_like(low_FK), torch.zeros_like(low_FK)
        for field, edges in enumerate(knots):
            steps = torch.tensor(edges, dtype=torch.float64)
            count = max(0, len(edges) - 1)
            low_FK[field, :count], width_FK[field, :count], used_FK[field, :count] = steps[:-1], steps.diff(), 1.0
        self.tables = (low_FK, width_FK, used_FK, field_S)

    def forward(self, grid_BG: Tensor) -> Tensor:
        """Return features of shape (B, S, K), each in [-1, 1]."""
        low_FK, width_FK, used_FK, field_S = (table.to(grid_BG.device) for table in self.tables)
        values_BF = spelled_values(grid_BG, self.layout, self.digits.to(grid_BG.device))
        filled_BFK = ((values_BF[..., None] - low_FK) / width_FK).clamp(0, 1)
        return ((2 * filled_BFK - 1) * used_FK)[:, field_S].float()
