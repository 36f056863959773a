"""The distinct values of a column, as text with their counts: what inference looks at."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from difflm.errors import DataError
from difflm.records.kinds.columns import as_text
from difflm.records.large.encoded import decoded, is_encoded, places, value_type
from difflm.records.notices import Notice, NoticeCode, Reporter


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column as text: its distinct values with their counts, and how many rows have none."""

    name: str
    source: pa.DataType
    rows: int
    missing: int
    distinct: pa.Array
    counts: pa.Array
    cells: pa.ChunkedArray

    @classmethod
    def of(cls, name: str, column: pa.ChunkedArray) -> Self:
        """Count the distinct values of a column that has at least one."""
        distinct, counts = _counted(column)
        return cls(
            name=name,
            source=value_type(column),
            rows=len(column),
            missing=len(column) - pc.sum(counts).as_py(),
            distinct=distinct,
            counts=counts,
            cells=column,
        )

    @property
    def texts(self) -> pa.ChunkedArray:
        """The texts of all rows."""
        return as_text(decoded(self.cells))

    @property
    def is_typed(self) -> bool:
        """Whether the source says what the column is, so that no spelling is to be kept."""
        return not pa.types.is_string(self.source) and not pa.types.is_decimal(self.source)

    @property
    def is_unique(self) -> bool:
        """Whether every row has a value of its own."""
        return not self.missing and len(self.distinct) == self.rows

    def without(self, gone: pa.Array) -> Self:
        """Return the column with the distinct values under the mask `gone` counted as missing."""
        lost = pc.sum(self.counts.filter(gone)).as_py()
        kept = pc.invert(gone)
        return replace(
            self,
            missing=self.missing + lost,
            distinct=self.distinct.filter(kept),
            counts=self.counts.filter(kept),
        )

    def only(self, places: Sequence[int], texts: Sequence[str]) -> Self:
        """Return the column with the distinct values at some places alone, spelled anew; the others are not missing."""
        counts = self.counts.take(pa.array(places, pa.int64()))
        return replace(self, distinct=pa.array(texts, pa.string()), counts=counts)

    def words(self, places: Sequence[int]) -> tuple[str, ...]:
        """Return the distinct values at some places, most frequent first."""
        taken = pa.array(places, pa.int64())
        counted = zip(self.distinct.take(taken).to_pylist(), self.counts.take(taken).to_pylist(), strict=True)
        return tuple(word for word, _ in sorted(counted, key=lambda item: (-item[1], item[0])))

    def count_of(self, places: Sequence[int]) -> int:
        """Count the rows that have the distinct values at some places."""
        return pc.sum(self.counts.take(pa.array(places, pa.int64()))).as_py() or 0

    def misfit(self, text: str, kind: str, remedy: str) -> DataError:
        """Make the error for a value that the kind given for its column cannot hold."""
        row = pc.index(self.texts, pa.scalar(text, pa.string())).as_py()
        return DataError(
            f"column {self.name!r} is to be {kind} (schema.kinds.{self.name}), but row {row + 1} has {text[:60]!r}; "
            f"{remedy}"
        )

    def setting(self, kind: str) -> str:
        """Write the setting that says what the column is; names with a point in them are no keys of their own."""
        if re.fullmatch(r"[^.=]+", self.name):
            return f"schema.kinds.{self.name}={kind}"
        return f"schema.kinds={json.dumps({self.name: kind}, ensure_ascii=False)}"

    def tell(self, code: NoticeCode, count: int, message: str, report: Reporter) -> None:
        """Report a finding about the column."""
        report(Notice(column=self.name, code=code, count=count, message=message))


def _counted(column: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """Return the distinct texts of a column in the order in which they first come, and how many rows have each."""
    if is_encoded(column):
        place_N, values = places(column)
        rows_V = np.bincount(place_N[place_N >= 0], minlength=len(values))
        texts = as_text(pa.chunked_array([values])).combine_chunks().dictionary_encode()  # NaN has none
        again_V = texts.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        rows = np.bincount(again_V + 1, weights=rows_V, minlength=len(texts.dictionary) + 1)[1:]
        return texts.dictionary, pa.array(rows.astype(np.int64))
    counted = pc.value_counts(as_text(column).combine_chunks())
    values, counts = counted.field("values"), counted.field("counts")
    present = pc.is_valid(values)
    return values.filter(present), counts.filter(present)


def median_index(values: np.ndarray, counts: pa.Array) -> int:
    """Return the index of the lower weighted median of distinct `values`."""
    order: Sequence[int] = np.argsort(values, kind="stable").tolist()
    reached = np.cumsum(counts.to_numpy()[order])
    return order[int(np.searchsorted(reached, (reached[-1] + 1) // 2))]
