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

_BLOCK: Final = 2**24
_PIECE: Final = 2**27
_THREADS: Final = 2


@dataclass(slots=True)
class Watched:
    """A file that is read as a stream, and what was seen in it: how many quotes, a zero byte, the last byte."""

    file: IO[bytes]
    quote: bytes
    quotes: int = 0
    zero: bool = False
    last: bytes = b""
    closed: bool = False

    def read(self, size: int = -1) -> bytes:
        """Read some bytes."""
        data = self.file.read(size)
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
    """A column that grows by pieces: its distinct values so far, and the places of its rows; or all of its texts."""

    values: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))
    places: list[IntArray] = field(default_factory=list)
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
        self.places.append(place_N.astype(np.uint16 if len(self.values) <= MAX_VALUES else np.int32))
        if len(self.values) > MAX_VALUES:
            self.texts = [self.values.take(pa.array(piece)) for piece in self.places]
            self.places, self.values = [], self.values.slice(0, 0)

    def column(self) -> pa.ChunkedArray:
        if self.texts is not None:
            return pa.chunked_array(self.texts, pa.string())
        place_N = np.concatenate(self.places) if self.places else np.zeros(0, np.uint16)
        self.places = []
        return joined(place_N, self.values)


def read_pieces(watched: Watched, names: Sequence[str], *, delimiter: str, header: bool) -> pa.Table:
    """Read all rows of a stream as two or more columns of text, encoded where they have few enough values.

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
            list(threads.map(lambda column, texts: column.add(texts), columns, piece.columns))
        made = list(threads.map(_Growing.column, columns))
    return pa.Table.from_arrays(made, names=list(names))


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
