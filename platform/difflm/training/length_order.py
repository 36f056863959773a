"""Rows grouped by length: batches of records that are about equally long, so that hardly any padding is computed.

Shape legend: N records, B rows of a batch.

A padded batch costs as much as its longest record. Where lengths differ widely (tools, code) random batches are mostly
padding, and the bound on their tokens has to be kept for the longest record of all, so they are small as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from difflm.seeding import torch_generator


@dataclass(slots=True, kw_only=True)
class LengthOrder:
    """Epochs of batches in random order: every row once before any row twice, per micro-batch stream.

    A batch has at most `most` rows and `tokens` tokens, padding included, but at least one row. Sorted lengths are the
    same in every epoch, and so are the borders of batches; which of the equally long rows are in which batch is drawn.
    """

    lengths_N: Tensor
    most: int
    tokens: int
    seed: int
    _borders: list[tuple[int, int]] = field(init=False)
    _orders: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._borders = _borders(sorted(self.lengths_N.tolist()), self.most, self.tokens)

    @property
    def batch_size(self) -> int:
        """Rows of a batch that fit whatever their lengths."""
        return min(self.most, max(1, self.tokens // int(self.lengths_N.max())), len(self.lengths_N))

    def steps(self, *, most: int, epochs: float, floor: int) -> int:
        """Optimizer steps: `most`, but no more than `epochs` passes over the rows, and of these at least `floor`."""
        return min(most, max(floor, math.ceil(epochs * len(self._borders))))

    def rows(self, step: int, micro: int, rank: int, world_size: int) -> Tensor:
        """Row indices of shape (B,): a pure function of the arguments and the seed."""
        epoch, place = divmod(step * world_size + rank, len(self._borders))
        rows_N, batches = self._order(epoch, micro)
        first, end = self._borders[int(batches[place])]
        return rows_N[first:end]

    def _order(self, epoch: int, micro: int) -> tuple[Tensor, Tensor]:
        """All rows from short to long, equally long ones shuffled, and the order of the batches."""
        key = (epoch, micro)
        if key not in self._orders:
            if len(self._orders) > 4:
                self._orders.clear()
            generator = torch_generator(self.seed, "order", epoch, micro)
            shuffled_N = torch.randperm(len(self.lengths_N), generator=generator)
            by_length_N = shuffled_N[torch.argsort(self.lengths_N[shuffled_N], stable=True)]
            self._orders[key] = by_length_N, torch.randperm(len(self._borders), generator=generator)
        return self._orders[key]


def _borders(lengths: list[int], most: int, tokens: int) -> list[tuple[int, int]]:
    """First row and the one behind the last of every batch, of rows sorted from short to long."""
    borders, first = list[tuple[int, int]](), 0
    for row, length in enumerate(lengths):
        count = row - first + 1
        if row > first and (count > most or count * length > tokens):
            borders.append((first, row))
            first = row
    return [*borders, (first, len(lengths))]
