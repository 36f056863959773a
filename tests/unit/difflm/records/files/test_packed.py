"""Packed files, workbooks and several files of one table."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from datetime import date, datetime, time, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from difflm.errors import ConfigError, DataError
from difflm.records.files import compression
from difflm.records.files.compression import Expansion
from difflm.records.files.reading import ReadConfig, read_table
from difflm.records.files.sheets import WorkbookForm
from difflm.records.files.typed_files import read_parquet
from difflm.records.notices import Notice
from difflm.records.workbook_process import marked, unmarked

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


def test_a_workbook_without_styles_is_read_and_times_come_back(tmp_path: Path) -> None:
    pytest.importorskip("python_calamine")
    path = workbook(tmp_path / "t.xlsx", {"data": [["id", "city"], [1, "Rome"], [2, "Oslo"]]})
    with zipfile.ZipFile(path) as given:
        parts = {name: given.read(name) for name in given.namelist() if name != "xl/styles.xml"}
    with zipfile.ZipFile(path, "w") as bare:
        for name, content in parts.items():
            bare.writestr(name, content)
    assert read_table(path).to_pydict() == {"id": [1, 2], "city": ["Rome", "Oslo"]}
    for cell in (datetime(2024, 1, 31, 8, 30), date(2024, 2, 1), time(8, 5), timedelta(days=1, seconds=3)):
        assert unmarked(marked(cell)) == cell
    assert unmarked({}) == {}
    assert unmarked({"date": 3}) == {"date": 3}


@pytest.mark.parametrize(
    "layout",
    [{"top": 10**12}, {"left": -1}, {"heads": {"a": {}}}, {"heads": {"a": {"$": ["date", "zz"]}}}],
)
def test_layouts_of_strangers_are_bounded(layout: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        WorkbookForm.model_validate({"title": "S", **layout})


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


BOMB = b"a,b\n" + b"1,2\n" * 600_000
"""2.4 MB that pack into a few thousand bytes."""


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", store_schema=False)
    return sink.getvalue()


def _arrow(table: pa.Table, *, stream: bool = False) -> bytes:
    sink, options = io.BytesIO(), pa.ipc.IpcWriteOptions(compression="zstd")
    opened = pa.ipc.new_stream if stream else pa.ipc.new_file
    with opened(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _repeated(text: str) -> pa.Table:
    return pa.table({"a": pa.DictionaryArray.from_arrays(pa.array([0] * 5_000, pa.int32()), [text])})


def _runs(rows: int) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array([rows], pa.int32()), pa.array(["y"]))


def _views(rows: int) -> pa.Array:
    """Lists that all show the same values."""
    offsets, sizes = (pa.array([number] * rows, pa.int32()) for number in (0, rows))
    return pa.ListViewArray.from_arrays(offsets, sizes, pa.array([1] * rows, pa.int8()))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv.gz", gzip.compress(BOMB)),
        ("t.csv.bz2", bz2.compress(BOMB)),
        ("t.csv.xz", lzma.compress(BOMB)),
        ("t.csv.zst", pa.compress(BOMB, codec="zstd", asbytes=True)),
        ("t.csv.zip", zipped(t_csv=BOMB)),
        ("t.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 300_000)),
        ("t.parquet", _parquet(pa.table({"a": [1.5] * 300_000}))),
        ("long.parquet", _parquet(_repeated("x" * 1000))),
        ("t.arrow", _arrow(pa.table({"a": [True] * 30_000_000}))),
        ("t.feather", _arrow(pa.table({"a": [True] * 30_000_000}), stream=True)),
        ("long.arrow", _arrow(_repeated("x" * 1000))),
        ("null.arrow", _arrow(pa.table({"a": pa.nulls(10_000_000)}))),
        ("runs.arrow", _arrow(pa.table({"a": _runs(10_000_000)}))),
        ("views.arrow", _arrow(pa.table({"a": _views(2_000)}))),
        ("wide.arrow", _arrow(pa.table({"a": pa.array([None] * 100, pa.list_(pa.null(), 2_000))}))),
    ],
)
def test_what_unpacks_to_more_than_it_may_is_named_with_the_setting(
    tmp_path: Path, name: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(content)
    assert len(content) < 40_000
    told = r"unpack to more than 1 MiB.*set read: \{max_unpacked_mib: 4\} \(--set data\.read\.max_unpacked_mib=4\)"
    with pytest.raises(DataError, match=rf"{name}: its {len(content):,} bytes {told}") as raised:
        read_table(tmp_path / name, ReadConfig(max_unpacked_mib=1))
    assert "\n" not in str(raised.value)
    monkeypatch.setattr(compression, "_LEAST", 2**20)
    monkeypatch.setattr(compression, "_MAX_RATIO", 50)
    with pytest.raises(DataError, match="unpack to more than 1 MiB"):
        read_table(tmp_path / name)
    assert read_table(tmp_path / name, ReadConfig(max_unpacked_mib=512)).num_rows >= 100


@pytest.mark.parametrize(
    "column",
    [
        pa.repeat(pa.scalar(b"x" * 100_000, pa.binary(100_000)), 1_000),
        pa.repeat(pa.scalar(1, pa.decimal256(76, 0)), 3_000_000),
        pa.array([["y" * 2_000] * 50] * 1_000),
    ],
    ids=["fixed", "decimals", "lists"],
)
def test_values_that_are_short_in_a_file_are_counted_before_they_are_made(tmp_path: Path, column: pa.Array) -> None:
    """11 KB took 3 GB before they were refused."""
    (tmp_path / "t.parquet").write_bytes(_parquet(pa.table({"a": column})))
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(DataError, match="unpack to more than 8 MiB"):
            read_table(tmp_path / "t.parquet", ReadConfig(max_unpacked_mib=8))
        assert pool.max_memory() < 40 * 2**20
    finally:
        pa.set_memory_pool(before)


def test_lists_of_many_rows_are_read(tmp_path: Path) -> None:
    rows = [[str(row), "b"] for row in range(1_000)]
    (tmp_path / "t.parquet").write_bytes(_parquet(pa.table({"a": rows, "b": ["x"] * 1_000})))
    found = read_table(tmp_path / "t.parquet")
    assert found["a"].to_pylist() == [f'["{row}", "b"]' for row in range(1_000)]
    assert found["b"].to_pylist() == ["x"] * 1_000


def test_a_large_table_that_packs_well_is_read(tmp_path: Path) -> None:
    """40 MB of one value, packed a thousand times, are less than what every file may unpack to."""
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a\n" + b"1234567\n" * 5_000_000, 1))
    assert read_table(tmp_path / "t.csv.gz").num_rows == 5_000_000


def test_a_workbook_of_a_few_cells_far_apart_ends_no_process(tmp_path: Path) -> None:
    """Its last cell says that there are 17 billion: what reads workbooks asked for 512 GiB, and was ended for it."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active["A1"] = "a"
    book.active["XFD1048576"] = 1
    book.save(tmp_path / "far.xlsx")
    with pytest.raises(DataError, match=r"far\.xlsx: its [\d,]+ bytes unpack to more than 256 MiB.*max_unpacked_mib"):
        read_table(tmp_path / "far.xlsx")


def test_dictionaries_and_texts_of_parquet_come_back_as_they_were(tmp_path: Path) -> None:
    words = ["x", None, "y"]
    table = pa.table(
        {
            "text": words,
            "large": pa.array(words, pa.large_string()),
            "bytes": pa.array([b"x", None, b"y"]),
            "category": pa.array(words).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    read = read_parquet((tmp_path / "t.parquet").read_bytes(), Expansion.of(tmp_path / "t.parquet"))
    assert read.equals(table)
    assert read.schema.equals(table.schema, check_metadata=False)
