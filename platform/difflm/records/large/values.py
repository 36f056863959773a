"""The values of a column as a file has it: cast, trimmed, without missing words; of an encoded one each value once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from difflm.records.kinds.columns import as_text
from difflm.records.large.encoded import IntArray, counted, is_encoded, mapped
from difflm.records.notices import Notice, Reporter


@dataclass(frozen=True, slots=True)
class Values:
    """What stands in the rows of a column, or each distinct value of an encoded one, which `rows_V` rows have."""

    column: pa.ChunkedArray
    values: pa.ChunkedArray
    rows_V: IntArray | None

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> Self:
        """Look at a column."""
        if not is_encoded(column):
            return cls(column, column, None)
        rows_V, values = counted(column)
        return cls(column, pa.chunked_array([values]), rows_V)

    def rows(self, marked: pa.ChunkedArray) -> int:
        """Count the rows of marked values."""
        if self.rows_V is None:
            return pc.sum(marked).as_py() or 0
        return int(self.rows_V[pc.fill_null(marked, False).to_numpy()].sum())

    def by_value(self, found: pa.ChunkedArray) -> dict[Any, int]:
        """Count the rows of each of the marked values."""
        if self.rows_V is None:
            counts = pc.value_counts(self.values.filter(found))
            return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
        return dict(zip(self.values.filter(found).to_pylist(), self.rows_V[found.to_numpy()].tolist(), strict=True))

    def replaced(self, made: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return the column with other values in the place of these."""
        return made if self.rows_V is None else mapped(self.column, made.combine_chunks())


def canonical_values(column: pa.ChunkedArray, name: str, report: Reporter) -> pa.ChunkedArray:
    """Cast whole numbers to int64, floats to finite double, booleans to bool, all else to text."""
    seen = Values.of(column)
    kind = seen.values.type
    if pa.types.is_boolean(kind):
        return column
    if pa.types.is_null(kind):
        return column.cast(pa.string())
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return seen.replaced(seen.values.cast(pa.int64()))
    if pa.types.is_floating(kind):
        infinite = seen.rows(pc.is_inf(seen.values))
        if infinite:
            message = f"{infinite} infinite values count as missing"
            report(Notice(column=name, code="not_finite", count=infinite, message=message))
        return seen.replaced(as_text(seen.values).cast(pa.float64()))
    return seen.replaced(as_text(seen.values))


def without_suffix(column: pa.ChunkedArray, suffix: str | None) -> pa.ChunkedArray:
    """Take an ending off the texts that have it."""
    if not suffix:
        return column
    seen = Values.of(column)
    shorter = pc.utf8_slice_codeunits(seen.values, 0, -len(suffix))
    return seen.replaced(pc.if_else(pc.ends_with(seen.values, suffix), shorter, seen.values))


def trimmed(column: pa.ChunkedArray, name: str, report: Reporter) -> pa.ChunkedArray:
    """Take blanks off both ends of texts."""
    seen = Values.of(column)
    made = pc.utf8_trim(seen.values, characters=" \t")
    changed = seen.rows(pc.not_equal(made, seen.values))
    if changed:
        message = f"blanks were taken off both ends of {changed} values"
        report(Notice(column=name, code="trimmed", count=changed, message=message))
    return seen.replaced(made) if changed else column  # a second copy of every column would be a second table
