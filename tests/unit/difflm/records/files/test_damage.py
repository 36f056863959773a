"""Damaged files: cut, flipped, empty, doubled or overfull ones give one line with the file's name, or a table."""

from __future__ import annotations

import gzip
import io
import os
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from difflm.artifacts.formats import encode_table
from difflm.errors import DataError, UserError
from difflm.records.files.reading import read_table

ROWS = 120
FLIPS = 12


def _table() -> pa.Table:
    return pa.table(
        {
            "id": [f"{row:05d}" for row in range(ROWS)],
            "city": [("Zürich", "Köln", "Rome, IT")[row % 3] for row in range(ROWS)],
            "n": [row % 17 for row in range(ROWS)],
            "note": [f'said "{row}"' if row % 5 else None for row in range(ROWS)],
        }
    )


def _delimited(delimiter: str, end: str, encoding: str) -> bytes:
    lines = [delimiter.join(_table().column_names)]
    for row in _table().to_pylist():
        cells = ["" if value is None else str(value) for value in row.values()]
        quoted = ['"' + cell.replace('"', '""') + '"' if delimiter in cell or '"' in cell else cell for cell in cells]
        lines.append(delimiter.join(quoted))
    return (end.join(lines) + end).encode(encoding)


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(_table(), sink)
    return sink.getvalue()


def _arrow() -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, _table().schema) as file:
        file.write_table(_table())
    return sink.getvalue()


def _workbook() -> bytes:
    openpyxl = pytest.importorskip("openpyxl")
    pytest.importorskip("python_calamine")
    book = openpyxl.Workbook()
    book.active.append(_table().column_names)
    for row in _table().to_pylist():
        book.active.append(list(row.values()))
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


def _document() -> bytes:
    pytest.importorskip("python_calamine")
    return encode_table(_table(), "ods")


FILES: dict[str, Callable[[], bytes]] = {
    "plain.csv": lambda: _delimited(",", "\n", "utf-8"),
    "sheet.csv": lambda: b"sep=;\r\n" + _delimited(";", "\r\n", "utf-8"),
    "western.csv": lambda: _delimited(";", "\r\n", "cp1252"),
    "wide.csv": lambda: _delimited("\t", "\r\n", "utf-16"),
    "titled.csv": lambda: b"Report\n\n" + _delimited(",", "\n", "utf-8"),
    "aligned.txt": lambda: "".join(f"{row:>4}  x{row % 3}  {row * 7:>6}\n" for row in range(ROWS)).encode(),
    "packed.csv.gz": lambda: gzip.compress(_delimited(",", "\n", "utf-8"), mtime=0),
    "rows.jsonl": lambda: b"".join(b'{"a": %d, "b": ["x"]}\n' % row for row in range(ROWS)),
    "rows.json": lambda: b"[" + b",".join(b'{"a": %d}' % row for row in range(ROWS)) + b"]",
    "typed.parquet": _parquet,
    "typed.arrow": _arrow,
    "book.xlsx": _workbook,
    "book.ods": _document,
}


def _read(folder: Path, name: str, content: bytes) -> pa.Table | None:
    """Read a file; None where it is refused in one line that names it."""
    path = folder / name
    path.write_bytes(content)
    try:
        return read_table(path)
    except UserError as error:
        message = str(error)
        assert name in message
        assert "\n" not in message
        assert len(message) < 800
        return None


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_in_half(tmp_path: Path, name: str) -> None:
    content = FILES[name]()
    assert _read(tmp_path, name, content) is not None
    half = _read(tmp_path, name, content[: len(content) // 2])
    assert half is None or (name.endswith((".csv", ".txt")) and half.num_rows < ROWS)
    assert _read(tmp_path, name, b"") is None


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits(tmp_path: Path, name: str) -> None:
    content, draw = FILES[name](), random.Random(7)
    for _ in range(FLIPS):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        table = _read(tmp_path, name, bytes(flipped))
        assert table is None or table.num_rows > 0


@pytest.mark.parametrize("name", ["plain.csv", "sheet.csv", "western.csv"])
def test_a_header_among_the_rows_is_left_out(tmp_path: Path, name: str) -> None:
    content = FILES[name]()
    whole = _read(tmp_path, name, content)
    lines = content.splitlines(keepends=True)
    header = next(line for line in lines if line.startswith(b"id"))
    for place in (lines.index(header), len(lines) // 2, len(lines)):
        doubled = _read(tmp_path, name, b"".join([*lines[:place], header, *lines[place:]]))
        assert doubled is not None
        assert doubled.equals(whole)


@pytest.mark.parametrize("name", ["plain.csv", "rows.jsonl"])
def test_ten_megabytes_in_one_cell(tmp_path: Path, name: str) -> None:
    content = FILES[name]()
    mark = b"K\xc3\xb6ln" if name.endswith(".csv") else b'"x"'
    long = b"y" * 10_000_000 if name.endswith(".csv") else b'"' + b"y" * 10_000_000 + b'"'
    table = _read(tmp_path, name, content.replace(mark, long, 1))
    assert table is not None
    assert table.num_rows == ROWS


@pytest.mark.parametrize("name", ["pipe.csv", "pipe.csv.gz", "pipe.csv.xz", "pipe.zip", "pipe.parquet", "pipe.json"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    (tmp_path / f"linked-{name}").symlink_to(name)
    for path in (tmp_path / name, tmp_path / f"linked-{name}"):
        with pytest.raises(DataError, match="is a pipe or a device"):
            read_table(path)
