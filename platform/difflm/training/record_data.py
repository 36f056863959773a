"""Record data: the prepared splits as token ids, and batches of them addressed by (seed, step, micro, rank).

Shape legend: B batch, T tokens, G grid cells.

Rows grouped by length: batches of records that are about equally long, so that hardly any padding is computed.

Shape legend: N records, B rows of a batch.

A padded batch costs as much as its longest record. Where lengths differ widely (tools, code) random batches are mostly
padding, and the bound on their tokens has to be kept for the longest record of all, so they are small as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from difflm.models.field_slots import SlotLayout
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.protection.smoothing import told_rows
from difflm.records.schema import RecordSchema
from difflm.records.splits import prepared_file
from difflm.records.tokenization import RecordTokenizer, TokenTable
from difflm.seeding import derive_seed, torch_generator


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


Split = Literal["train", "validation", "test"]


def read_split(prepared: Path, split: Split, schema: RecordSchema) -> pa.Table:
    """Return a split fitted into the schema: values that training never saw become the nearest it did see.

    Training rows are those that may be learned: without the values that few of them have, where these are protected.
    """
    return JsonRecordCodec(schema).normalize_table(pq.read_table(prepared_file(prepared, split))).table


def read_told(prepared: Path, schema: RecordSchema, *, most: int, seed: int) -> tuple[pa.Table, int]:
    """Return training rows as they are told to a fit that reads `most`, and how often each of them is among these."""
    return told_rows(read_split(prepared, "train", schema), schema, most=most, seed=derive_seed(seed, "told"))


def tokenize(table: pa.Table, schema: RecordSchema, tokenizer: RecordTokenizer, slots: SlotLayout) -> TokenTable:
    """Token ids of a whole table."""
    return tokenizer.encode(JsonRecordCodec(schema).value_literals(table), slots.grid)


@dataclass(slots=True, kw_only=True)
class RowOrder:
    """Epochs in random order: every row once before any row twice, per micro-batch stream.

    A batch holds no row twice: where there are fewer rows than `batch_size`, they are the batch.
    """

    count: int
    batch_size: int
    seed: int
    _orders: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.batch_size = min(self.batch_size, self.count)

    def steps(self, *, most: int, epochs: float, floor: int) -> int:
        """Optimizer steps: `most`, but no more than `epochs` passes over the rows, and of these at least `floor`.

        Passes of one worker with one micro-batch a step; more of either see the rows that many times as often.
        """
        return min(most, max(floor, math.ceil(epochs * self.count / self.batch_size)))

    def rows(self, step: int, micro: int, rank: int, world_size: int) -> Tensor:
        """Row indices of shape (B,): a pure function of the arguments and the seed."""
        first = (step * world_size + rank) * self.batch_size
        positions = torch.arange(first, first + self.batch_size)
        epochs, places = positions // self.count, positions % self.count
        first_epoch, last_epoch = int(epochs[0]), int(epochs[-1])
        parts = [self._order(epoch, micro)[places[epochs == epoch]] for epoch in range(first_epoch, last_epoch + 1)]
        return torch.cat(parts)

    def _order(self, epoch: int, micro: int) -> Tensor:
        key = (epoch, micro)
        if key not in self._orders:
            if len(self._orders) > 4:
                self._orders.clear()
            generator = torch_generator(self.seed, "order", epoch, micro)
            self._orders[key] = torch.randperm(self.count, generator=generator)
        return self._orders[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBatches:
    """Batches of a tokenized split on a device."""

    ids_NT: Tensor
    lengths_N: Tensor
    grid_NG: Tensor

    @classmethod
    def of(cls, table: TokenTable, device: torch.device | str) -> TokenBatches:
        ids, lengths, grid = (
            torch.from_numpy(array).to(device) for array in (table.ids_NT, table.lengths_N, table.grid_NG)
        )
        return cls(ids_NT=ids, lengths_N=lengths, grid_NG=grid)

    def __len__(self) -> int:
        return int(self.lengths_N.shape[0])

    def rows_per_batch(self, *, most: int, tokens: int) -> int:
        """Rows of a micro-batch: `most`, what `tokens` of the longest record allow, and no more than there are."""
        return min(most, max(1, tokens // int(self.ids_NT.shape[1])), len(self))

    def order(self, *, most: int, tokens: int, group_by_length: bool, seed: int) -> RowOrder | LengthOrder:
        """Return the order of training: micro-batches of at most `most` rows and about `tokens` padded tokens."""
        if group_by_length:
            return LengthOrder(lengths_N=self.lengths_N.cpu(), most=most, tokens=tokens, seed=seed)
        return RowOrder(count=len(self), batch_size=self.rows_per_batch(most=most, tokens=tokens), seed=seed)

    def at(self, rows_B: Tensor) -> dict[str, Tensor]:
        """`ids_BT` cut to the longest of the batch, `lengths_B` and `grid_BG`."""
        rows_B = rows_B.to(self.lengths_N.device)
        lengths_B = self.lengths_N[rows_B]
        return {
            "ids_BT": self.ids_NT[rows_B, : int(lengths_B.max())],
            "lengths_B": lengths_B,
            "grid_BG": self.grid_NG[rows_B],
        }

    def share(
        self, rank: int, world_size: int, *, batch_size: int, most: int
    ) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Yield this rank's rows among the first `most`, in order, as (number of rows, batch)."""
        rows = torch.arange(rank, min(len(self), most), world_size)
        for part in rows.split(batch_size):  # type: ignore[no-untyped-call]
            if len(part):
                yield len(part), self.at(part)
