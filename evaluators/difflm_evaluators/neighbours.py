"""Nearest neighbours between mixed rows: L1 over min-max scaled numbers and one-hot categories (paper, Eq. 15).

Distances: a number contributes |x - y| after scaling the real training range to [0, 1]; a category contributes 0 when
equal and 2 when not, which is what one-hot vectors give. Missing is a category of its own; a missing number is at
distance 1 from every number in the training range, as far as two of those can be, and at 0 from another missing one.
Free text takes no part.

Embedding (exact, and half as wide as one-hot): category 2j becomes +e_j and category 2j + 1 becomes -e_j; any two
different ones of these are at L1 distance 2. A number x of a column with missing values becomes (x / 2, (1 - x) / 2)
and a missing one (-1/4, -1/4). Shapes: N rows, C categorical columns, D embedded dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from difflm_evaluators.columns import Columns, IntArray, category_codes

Float32Array = npt.NDArray[np.float32]

BLOCK_FLOATS = 2**24  # 64 MiB for one embedded block of rows
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
        """The rows at these positions."""
        return MixedRows(numbers=self.numbers[rows], codes_NC=self.codes_NC[rows], sizes=self.sizes)

    def embed(self, start: int, stop: int) -> Float32Array:
        """Rows start..stop as (rows, D) float32 vectors whose L1 distances are the module's."""
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


def mixed_rows(train: Columns, others: Sequence[Columns]) -> list[MixedRows]:
    """Rows of `train` and of the other tables on one scale, that of the training range; free text is left out."""
    tables = [train, *others]
    numeric = [name for name, column in train.items() if column.kind == "numeric"]
    category = [name for name, column in train.items() if column.kind == "category"]
    numbers = [
        np.concatenate(parts, axis=1) for parts in zip(*(_numbers(tables, name) for name in numeric), strict=True)
    ]
    if not numeric:
        numbers = [np.zeros((_rows(table), 0), dtype=np.float32) for table in tables]
    coded = [category_codes(*(table[name] for table in tables)) for name in category]
    sizes = tuple(len(labels) for labels, _ in coded)
    result = []
    for position, table in enumerate(tables):
        codes = [codes[position] for _, codes in coded]
        codes_NC = np.stack(codes, axis=1) if codes else np.zeros((_rows(table), 0), dtype=np.int64)
        result.append(MixedRows(numbers=numbers[position], codes_NC=codes_NC, sizes=sizes))
    return result


def _rows(table: Columns) -> int:
    column = next(iter(table.values()))
    return max(len(column.labels_N), len(column.numbers_N))


def _numbers(tables: Sequence[Columns], name: str) -> list[Float32Array]:
    """One numeric column of every table, scaled; (N, 1) where nothing is missing in any table, else (N, 2)."""
    present = tables[0][name].present
    low, high = (present.min(), present.max()) if len(present) else (0.0, 1.0)
    with np.errstate(over="ignore"):  # what overflows is cut at OUTERMOST
        shrink = 1.0 if np.isfinite(high - low) else 0.25
        span = high * shrink - low * shrink
        shifted = [table[name].numbers_N * shrink - low * shrink for table in tables]
        scaled = [np.clip(values / (span if span > 0 else 1.0), -OUTERMOST, OUTERMOST) for values in shifted]
    if not any(np.isnan(values).any() for values in scaled):
        return [values[:, None].astype(np.float32) for values in scaled]
    pairs = [np.stack([values / 2, (1 - values) / 2], axis=1) for values in scaled]
    return [np.nan_to_num(pair, nan=-0.25).astype(np.float32) for pair in pairs]


def nearest(queries: MixedRows, reference: MixedRows, neighbours: int, *, threads: int) -> Float32Array:
    """Distances of each query to its nearest reference rows, ascending: (N, min(neighbours, reference rows)) float32.

    Memory is bounded whatever the tables' sizes: both sides are embedded in blocks of at most 64 MiB.
    """
    import faiss  # slow to import

    faiss.omp_set_num_threads(threads)
    block = max(1, BLOCK_FLOATS // max(1, queries.width))
    best = np.full((len(queries), 0), np.inf, dtype=np.float32)
    for start in range(0, len(reference), block):
        index = faiss.IndexFlat(max(1, reference.width), faiss.METRIC_L1)
        index.add(reference.embed(start, start + block))
        found = [
            index.search(queries.embed(first, first + block), min(neighbours, index.ntotal))[0]
            for first in range(0, len(queries), block)
        ]
        best = np.sort(np.concatenate([best, np.concatenate(found)], axis=1), axis=1)[:, :neighbours]
    return best
