"""Packed files, workbooks and several files of one table."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from difflm.errors import ConfigError, DataError
from difflm.records.files.reading import ReadConfig, read_table
from difflm.records.notices import Notice

CSV = b"a,b\n1,x\n2,y\n"
ROWS = {"a": ["1", "2"], "b": ["x", "y"]}


def zipped(**files: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv.gz", gzip.compress(CSV, mtime=0)),
        ("t.csv.bz2", bz2.compress(CSV)),
        ("t.csv.xz", lzma.compress(CSV)),
        ("t.csv.zst", pa.compress(CSV, codec="zstd", asbytes=True)),
        ("t.csv.zip", zipped(t_csv=CSV)),
        ("export.zip", zipped(t_csv=CSV)),
        ("T.CSV.GZ", gzip.compress(CSV, mtime=0)),
        ("t.tsv.gz", gzip.compress(CSV.replace(b",", b"\t"), mtime=0)),
    ],
)
def test_a_packed_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_table(tmp_path / name).to_pydict() == ROWS
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cannot be read .*is it complete and what its name says"):
        read_table(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.zip", zipped(a_csv=CSV, b_csv=CSV), "holds 'a.csv', 'b.csv'; give an archive of one table"),
        ("t.csv", gzip.compress(CSV, mtime=0), "is gzip, not what its name says; let the name end in .gz"),
        ("t.csv", zipped(a_csv=CSV), "is a zip archive or an Excel workbook"),
        ("t.jsonl", b"PAR1 and so on", "is Parquet, not what its name says"),
    ],
)
def test_what_a_file_is_not_is_said(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / name)


def test_a_pattern_reads_all_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "p1.csv").write_text("a,b\n1,x\n")
    (tmp_path / "p2.csv").write_text("b,a\ny,2\n")
    assert read_table(tmp_path / "p*.csv").to_pydict() == ROWS
    (tmp_path / "p3.csv").write_text("a,c\n1,x\n")
    with pytest.raises(DataError, match=r"p3.csv: lacks 'b' and has besides 'c', other columns than .*p1.csv"):
        read_table(tmp_path / "p*.csv")
    with pytest.raises(DataError, match="no file matches this pattern"):
        read_table(tmp_path / "q*.csv")


def test_files_whose_types_differ_are_joined(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [1, 2], "t": pa.array([None, None], pa.string())}), tmp_path / "p1.parquet")
    pq.write_table(pa.table({"n": pa.array([None], pa.null()), "t": ["x"]}), tmp_path / "p2.parquet")
    assert read_table(tmp_path / "p*.parquet").to_pydict() == {"n": [1, 2, None], "t": [None, None, "x"]}


def workbook(path: Path, sheets: dict[str, list[list[object]]]) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


TABLE: list[list[object]] = [
    ["id", "price", "when", "seen", "ok", "note"],
    [1, 2.5, date(2024, 1, 31), datetime(2024, 1, 31, 8, 30), True, "x"],
    [2, None, date(2024, 2, 1), datetime(2024, 2, 1, 9, 0), False, None],
]


def test_a_workbook_keeps_its_types(tmp_path: Path) -> None:
    pytest.importorskip("python_calamine")
    path = workbook(tmp_path / "t.xlsx", {"notes": [["read me"]], "data": [["Sales"], [], *TABLE]})
    notices: list[Notice] = []
    table = read_table(path, report=notices.append)
    assert table.to_pydict() == {
        "id": [1, 2],
        "price": [2.5, None],
        "when": ["2024-01-31", "2024-02-01"],
        "seen": ["2024-01-31 08:30:00", "2024-02-01 09:00:00"],
        "ok": [True, False],
        "note": ["x", None],
    }
    assert {"sheet", "preamble"} <= {notice.code for notice in notices}
    assert read_table(path, ReadConfig(sheet="data")).num_rows == 2
    with pytest.raises(ConfigError, match="no sheet 'none'; it has 'notes', 'data'"):
        read_table(path, ReadConfig(sheet="none"))


def test_a_workbook_that_is_none_or_damaged(tmp_path: Path) -> None:
    pytest.importorskip("python_calamine")
    path = workbook(tmp_path / "t.xlsx", {"data": TABLE})
    content = path.read_bytes()
    for wrong in (b"x", content[: len(content) // 2], b""):
        path.write_bytes(wrong)
        with pytest.raises(DataError, match=r"t.xlsx: not a workbook"):
            read_table(path)


def test_without_the_library_a_workbook_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "python_calamine", None)
    (tmp_path / "t.ods").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=r"install it with pip install 'difflm\[excel\]'"):
        read_table(tmp_path / "t.ods")
