"""Columns without their rare values: each rare cell takes the value of another row, or one that enough rows share.

A protected column is the old one with, for every row, the row that it takes its cell from, and a few cells of its own
behind. So any Arrow type is kept as it is. Shapes: N rows, V distinct values of a column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from difflm.records.kinds.columns import as_text
from difflm.records.large.encoded import is_encoded, joined, mapped, parts, places, value_type

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(slots=True, kw_only=True)
class Cells:
    """The cells of a column by their texts: `code_N` is the place among the distinct `texts`, -1 where missing, and
    `counts_V` the rows per distinct value.
    """

    name: str
    column: pa.ChunkedArray
    texts: list[str]
    code_N: IntArray
    counts_V: IntArray
    donor_N: IntArray
    extra: list[Any] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, column: pa.ChunkedArray) -> Cells:
        """Read a column."""
        if is_encoded(column):
            code_N, values = places(column)
            texts = as_text(pa.chunked_array([values])).to_pylist()
        else:
            encoded = as_text(column).combine_chunks().dictionary_encode()
            if isinstance(encoded, pa.ChunkedArray):
                encoded = encoded.combine_chunks()
            code_N = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
            texts = encoded.dictionary.to_pylist()
        counts_V = np.bincount(code_N[code_N >= 0], minlength=len(texts))
        donor_N = np.arange(len(column))
        return cls(name=name, column=column, texts=texts, code_N=code_N, counts_V=counts_V, donor_N=donor_N)

    @property
    def type(self) -> pa.DataType:
        """The Arrow type of a cell."""
        return value_type(self.column)

    @property
    def changed_N(self) -> BoolArray:
        """Rows that take their cell from elsewhere."""
        changed_N: BoolArray = self.donor_N != np.arange(len(self.donor_N))
        return changed_N

    def rows_of(self, value_V: BoolArray) -> BoolArray:
        """Mark the rows whose value is one of those marked."""
        marked_N: BoolArray = np.append(value_V, False)[self.code_N]
        return marked_N

    def give(self, rows_N: BoolArray, value: Any) -> None:
        """Give all marked rows one cell: a value of the column, or a new one, in the column's type.

        Raises:
            pa.ArrowInvalid, pa.ArrowTypeError, TypeError: the column's type cannot hold it.
        """
        pa.array([value], self.type)
        self.donor_N[rows_N] = len(self.column) + len(self.extra)
        self.extra.append(value)

    def copy(self, rows_N: BoolArray, value: int) -> None:
        """Give all marked rows the cell of the first row with a distinct value; those that have it keep their own."""
        self.donor_N[rows_N & (self.code_N != value)] = int(np.argmax(self.code_N == value))

    def respell(self, spelled: Mapping[int, str]) -> None:
        """Give every row of some distinct values, by their places, a new text."""
        place_V = np.full(len(self.texts) + 1, -1)
        place_V[list(spelled)] = len(self.column) + len(self.extra) + np.arange(len(spelled))
        self.donor_N = np.where(place_V[self.code_N] >= 0, place_V[self.code_N], self.donor_N)
        self.extra += spelled.values()

    def draw(self, rows_N: BoolArray, alike_N: IntArray | None, random: np.random.Generator) -> None:
        """Draw the cells of marked rows from those of unmarked ones that have a value: from rows that are alike, of the
        same number in `alike_N`, where there are some.
        """
        source_N = ~rows_N & (self.code_N >= 0)
        sources = np.flatnonzero(source_N)
        wanted = np.flatnonzero(rows_N)
        self.donor_N[wanted] = random.choice(sources, size=len(wanted))
        if alike_N is None:
            return
        order = sources[np.argsort(alike_N[sources], kind="stable")]
        first = np.searchsorted(alike_N[order], alike_N[wanted], side="left")
        last = np.searchsorted(alike_N[order], alike_N[wanted], side="right")
        some = last > first
        places = first[some] + (random.random(int(some.sum())) * (last - first)[some]).astype(np.int64)
        self.donor_N[wanted[some]] = order[places]

    def protected(self) -> pa.ChunkedArray:
        """Return the column with every cell taken from where it now comes from."""
        if not self.changed_N.any():
            return self.column
        if is_encoded(self.column):
            place_N, values = parts(self.column)
            extra = pa.array(self.extra, values.type)
            given_N = np.concatenate([place_N, len(values) + np.arange(len(extra), dtype=np.int32)])
            return mapped(joined(given_N[self.donor_N], values := pa.concat_arrays([values, extra])), values)
        whole = self.column.combine_chunks()
        if isinstance(whole, pa.ChunkedArray):
            whole = pa.concat_arrays(whole.chunks)
        cells = pa.concat_arrays([whole, pa.array(self.extra, whole.type)]) if self.extra else whole
        return pa.chunked_array([cells.take(pa.array(self.donor_N))])
