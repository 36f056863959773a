"""Reading large tables: CSV and Parquet column by column into encoded columns, as `read_table` would read them.

What is read so is the same table with the same notices, its columns encoded (see `encoded`). Whatever is not plain is
left to `read_table`, which also says what is wrong.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from difflm.errors import UserError
from difflm.records.databases.urls import is_database
from difflm.records.files.compression import Expansion, refuse_another_kind
from difflm.records.files.delimited import dialect_of, has_spaced_quotes, tell_cut_off, tell_torn
from difflm.records.files.dialects import has_escaped_quotes
from difflm.records.files.layouts import find_layout
from difflm.records.files.paths import KINDS, PACKED, ending_of, files_of
from difflm.records.files.reading import Raw, ReadConfig, canonical_rows, named, read_table, wanted_layout
from difflm.records.files.typed_files import dense_size, least_size
from difflm.records.large.delimited import has_header_among, is_blank, opened, read_pieces
from difflm.records.large.encoded import encoded
from difflm.records.notices import Notice, Reporter, ignore

LARGE: Final = 2**26
"""Bytes of a delimited file from which on its columns are encoded."""
LARGE_CELLS: Final = 2**24
"""Cells of a Parquet file from which on its columns are encoded."""
_HEAD: Final = 2**22
_MARKS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_THREADS: Final = 2


def read_large_table(path: Path | str, config: ReadConfig | None = None, *, report: Reporter = ignore) -> pa.Table:
    """Read a table as `read_table` does; the columns of a large one may be encoded.

    Raises:
        DataError, ConfigError, StorageError: as `read_table`.
    """
    config = config or ReadConfig()
    if not (isinstance(path, str) and is_database(path)):
        files = files_of(Path(path))
        found = _read(files[0], config) if len(files) == 1 else None
        if found is not None:
            raw, notices = found
            for notice in notices:
                report(notice)
            with named(str(files[0])):
                return canonical_rows(raw, config, str(files[0]), report)
    return read_table(path, config, report=report)


def _read(path: Path, config: ReadConfig) -> tuple[Raw, list[Notice]] | None:
    """Read a large plain file, with what was odd in it; None where it is small, or not plain."""
    kind = KINDS.get(ending_of(path))
    if path.suffix.lower() in PACKED or not path.is_file():
        return None
    notices: list[Notice] = []
    try:
        if kind == ".parquet":
            raw = _parquet(path, config)
        elif kind in (".csv", ".tsv") and path.stat().st_size >= LARGE:
            raw = _delimited(path, kind, config, notices.append)
        else:
            return None
    except (UserError, pa.ArrowException, OSError, ValueError):
        return None
    return None if raw is None else (raw, notices)


def _delimited(path: Path, kind: str, config: ReadConfig, report: Reporter) -> Raw | None:
    if config.encoding is not None or config.delimiter == " ":
        return None
    with path.open("rb") as file:
        head = file.read(_HEAD)
    refuse_another_kind(head, path, kind)
    head = head[: head.rfind(b"\n") + 1]
    if head.startswith(_MARKS) or b"\x00" in head or not head:
        return None
    head.decode()  # the rows are looked at when they are read, but not the header
    wanted = wanted_layout(kind, config)
    layout = find_layout(head, path, wanted, report)
    if layout is None or layout.line_end == "\r" or layout.trailing:
        return None
    if has_spaced_quotes(head[layout.start :][: 2**16], layout) or has_escaped_quotes(head):
        return None
    names = list(wanted.header) if wanted.header is not None else list(layout.names)
    if len(names) < 2 or not names[-1].strip():
        return None
    size = path.stat().st_size
    watched = opened(path, layout.start, layout.quote)
    with watched.file:
        table = read_pieces(watched, names, delimiter=layout.delimiter, header=wanted.header is None, size=size)
    if watched.zero or watched.quotes % 2 or not table.num_rows or is_blank(table, table.num_rows - 1):
        return None
    if wanted.header is None and has_header_among(table):
        return None
    if watched.last not in (b"\n", b"\r"):
        tell_cut_off(report)
    tell_torn(head, layout, report)
    dialect, quoted = dialect_of(layout, wanted, encoding="utf-8", mark=False, trailing=False)
    return Raw(table=table, dialect=dialect, quoted=quoted)


def _parquet(path: Path, config: ReadConfig) -> Raw | None:
    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            return None
    expansion = Expansion.of(path, config.max_unpacked_mib)
    with pq.ParquetFile(path) as file:
        about, types = file.metadata, file.schema_arrow
        names = types.names
        if about.num_rows * len(names) < LARGE_CELLS or not all(map(_is_simple, types.types)):
            return None
        if about.num_columns != len(names) or len(set(names)) < len(names):
            return None
        size = sum(about.row_group(place).total_byte_size for place in range(about.num_row_groups))
        expansion.check(max(size, least_size(types, about.num_rows)))

    def column(place: int) -> tuple[pa.ChunkedArray, int]:
        text = [names[place]] if pa.types.is_string(types.types[place]) else None
        with pq.ParquetFile(path, read_dictionary=text, metadata=about) as file:
            (found,) = file.read(columns=[names[place]], use_threads=False).columns
        found.validate(full=True)
        return encoded(found), dense_size(pa.table([found], names=[""]))

    columns: list[pa.ChunkedArray] = []
    dense = 0
    with ThreadPoolExecutor(_THREADS) as threads:
        for found, bytes_ in threads.map(column, range(len(names))):
            columns.append(found)
            dense += bytes_
            expansion.check(dense)
    return Raw(table=pa.Table.from_arrays(columns, names=names), types=types)


def _is_simple(kind: pa.DataType) -> bool:
    floating = pa.types.is_float32(kind) or pa.types.is_float64(kind)
    whole = pa.types.is_integer(kind) and kind != pa.uint64()
    return bool(pa.types.is_string(kind) or floating or whole or pa.types.is_boolean(kind))
