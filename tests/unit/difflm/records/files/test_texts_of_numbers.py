"""Numbers that a source keeps as texts stay texts, spelled as they were: in Parquet, in JSON, and in frames."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from difflm.artifacts.formats import encode_table
from difflm.records.files.reading import read_table
from difflm.records.files.source import SourceForm
from difflm.records.frames.frames import FrameTemplate, to_table
from difflm.records.kinds.columns import conform_table
from difflm.records.kinds.inference import infer_schema

ROWS = range(60)
TEXTS = {
    "two places": [f"{row}.{row % 10}0" for row in ROWS],
    "fraction of zero": [f"{row}.0" for row in ROWS],
    "shortest": [repr(row / 8) for row in ROWS],
    "no fraction of zero": [f"{row / 8:.15g}" for row in ROWS],
    "E notation": [f"{(row + 1) / 7:.2E}" for row in ROWS],
    "whole": [str(row % 40) for row in ROWS],
    "one": ["1.50" for _ in ROWS],
}


def rows_of(table: pa.Table) -> pa.Table:
    return conform_table(table, infer_schema(table))


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())],
    ids=["text", "large", "dictionary"],
)
def test_texts_of_typed_files_are_spelled_as_they_were(tmp_path: Path, name: str, kind: pa.DataType) -> None:
    table = pa.table({"x": pa.chunked_array([pa.array(TEXTS[name]).dictionary_encode()]).cast(kind)})
    pq.write_table(table, tmp_path / "t.parquet")
    read = read_table(tmp_path / "t.parquet")
    form = SourceForm.of(read)
    made = pq.read_table(io.BytesIO(encode_table(rows_of(read), "parquet", form=form)))
    assert made.schema.field("x").type == kind
    assert made.column("x").to_pylist() == TEXTS[name]


def comes_back_from_json(path: Path, values: Sequence[float | str | None]) -> None:
    """Check that values are written as JSON had them, and read as they were."""
    text = "".join(json.dumps({"x": one, "n": place}) + "\n" for place, one in enumerate(values))
    path.write_text(text)
    read = read_table(path)
    form = SourceForm.of(read)
    assert form is not None
    rows = rows_of(read)
    written = encode_table(rows, "jsonl", form=form)
    assert written.decode() == text
    parts = form.parsed(written, "jsonl", rows.schema)
    assert parts is not None
    assert conform_table(parts, infer_schema(read)).equals(rows)


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_json_stay_texts(tmp_path: Path, name: str) -> None:
    comes_back_from_json(tmp_path / "t.jsonl", TEXTS[name])


@pytest.mark.parametrize(
    "values",
    [
        [(row, row / 8 + 0.3)[row % 2] for row in ROWS],
        [(float(row), row / 8 + 0.3)[row % 2] for row in ROWS],
        [2**70 + row for row in ROWS],
        [None, 2**64, -(2**63) - 1] * 20,
        ["12", 2**64, "x"] * 20,
    ],
    ids=["whole among fractions", "fractions of zero", "beyond 64 bits", "some beyond", "texts beside"],
)
def test_numbers_of_json_are_written_as_they_were(tmp_path: Path, values: list[float | str | None]) -> None:
    comes_back_from_json(tmp_path / "t.jsonl", values)


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_frames_stay_texts(name: str) -> None:
    for frame in (pd.DataFrame({"x": TEXTS[name]}), pl.DataFrame({"x": TEXTS[name]})):
        back = FrameTemplate.of(frame).frame(rows_of(to_table(frame)))
        assert list(back["x"]) == TEXTS[name]


def test_objects_of_python_come_back_as_such() -> None:
    frame = pd.DataFrame({
        "whole": pd.Series([1, None, 3] * 9, dtype=object),
        "true": pd.Series([True, None, False] * 9, dtype=object),
        "lists": pd.array([[1, 2], [3], None] * 9, dtype=pd.ArrowDtype(pa.list_(pa.int8()))),
        "n": range(27),
    })  # fmt: skip
    back = FrameTemplate.of(frame).frame(rows_of(to_table(frame)))
    assert list(map(repr, back["whole"])) == list(map(repr, frame["whole"]))
    assert list(map(repr, back["true"])) == list(map(repr, frame["true"]))
    assert back.dtypes.map(repr).tolist() == frame.dtypes.map(repr).tolist()


def test_lists_of_categories_of_polars_come_back() -> None:
    frame = pl.DataFrame({"x": pl.Series([["a", "b"], ["b"], None], dtype=pl.List(pl.Categorical))})
    back = FrameTemplate.of(frame).frame(to_table(frame))
    assert back.schema == frame.schema
    assert back["x"].to_list() == frame["x"].to_list()
