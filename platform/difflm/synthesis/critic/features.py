"""What a critic sees of a row: a number for each column, and what pairs of these are apart.

Trees of few splits see a ridge where one number is half of another, or a date some days behind another, only by way of
the ratio or the difference; deeper trees find it by themselves, and with it each single training row.

Shape legend: N rows, F fields, P pairs, B bins.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from difflm.records.kinds.codes import column_codes, value_code
from difflm.records.schema import CategoricalField, Record, RecordSchema, Value

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
LARGEST: Final = 2**100
"""Numbers beyond, of columns such as 1e200, are all the same to trees."""
LEAST_VALUES: Final = 16
"""A column with fewer different values has no pairs."""
MOST_PAIRED: Final = 64
"""So many columns at most have pairs: those with the most different values."""
PAIR_BINS: Final = 64


class RowNumbers:
    """Records and tables as numbers, the same of both: a column each, NaN where a value is missing."""

    def __init__(self, schema: RecordSchema) -> None:
        self._fields = schema.fields
        self._places: list[dict[str, int] | None] = [
            {value: place for place, value in enumerate(field.values)} if isinstance(field, CategoricalField) else None
            for field in schema.fields
        ]

    @property
    def ordered(self) -> list[int]:
        """Places of the fields whose numbers may be subtracted."""
        return [place for place, places in enumerate(self._places) if places is None]

    def of_record(self, record: Record) -> Floats:
        """Return a record's numbers, (F,)."""
        pairs = zip(self._fields, self._places, strict=True)
        return np.array([self._number(field, places, record[field.name]) for field, places in pairs], dtype=np.float32)

    @staticmethod
    def _number(field: Any, places: dict[str, int] | None, value: Value) -> float:
        if value is None:
            return math.nan
        return _within(value_code(field, value) if places is None else places[str(value)])

    def of_table(self, table: pa.Table) -> Floats:
        """Return the numbers of normalised rows, (N, F)."""
        columns = [
            np.array([_within(code) for code in column_codes(field, table.column(field.name))])
            for field in self._fields
        ]
        return np.stack(columns, axis=1).astype(np.float32)


def _within(code: int | None) -> float:
    """Return a code as a number that float32 holds, NaN for none."""
    return math.nan if code is None else float(max(-LARGEST, min(LARGEST, code)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Differences and ratios of columns, NaN where one is missing and for ratios to nothing."""

    first_P: Integers
    second_P: Integers
    ratio_P: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, pairs: Sequence[tuple[int, int, bool]]) -> Pairs:
        """Return pairs of columns, each with whether it is a ratio."""
        first, second, ratio = zip(*pairs, strict=True) if pairs else ((), (), ())
        return cls(
            first_P=np.array(first, dtype=np.int64),
            second_P=np.array(second, dtype=np.int64),
            ratio_P=np.array(ratio, dtype=bool),
        )

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor], *, fields: int) -> Pairs:
        """Take back what `tensors` returned. ValueError for what no pairs of these fields are."""
        pairs_P3 = tensors["pairs"]
        if pairs_P3.dtype != torch.int64 or pairs_P3.dim() != 2 or pairs_P3.shape[1] != 3:
            raise ValueError("pairs of another form")
        if bool((pairs_P3 < 0).any()) or bool((pairs_P3[:, :2] >= fields).any()) or bool((pairs_P3[:, 2] > 1).any()):
            raise ValueError("pairs out of bounds")
        first_P, second_P, ratio_P = pairs_P3.numpy().T
        return cls(first_P=first_P.copy(), second_P=second_P.copy(), ratio_P=ratio_P.astype(bool))

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it by name."""
        columns = [self.first_P, self.second_P, self.ratio_P.astype(np.int64)]
        return {"pairs": torch.from_numpy(np.ascontiguousarray(np.stack(columns, axis=1)))}

    def __call__(self, rows_F: Floats) -> Floats:
        """Return the numbers of rows, (..., F), with those of the pairs behind them, (..., F + P)."""
        if len(self.first_P) == 0:
            return rows_F
        first, second = rows_F[..., self.first_P], rows_F[..., self.second_P]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = np.where(second != 0, first / second, np.float32(np.nan))
            found = np.where(self.ratio_P, ratio, first - second)
        return np.concatenate([rows_F, found], axis=-1).astype(np.float32, copy=False)

    def __len__(self) -> int:
        return len(self.first_P)


def find_pairs(real_NF: Floats, made_NF: Floats, ordered: Sequence[int], most: int) -> Pairs:
    """Return the differences and ratios whose distributions differ the most between real rows and draws.

    `ordered` are the columns to look at.
    """
    values = {place: len(np.unique(made_NF[:, place])) for place in ordered}
    paired = sorted(sorted(ordered, key=lambda place: -values[place])[:MOST_PAIRED])
    paired = [place for place in paired if values[place] >= LEAST_VALUES]
    told: list[tuple[float, tuple[int, int, bool]]] = []
    for first, second in itertools.combinations(paired, 2):
        for ratio in (False, True):
            pair = Pairs.of([(first, second, ratio)])
            made_N, real_N = pair(made_NF)[:, -1], pair(real_NF)[:, -1]
            told.append((_apart(real_N, made_N), (first, second, ratio)))
    told.sort(key=lambda pair: -pair[0])
    return Pairs.of([pair for _, pair in told[:most]])


def _apart(real_N: Floats, made_N: Floats) -> float:
    """Return the total variation between two distributions over bins of the second."""
    edges = edges_of(made_N, PAIR_BINS)
    real_B, made_B = (
        np.bincount(bins_of(each_N, edges), minlength=len(edges) + 2) / len(each_N) for each_N in (real_N, made_N)
    )
    return float(np.abs(real_B - made_B).sum()) / 2


def edges_of(made_N: Floats, bins: int) -> Floats:
    """Return the edges of at most `bins` bins of draws with about as many in each, in order.

    Edges are numbers of draws and of no training row: who has a bundle may draw as many as she likes.
    """
    there_N = made_N[np.isfinite(made_N)]
    if len(there_N) == 0:
        return np.empty(0, dtype=np.float32)
    quantiles = np.quantile(there_N, np.arange(1, bins) / bins, method="higher").astype(np.float32)
    return np.unique(quantiles[quantiles > there_N.min()])


def bins_of(row_N: Floats, edges: Floats) -> Integers:
    """Return each row's bin; that of missing numbers is the last."""
    return np.where(np.isnan(row_N), len(edges) + 1, np.searchsorted(edges, row_N, side="right"))
