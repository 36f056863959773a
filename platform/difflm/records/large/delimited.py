"""Large delimited files, read piece by piece into encoded columns.

What is not plain (another encoding, rows of other lengths, quotes that are never closed, headers among the rows, empty
rows at the end) is left to `files.delimited`, which holds the whole text and says what is wrong with it: here it is
read again from the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from difflm.records.large.encoded import MAX_VALUES, IntArray, joined

_BLOCK: Final = 2**23
_PIECE: Final = 2**26
_THREADS: Final = 2


@dataclass(slots=True)
class Watched:
    """A file that is read as a stream, and what was seen in it: how many bytes and quotes, a zero byte, the last
    byte."""

    file: IO[bytes]
    quote: bytes
    quotes: int = 0
    zero: bool = False
    last: bytes = b""
    count: int = 0
    closed: bool = False

    def read(self, size: int = -1) -> bytes:
        """Read some bytes."""
        data = self.file.read(size)
        self.count += len(data)
        self.quotes += data.count(self.quote)
        self.zero = self.zero or b"\x00" in data
        self.last = data[-1:] or self.last
        return data

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def writable(self) -> bool:
        """Tell that it cannot be written."""
        return False

    def seekable(self) -> bool:
        """Tell that it is read from its start to its end."""
        return False

    def close(self) -> None:
        """Leave the file to whoever opened it."""
        self.closed = True

    def flush(self) -> None:
        """Do nothing."""


@dataclass(slots=True)
class _Growing:
    """A column that grows by pieces: its distinct values so far, and the places of its rows; or all of its texts.

    `places` has room for rows to come: pieces that are joined at the end would be in memory twice.
    """

    values: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))
    places: IntArray = field(default_factory=lambda: np.zeros(0, np.uint16))
    rows: int = 0
    texts: list[pa.Array] | None = None

    def add(self, texts: pa.ChunkedArray) -> None:
        if self.texts is not None:
            self.texts += texts.chunks
            return
        place_N = pc.fill_null(pc.index_in(texts, value_set=self.values), -1).to_numpy()
        unseen = np.flatnonzero(place_N < 0)
        if len(unseen):
            others = pa.concat_arrays(texts.take(pa.array(unseen)).chunks).dictionary_encode()
            place_N = place_N.copy()
            place_N[unseen] = others.indices.to_numpy() + len(self.values)
            self.values = pa.concat_arrays([self.values, others.dictionary])
        if len(self.values) > MAX_VALUES:
            before = self.values.take(pa.array(self.places[: self.rows]))
            self.texts = [before, *texts.chunks]
            self.places, self.values = self.places[:0], self.values.slice(0, 0)
            return
        self.places[self.rows : self.rows + len(place_N)] = place_N
        self.rows += len(place_N)

    def make_room(self, rows: int) -> None:
        """Make room for so many rows more."""
        if self.texts is None and self.rows + rows > len(self.places):
            wider = np.empty(max(self.rows + rows, len(self.places) * 3 // 2), np.uint16)
            wider[: self.rows] = self.places[: self.rows]
            self.places = wider

    def column(self) -> pa.ChunkedArray:
        if self.texts is not None:
            return pa.chunked_array(self.texts, pa.string())
        return joined(self.places[: self.rows], self.values)


def read_pieces(watched: Watched, names: Sequence[str], *, delimiter: str, header: bool, size: int) -> pa.Table:
    """Read all rows of a stream as two or more columns of text, encoded where they have few enough values. `size`
    is how many bytes there are.

    Raises:
        pa.ArrowInvalid: a row of another length, or bytes that are not UTF-8.
    """
    keys = [str(place) for place in range(len(names))]
    reader = pa.csv.open_csv(
        pa.PythonFile(watched, mode="r"),
        pa.csv.ReadOptions(
            column_names=keys, skip_rows_after_names=1 if header else 0, use_threads=True, block_size=_BLOCK
        ),
        pa.csv.ParseOptions(
            delimiter=delimiter, quote_char=watched.quote.decode(), newlines_in_values=True, ignore_empty_lines=True
        ),
        pa.csv.ConvertOptions(column_types=dict.fromkeys(keys, pa.string()), strings_can_be_null=False),
    )
    columns = [_Growing() for _ in keys]
    with ThreadPoolExecutor(_THREADS) as threads:
        for piece in _pieces(reader):
            rows = piece.num_rows if columns[0].rows else _rows_in(size, piece.num_rows, watched.count)
            for column in columns:
                column.make_room(rows)
            list(threads.map(lambda column, texts: column.add(texts), columns, piece.columns))
        made = list(threads.map(_Growing.column, columns))
    del columns, reader
    pa.default_memory_pool().release_unused()
    return pa.Table.from_arrays(made, names=list(names))


def _rows_in(size: int, rows: int, read: int) -> int:
    """Guess how many rows a file has of which some were read; pages of memory that are not written take none."""
    return max(rows, 2 * rows * size // max(1, read))


def _pieces(reader: Any) -> Iterator[pa.Table]:
    """Yield batches that are large enough for looking up the values so far to pay."""
    batches: list[pa.RecordBatch] = []
    size = 0
    for batch in reader:
        batches.append(batch)
        size += batch.nbytes
        if size >= _PIECE:
            yield pa.Table.from_batches(batches)
            batches, size = [], 0
    if batches:
        yield pa.Table.from_batches(batches)


def has_header_among(table: pa.Table) -> bool:
    """Tell whether a row repeats the names of all columns."""
    same_N: Any = None
    for name, column in zip(table.column_names, table.columns, strict=True):
        equal_N = pc.equal(column, name).to_numpy()
        same_N = equal_N if same_N is None else same_N & equal_N
        if not same_N.any():
            return False
    return True


def is_blank(table: pa.Table, row: int) -> bool:
    """Tell whether all cells of a row are empty."""
    return not any(str(column[row].as_py()).strip() for column in table.columns)


def opened(path: Path, start: int, quote: str) -> Watched:
    """Open a file at a byte."""
    file = path.open("rb")
    file.seek(start)
    return Watched(file, quote.encode())
