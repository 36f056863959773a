"""Workbooks: what a sheet can hold is written as it is, and what it cannot is refused with the remedy."""

from __future__ import annotations

import datetime as dt
import io
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

openpyxl = pytest.importorskip("openpyxl")
pytest.importorskip("python_calamine")


def sheet_of(content: bytes) -> Any:
    return openpyxl.load_workbook(io.BytesIO(content)).active


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


def test_every_type_has_a_cell() -> None:
    zoned = dt.datetime(2024, 5, 6, 7, tzinfo=dt.UTC)
    row = {
        "day": dt.date(2024, 1, 2), "at": dt.datetime(2024, 1, 2, 3, 4), "time": dt.time(5, 6), "yes": True, "n": 7,
        "x": 0.25, "money": Decimal("1.50"), "none": None, "long": dt.timedelta(hours=30), "zoned": zoned,
        "list": [1, 2], "bytes": b"\x01\xff",
    }  # fmt: skip
    made = [cell.value for cell in list(sheet_of(encode_table(pa.Table.from_pylist([row]), "xlsx")).iter_rows())[1]]
    assert made == [
        dt.datetime(2024, 1, 2), dt.datetime(2024, 1, 2, 3, 4), dt.time(5, 6), True, 7, 0.25, 1.5, None,
        dt.timedelta(hours=30), zoned.isoformat(), "[1, 2]", "01ff",
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
    with pytest.raises(DataError) as error:
        encode_table(table, "xlsx")
    assert message in str(error.value)
