"""Some rows of a large table: each column is taken when it is asked for, so that splits are no second table.

`Rows` stands in for an Arrow table where columns are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa

from difflm.records.large.encoded import IntArray, compact, counted, has_encoded, is_encoded

_GROUP_ROWS: Final = 2**17


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a table by their places; the columns in `own` stand for those of the table."""

    table: pa.Table
    rows_N: IntArray
    own: Mapping[str, pa.ChunkedArray] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self.rows_N)

    def __len__(self) -> int:
        return len(self.rows_N)

    @property
    def column_names(self) -> list[str]:
        """The names of the table's columns."""
        names: list[str] = self.table.column_names
        return names

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column of these rows."""
        own = self.own.get(name)
        return _taken(self.table.column(name), self.rows_N) if own is None else own

    def distinct(self, name: str) -> int | None:
        """Count the distinct values of a column; None where it is not encoded."""
        column = self.column(name)
        return int(np.count_nonzero(counted(column)[0])) if is_encoded(column) else None

    def take(self, places: Any) -> Self:
        """Return some of these rows."""
        places_K = np.asarray(places)
        own = {name: _taken(column, places_K) for name, column in self.own.items()}
        return replace(self, rows_N=self.rows_N[places_K], own=own)

    def filter(self, kept: Any) -> Self:
        """Return the rows that are marked."""
        return self.take(np.flatnonzero(np.asarray(kept)))

    def set_column(self, place: int, name: str, column: pa.ChunkedArray) -> Self:
        """Return the rows with another column in the place of one of the same name."""
        assert self.table.column_names[place] == name, "a column keeps its name"
        return replace(self, own={**self.own, name: column})

    def groups(self) -> Iterator[pa.Table]:
        """Yield the rows as tables of some of them, without values that none of these has."""
        for start in range(0, len(self), _GROUP_ROWS):
            rows = slice(start, start + _GROUP_ROWS)
            own = {name: column.slice(start, _GROUP_ROWS) for name, column in self.own.items()}
            part = replace(self, rows_N=self.rows_N[rows], own=own)
            columns = [part.column(name) for name in self.column_names]
            compacted = [compact(column) if is_encoded(column) else column for column in columns]
            yield pa.Table.from_arrays(compacted, names=self.column_names)

    def write(self, path: Path) -> None:
        """Write the rows as Parquet, its columns of plain types; finding out the least and the largest value of each
        would take four times as long as the rest.
        """
        import pyarrow.parquet as pq

        writer = None
        try:
            for group in self.groups():
                if writer is None:
                    writer = pq.ParquetWriter(path, group.schema, store_schema=False, write_statistics=False)
                writer.write_table(group.cast(writer.schema), row_group_size=_GROUP_ROWS)
        finally:
            if writer is not None:
                writer.close()


def some_rows(table: pa.Table, rows_N: IntArray) -> Any:
    """Return the rows of a table at some places; of a large one without making a second table."""
    return Rows(table, rows_N.astype(np.int32)) if has_encoded(table) else table.take(rows_N)


def _taken(column: pa.ChunkedArray, rows_N: IntArray) -> pa.ChunkedArray:
    return column.take(pa.array(rows_N))
