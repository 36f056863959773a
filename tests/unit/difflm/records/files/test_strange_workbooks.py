"""Workbooks of strangers: without styles, with columns of odd names, and layouts that no sheet has."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from difflm.artifacts.formats import encode_table
from difflm.records.files.reading import read_table
from difflm.records.files.sheets import WorkbookForm
from difflm.records.workbook_process import unmarked

TABLE = pa.table({"a": ["x", "y", "z"], "n": [1, 2, 3]})


def without_styles() -> bytes:
    """A workbook of TABLE that says nothing of number formats."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(encode_table(TABLE, "xlsx"))) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if name != "xl/styles.xml":
                new.writestr(name, old.read(name))
    return target.getvalue()


def test_a_workbook_without_styles_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    path.write_bytes(without_styles())
    assert read_table(path).equals(TABLE)


def test_what_is_no_mark_stays_as_it_is() -> None:
    for said in ({}, {"date": 1, "B": 2}, {"rows": []}):
        assert unmarked(said) == said


@pytest.mark.parametrize(
    "layout",
    [{"top": 10**12}, {"left": -1}, {"heads": {"a": {}}}, {"heads": {"a": {"date": "zz"}}},
     {"heads": {"a": {"timedelta": "x"}}}],
)  # fmt: skip
def test_a_layout_that_no_sheet_has_is_refused(layout: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WorkbookForm(title="s", **layout)
