"""Workbooks: what a sheet can hold is written as it is, and what it cannot is refused with the remedy."""

from __future__ import annotations

import datetime as dt
import io
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import difflm
from difflm.artifacts import workbooks
from difflm.artifacts.formats import encode_table
from difflm.errors import ConfigError, DataError
from difflm.records.files.reading import read_table
from difflm.records.notices import Notice

openpyxl = pytest.importorskip("openpyxl")
pytest.importorskip("python_calamine")


def sheet_of(content: bytes) -> Any:
    return openpyxl.load_workbook(io.BytesIO(content)).active


TEXTS = [
    "=1+1", "+49", "-2", "@SUM(1)", "007", "#N/A", "a\nb", " x ", "a\rb", "_x0041_", "a  b", "<&>\"'", "مرحبا", "😀",
    "  ", "a\n", "]]>",
]  # fmt: skip


def test_texts_are_texts_in_a_document_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.ods"
    difflm.write_table(pa.table({"=A1": TEXTS}), str(path))
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist()[0] == "mimetype"
        content = archive.read("content.xml").decode()
    assert content.count('office:value-type="string"') == 1 + len(TEXTS)
    assert "table:formula" not in content
    back = read_table(path)
    assert back.column_names == ["=A1"]
    assert back.column(0).to_pylist() == TEXTS
    again = tmp_path / "again.ods"
    difflm.write_table(pa.table({"=A1": TEXTS}), str(again))
    assert again.read_bytes() == path.read_bytes()


def test_a_document_holds_no_control_characters() -> None:
    with pytest.raises(DataError, match=r"'bell.x07': an .ods file cannot hold the character U\+0007; write .xlsx"):
        encode_table(pa.table({"a": ["bell\x07"]}), "ods")


@pytest.mark.parametrize("format_", ["xlsx", "ods"])
def test_a_number_that_is_none_is_refused(format_: str) -> None:
    with pytest.raises(DataError, match="column 'a': inf is no number that a cell holds"):
        encode_table(pa.table({"a": [1.0, float("inf")]}), format_)


def test_texts_are_texts_whatever_they_begin_with(tmp_path: Path) -> None:
    texts = ["=1+1", "+49", "-2", "@SUM(1)", "007", "#N/A", "a\nb", " x ", "bell\x07", "a\rb", "_x0041_", "مرحبا", "😀"]
    path = tmp_path / "rows.xlsx"
    difflm.write_table(pa.table({"=A1": texts}), str(path))
    cells = [row[0] for row in sheet_of(path.read_bytes()).iter_rows()]
    assert {cell.data_type for cell in cells} == {"s"}
    back = read_table(path)
    assert back.column_names == ["=A1"]
    assert back.column(0).to_pylist() == texts
    with pytest.raises(ConfigError, match=r"rows\.xlsx: is there already; give another name"):
        difflm.write_table(pa.table({"a": [1]}), str(path))


ZONED = dt.datetime(2024, 5, 6, 7, tzinfo=dt.UTC)
ROW = {
    "day": dt.date(2024, 1, 2), "at": dt.datetime(2024, 1, 2, 3, 4), "time": dt.time(5, 6), "yes": True, "n": 7,
    "x": 0.25, "money": Decimal("1.50"), "none": None, "long": dt.timedelta(hours=30), "zoned": ZONED,
    "list": [1, 2], "bytes": b"\x01\xff",
}  # fmt: skip


def test_every_type_has_a_cell_of_a_document(tmp_path: Path) -> None:
    """What pandas reads through another library, and what is read here."""
    (tmp_path / "rows.ods").write_bytes(encode_table(pa.Table.from_pylist([ROW, ROW | {"none": "x"}]), "ods"))
    back = read_table(tmp_path / "rows.ods").to_pylist()[0]
    assert back == {
        "day": "2024-01-02", "at": "2024-01-02 03:04:00", "time": "05:06:00", "yes": True, "n": 7, "x": 0.25,
        "money": 1.5, "none": None, "long": "108000000000", "zoned": ZONED.isoformat(), "list": "[1, 2]",
        "bytes": "01ff",
    }  # fmt: skip
    pytest.importorskip("odf")
    import pandas as pd

    short = {name: value for name, value in ROW.items() if name != "long"}  # its library reads times of day only
    (tmp_path / "rows.ods").write_bytes(encode_table(pa.Table.from_pylist([short]), "ods"))
    read = pd.read_excel(tmp_path / "rows.ods", engine="odf").iloc[0].to_dict()
    assert read["day"] == dt.datetime(2024, 1, 2)
    assert read["at"] == dt.datetime(2024, 1, 2, 3, 4)
    assert read["time"] == dt.time(5, 6)
    assert bool(read["yes"])
    assert (read["n"], read["x"], read["money"], read["bytes"]) == (7, 0.25, 1.5, "01ff")


def test_every_type_has_a_cell() -> None:
    made = [cell.value for cell in list(sheet_of(encode_table(pa.Table.from_pylist([ROW]), "xlsx")).iter_rows())[1]]
    assert made == [
        dt.datetime(2024, 1, 2), dt.datetime(2024, 1, 2, 3, 4), dt.time(5, 6), True, 7, 0.25, 1.5, None,
        dt.timedelta(hours=30), ZONED.isoformat(), "[1, 2]", "01ff",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"a": ["x" * 32_768]}), "column 'a': a text of 32,768 characters, and a cell holds 32,767"),
        (pa.table({"a": range(9)}), "a sheet has at most 9 rows; write .csv or .parquet, or fewer rows"),
        (pa.table([[1]] * 16_385, [f"c{at}" for at in range(16_385)]), "16,385 columns: a sheet has at most 16,384"),
    ],
)
def test_what_does_not_fit_is_refused(table: pa.Table, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbooks, "MAX_SHEET_ROWS", 9)
    for format_ in ("xlsx", "ods"):
        with pytest.raises(DataError) as error:
            encode_table(table, format_)
        assert message in str(error.value)


def test_cells_of_errors_are_told(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["a", "b"], [1, "x"], ["#N/A", "y"], ["#DIV/0!", "z"]):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    notices: list[Notice] = []
    assert read_table(tmp_path / "t.xlsx", report=notices.append)["a"].to_pylist() == [1, None, None]
    (told,) = [notice.message for notice in notices if notice.code == "missing_word"]
    assert told == "2 cells hold errors such as #N/A or #DIV/0!, and count as missing"
