"""Number features: where the value that a field's digits spell stands among the training values.

Shape legend: B records, G grid cells, F fields, S slots, K bins, V vocabulary.

Tokens alone give the encoder no reason to put 39 and 40 next to each other, and a latent space in which neighbours are
not neighbours is hard for a prior to learn. So each slot of a number (or date) also gets the piecewise linear encoding
of its value over quantile bins of the training split (Gorishniy et al. 2022, arXiv 2203.05556, section 3.2.1).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from difflm.records.tokenization import GridLayout, RecordTokenizer

BINS = 32
ROWS_PER_BIN = 10
Knots = tuple[tuple[float, ...], ...]
"""Per field, increasing bin edges in spelled units; empty for a field that is no number."""


def number_tokens(tokenizer: RecordTokenizer) -> tuple[Tensor, int]:
    """What each token counts as a digit (-1: none), shape (V,), and the token of the minus sign."""
    digit_V = torch.full((len(tokenizer.tokenizer),), -1.0, dtype=torch.float64)
    for digit in range(10):
        digit_V[tokenizer.pieces.characters(str(digit))[0]] = digit
    return digit_V, tokenizer.pieces.characters("-")[0]


def spelled_values(grid_NG: Tensor, layout: GridLayout, digit_V: Tensor, minus_id: int) -> Tensor:
    """The whole number that a field's digits spell, its sign kept and other tokens passed over: (N, F), float64.

    Places after the point are a constant factor within a field and ISO dates are in order: what matters is kept.
    """
    values = []
    for cells_NW in torch.split(grid_NG, list(layout.widths), dim=1):
        value_N = torch.zeros(len(grid_NG), dtype=torch.float64, device=grid_NG.device)
        for token_N in cells_NW.unbind(dim=1):
            digit_N = digit_V[token_N]
            value_N = torch.where(digit_N >= 0, value_N * 10 + digit_N, value_N)
        # Only in front is it a sign: dates and exponents have others behind.
        values.append(torch.where(cells_NW[:, 0] == minus_id, -value_N, value_N))
    return torch.stack(values, dim=1)


def fit_knots(values_NF: Tensor, numeric: Sequence[bool]) -> Knots:
    """Distinct quantiles of each numeric field's spelled values.

    They go into the bundle, so a bin spans at least ROWS_PER_BIN training rows: edges say little about single rows.
    """
    bins = min(BINS, max(1, len(values_NF) // ROWS_PER_BIN))
    ranks = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    rows = values_NF[: 10**6]
    return tuple(
        tuple(torch.unique(torch.quantile(rows[:, f], ranks)).tolist()) if wanted else ()
        for f, wanted in enumerate(numeric)
    )


class NumberFeatures(nn.Module):
    """The encoding, per slot; zeros for slots of fields that are no numbers.

    Its tables are float64 and no buffers: converting a model to bfloat16 must not round them.
    """

    def __init__(self, knots: Knots, layout: GridLayout, field_S: Tensor, *, digit_V: Tensor, minus_id: int) -> None:
        super().__init__()
        self.layout, self.minus_id = layout, minus_id
        low_FK = torch.zeros(len(knots), BINS, dtype=torch.float64)
        width_FK, used_FK = torch.ones_like(low_FK), torch.zeros_like(low_FK)
        for field, edges in enumerate(knots):
            steps = torch.tensor(edges, dtype=torch.float64)
            count = max(0, len(edges) - 1)
            low_FK[field, :count], width_FK[field, :count], used_FK[field, :count] = steps[:-1], steps.diff(), 1.0
        self.tables = (digit_V, low_FK, width_FK, used_FK, field_S)

    def forward(self, grid_BG: Tensor) -> Tensor:
        """Features of shape (B, S, K), each in [-1, 1]."""
        digit_V, low_FK, width_FK, used_FK, field_S = (table.to(grid_BG.device) for table in self.tables)
        values_BF = spelled_values(grid_BG, self.layout, digit_V, self.minus_id)
        filled_BFK = ((values_BF[..., None] - low_FK) / width_FK).clamp(0, 1)
        return ((2 * filled_BFK - 1) * used_FK)[:, field_S].float()
