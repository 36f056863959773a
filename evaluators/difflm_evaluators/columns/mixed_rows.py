"""Mixed rows and the distance between them: L1 over min-max scaled numbers and one-hot categories (paper, Eq. 15).

Distances: a number contributes |x - y| after scaling the real training range to [0, 1]; a category contributes 0 when
equal and 2 when not, which is what one-hot vectors give. Missing is a category of its own; a missing number is at
distance 1 from every number in the training range, as far as two of those can be, and at 0 from another missing one.
Free text takes no part.

Embedding (exact, and half as wide as one-hot): category 2j becomes +e_j and category 2j + 1 becomes -e_j; any two
different ones of these are at L1 distance 2. A number x of a column with missing values becomes (x / 2, (1 - x) / 2)
and a missing one (-1/4, -1/4). Shapes: N rows, C categorical columns, D embedded dimensions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from difflm_evaluators.columns.columns import Column, Columns, FloatArray, IntArray, category_codes
from difflm_evaluators.columns.labels import Labels

Float32Array = npt.NDArray[np.float32]

OUTERMOST = 1e3  # scaled numbers are cut at this many training ranges, far beyond any nearest neighbour


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedRows:
    """Rows ready to embed: scaled numbers, already in their final dimensions, and category codes with their counts."""

    numbers: Float32Array
    codes_NC: IntArray
    sizes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.codes_NC)

    @property
    def width(self) -> int:
        """Dimensions after embedding."""
        return int(self.numbers.shape[1]) + sum((size + 1) // 2 for size in self.sizes)

    def take(self, rows: IntArray) -> "MixedRows":
        """Select the rows at these positions."""
        return MixedRows(numbers=self.numbers[rows], codes_NC=self.codes_NC[rows], sizes=self.sizes)

    def embed(self, start: int, stop: int) -> Float32Array:
        """Return the rows start..stop as (rows, D) float32 vectors whose L1 distances are the module's."""
        codes_NC = self.codes_NC[start:stop]
        block_ND = np.zeros((len(codes_NC), self.width), dtype=np.float32)
        offset = self.numbers.shape[1]
        block_ND[:, :offset] = self.numbers[start:stop]
        rows_N = np.arange(len(codes_NC))
        for column, size in enumerate(self.sizes):
            code_N = codes_NC[:, column]
            block_ND[rows_N, offset + code_N // 2] = 1 - 2 * (code_N % 2)
            offset += (size + 1) // 2
        return block_ND


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberScale:
    """How one numeric column is scaled to the training range, and whether missing values have a place in it."""

    low: float
    span: float
    shrink: float
    holds_missing: bool

    def scaled(self, column: Column) -> FloatArray:
        """Return (N,) numbers with the training range at [0, 1], NaN where missing."""
        with np.errstate(over="ignore"):  # what overflows is cut at OUTERMOST
            shifted_N = column.numbers_N * self.shrink - self.low * self.shrink
            return np.clip(shifted_N / (self.span if self.span > 0 else 1.0), -OUTERMOST, OUTERMOST)

    def embedded(self, column: Column) -> Float32Array:
        """Return (N, 1) numbers, or (N, 2) where missing values have a place."""
        scaled_N = self.scaled(column)
        if not self.holds_missing:
            return scaled_N[:, None].astype(np.float32)
        pair_N2 = np.stack([scaled_N / 2, (1 - scaled_N) / 2], axis=1)
        return np.nan_to_num(pair_N2, nan=-0.25).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedSpace:
    """One scale for the rows of several tables, that of the training range; free text is left out.

    The categories of all the reference tables have codes of their own; any other is "unknown", which is different from
    each of them.
    """

    scales: Mapping[str, NumberScale]
    codes: Mapping[str, Mapping[str | None, int]]

    @classmethod
    def fit(cls, train: Columns, references: Sequence[Columns], *, missing: bool) -> "MixedSpace":
        """Ranges of `train`, categories of `references`; places for missing numbers where some are, or if `missing`."""
        numeric = [name for name, column in train.items() if column.kind == "numeric"]
        category = [name for name, column in train.items() if column.kind == "category"]
        return cls(
            scales={
                name: _scale(train[name], missing or any(table[name].missing_N.any() for table in references))
                for name in numeric
            },
            codes={name: _numbering([table[name] for table in references]) for name in category},
        )

    def rows(self, table: Columns) -> MixedRows:
        """Scale the rows of `table`; where a column of it lacks numbers, its scale must have a place for that."""
        count = len(next(iter(table.values())))
        numbers = [scale.embedded(table[name]) for name, scale in self.scales.items()]
        codes = [
            Labels.of(table[name].labels_N).lookup(lambda text, known=known: known.get(text, len(known)))  # type: ignore[misc]
            for name, known in self.codes.items()
        ]
        return MixedRows(
            numbers=np.concatenate(numbers, axis=1) if numbers else np.zeros((count, 0), dtype=np.float32),
            codes_NC=np.stack(codes, axis=1) if codes else np.zeros((count, 0), dtype=np.int64),
            sizes=tuple(len(known) + 1 for known in self.codes.values()),
        )

    def unforeseen_N(self, table: Columns) -> npt.NDArray[np.bool_]:
        """Mark, (N,), the rows of `table` that lack a number where no place is foreseen for that."""
        rows_N = np.zeros(len(next(iter(table.values()))), dtype=bool)
        for name, scale in self.scales.items():
            if not scale.holds_missing:
                rows_N |= table[name].missing_N
        return rows_N


def _scale(train: Column, holds_missing: bool) -> NumberScale:
    present = train.present
    low, high = (float(present.min()), float(present.max())) if len(present) else (0.0, 1.0)
    with np.errstate(over="ignore"):
        shrink = 1.0 if np.isfinite(np.float64(high) - np.float64(low)) else 0.25
    return NumberScale(low=low, span=high * shrink - low * shrink, shrink=shrink, holds_missing=holds_missing)


def _numbering(columns: Sequence[Column]) -> dict[str | None, int]:
    labels, _ = category_codes(*columns)
    return {label: code for code, label in enumerate(labels)}


def mixed_rows(train: Columns, others: Sequence[Columns]) -> list[MixedRows]:
    """Put the rows of `train` and of the other tables on one scale, the training range's; free text is left out."""
    tables = [train, *others]
    space = MixedSpace.fit(train, tables, missing=False)
    return [space.rows(table) for table in tables]
