"""Nested values of Arrow: any list, object or map comes back with its type, or is told in one line."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from difflm.artifacts.formats import encode_table
from difflm.records.codec import Accepted
from difflm.records.files.reading import read_table
from difflm.records.files.source import SourceForm
from difflm.records.frames.frames import FrameTemplate, to_table
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.columns import conform_table
from difflm.records.kinds.inference import infer_schema
from difflm.records.kinds.json_texts import text_form
from difflm.records.kinds.seen_json import loosened
from difflm.records.nested_values import fits_json, nested_of
from difflm.records.notices import Notice
from difflm.records.schema import TextField

ROWS = range(60)
DAY, MOMENT = dt.date(2024, 3, 5), dt.datetime(2024, 3, 5, 8, 30, 15)
DAYS = [DAY + dt.timedelta(row * 17) for row in ROWS]
MOMENTS = [MOMENT + dt.timedelta(hours=row * 7) for row in ROWS]
DEEP = pa.struct({"a": pa.list_(pa.struct({"d": pa.date32(), "t": pa.list_(pa.timestamp("s"))})), "n": pa.null()})
NESTED: dict[str, pa.Array] = {
    "dates": pa.array([[day, None][: row % 3] for row, day in enumerate(DAYS)], pa.list_(pa.date32())),
    "leap days": pa.array([[dt.date(2000 + 4 * (row % 6), 2, 29), DAYS[row]] for row in ROWS], pa.list_(pa.date32())),
    "dates in milliseconds": pa.array([[day] for day in DAYS], pa.large_list(pa.date64())),
    "two dates": pa.array([[day, day] for day in DAYS], pa.list_(pa.date32(), 2)),
    "view of dates": pa.array([[day] for day in DAYS], pa.list_view(pa.date32())),
    "moments": pa.array([[at] if at.hour % 5 else None for at in MOMENTS], pa.list_(pa.timestamp("us"))),
    "nanoseconds": pa.array([[1_700_000_000_123_456_789 + row * 10**15] for row in ROWS], pa.list_(pa.timestamp("ns"))),
    "zoned": pa.array([[at] for at in MOMENTS], pa.list_(pa.timestamp("ms", "Europe/Berlin"))),
    "utc": pa.array([[at] for at in MOMENTS], pa.list_(pa.timestamp("us", "UTC"))),
    "times": pa.array([[dt.time(row % 24, row, 7)] for row in ROWS], pa.list_(pa.time32("s"))),
    "fine times": pa.array([[row * 10**9 * 977 + row] for row in ROWS], pa.list_(pa.time64("ns"))),
    "decimals": pa.array([[Decimal(row) / 4, None] for row in ROWS], pa.list_(pa.decimal128(9, 2))),
    "long decimals": pa.array([{"a": Decimal(-row) / 8} for row in ROWS], pa.struct({"a": pa.decimal256(50, 3)})),
    "durations": pa.array([[dt.timedelta(seconds=row)] for row in ROWS], pa.list_(pa.duration("ms"))),
    "bytes": pa.array([[bytes([row, 255]) * (row % 3)] for row in ROWS], pa.list_(pa.binary())),
    "two bytes": pa.array([[bytes([row, 255])] for row in ROWS], pa.list_(pa.binary(2))),
    "dictionary": pa.array([["Rome", f"O{row}"] for row in ROWS], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
    "map": pa.array([[("a", row), ("b", None)] for row in ROWS], pa.map_(pa.string(), pa.int32())),
    "map of whole numbers": pa.array([[(row % 7, f"x{row}")] for row in ROWS], pa.map_(pa.int32(), pa.string())),
    "map to dates": pa.array([[("k", day)] for day in DAYS], pa.map_(pa.string(), pa.date32())),
    "map of many": pa.array(
        [[(row, "x"), (row * 3 + 100, f"{row}")] for row in ROWS], pa.map_(pa.int16(), pa.string())
    ),
    "map of days": pa.array([[(day, 1), (day + dt.timedelta(1), 2)] for day in DAYS], pa.map_(pa.date32(), pa.int8())),
    "seconds and microseconds": pa.array(
        [{"a": row, "b": row * 7919} for row in ROWS],
        pa.struct({"a": pa.timestamp("s"), "b": pa.timestamp("us")}),
    ),
    "nulls": pa.array(
        [{"a": [[None] * 3], "b": day} for day in DAYS] + [None] * 3,
        pa.struct(
            {
                "a": pa.list_(pa.list_(pa.null(), 3)),
                "b": pa.date32(),
            }
        ),
    ),
    "deep": pa.array([{"a": [{"d": day, "t": MOMENTS[:1]}], "n": None} for day in DAYS], DEEP),
    "large texts": pa.array([[f"t{row}"] for row in ROWS], pa.list_(pa.large_string())),
    "no value": pa.array([[None] for _ in ROWS], pa.list_(pa.date32())),
    "encoded runs": pa.RunEndEncodedArray.from_arrays([20, 60], pa.array([5, 6], pa.int16())),
}
TOLD: dict[str, pa.Array] = {
    "a key twice": pa.array([[("k", row), ("k", row + 1)] for row in ROWS], pa.map_(pa.string(), pa.int32())),
    "thousands": pa.array([[Decimal("1000") * row] for row in ROWS], pa.list_(pa.decimal128(7, -3))),
}


def read_and_form(path: Path, values: pa.Array) -> tuple[pa.Table, SourceForm, list[str]]:
    """Read a column from an Arrow file; the form that its made rows have, and what was told about types."""
    table = pa.table({"v": values, "n": pa.array(range(len(values)))})
    with pa.ipc.new_file(path, table.schema) as sink:
        sink.write_table(table)
    notices: list[Notice] = []
    read = read_table(path, report=notices.append)
    form = SourceForm.of(read)
    assert form is not None
    form = form.kept(infer_schema(read), notices.append)
    return read, form, [notice.message for notice in notices if notice.code == "kept_as_text"]


@pytest.mark.parametrize("name", NESTED)
def test_a_nested_type_comes_back_with_its_values(tmp_path: Path, name: str) -> None:
    read, form, told = read_and_form(tmp_path / "t.arrow", NESTED[name])
    rows = conform_table(read, infer_schema(read))
    made = pa.ipc.open_file(encode_table(rows, "arrow", form=form)).read_all().column("v")
    assert made.type == NESTED[name].type
    assert made.to_pylist() == NESTED[name].to_pylist()
    assert told == []


@pytest.mark.parametrize("name", TOLD)
def test_a_nested_type_that_made_rows_may_not_fit_is_told(tmp_path: Path, name: str) -> None:
    read, form, told = read_and_form(tmp_path / "t.arrow", TOLD[name])
    (message,) = told
    assert str(TOLD[name].type) in message
    made = pa.ipc.open_file(encode_table(read, "arrow", form=form)).read_all()
    assert made.column("v").type == pa.string()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("dates", '["2024-02-30"]'),
        ("dates", '["soon"]'),
        ("zoned", '["2024-03-05 08:30:15"]'),
        ("times", '["25:00:00"]'),
        ("decimals", '["12.345", null]'),
        ("two bytes", '["0x0"]'),
    ],
)
def test_a_made_text_that_is_none_of_the_type_is_no_row(tmp_path: Path, name: str, wrong: str) -> None:
    read, _, _ = read_and_form(tmp_path / "t.arrow", NESTED[name])
    codec = JsonRecordCodec(infer_schema(read))
    line = next(iter(codec.encode_table(read)))
    assert isinstance(codec.decode(line), Accepted)
    assert not isinstance(codec.decode(json.dumps({"v": wrong, "n": 0})), Accepted)


@pytest.mark.parametrize("name", ["dates", "zoned", "times", "decimals", "bytes", "deep"])
def test_a_schema_of_protected_values_keeps_the_type(tmp_path: Path, name: str) -> None:
    read, _, _ = read_and_form(tmp_path / "t.arrow", NESTED[name])
    field = infer_schema(read).field("v")
    assert isinstance(field, TextField)
    assert field.json_schema is not None
    assert fits_json(NESTED[name].type, loosened(field.json_schema))


def test_formats_of_texts_are_those_of_all_of_them() -> None:
    assert text_form(["2024-02-29", "2019-12-31"])["format"] == "date"
    assert text_form(["2023-02-29"]) == {}
    assert text_form(["2024-02-29", "later"]) == {}
    assert text_form(["2024-02-29", "2024-02-29 10:00:00"]) == {}
    assert text_form(["007", "12"])["pattern"] == "^(?:[0-9]{2}|[0-9]{3})$"


def test_lists_and_dicts_of_pandas_come_back_as_such() -> None:
    frame = pd.DataFrame(
        {
            "days": [[DAY, DAY], [], None] * 4,
            "place": [{"lat": 1.5, "tags": ["a"]}, {"lat": 2.5, "tags": []}, None] * 4,
            "n": range(12),
        }
    )
    back = FrameTemplate.of(frame).frame(to_table(frame))
    assert back["days"].tolist() == frame["days"].tolist()
    assert back["place"].tolist() == frame["place"].tolist()


def test_json_that_is_none_of_a_type_is_refused() -> None:
    with pytest.raises((pa.ArrowException, ValueError)):
        nested_of(pa.chunked_array([['["x"]']]), pa.list_(pa.date32()))
