"""Frames: what goes in comes out as the same kind of frame, with the same dtypes; odd frames are refused by name."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from difflm.errors import BundleError, DataError
from difflm.records.files.reading import read_table
from difflm.records.files.restoring import restored
from difflm.records.frames.frames import FrameTemplate, arrow_of, filled_in, library_of, pandas_frame, to_table
from difflm.records.kinds.inference import infer_schema
from difflm.records.notices import Notice

MOMENTS = ["2020-01-01 00:00", "2021-05-05 10:00", "2022-07-01 00:30"]


def people() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "whole": pd.array([1, 2, None], dtype="Int64"),
            "small": np.array([1, 2, 3], dtype=np.int16),
            "letter": pd.Categorical(["x", "y", None], categories=["x", "y", "z"]),
            "moment": pd.to_datetime(MOMENTS).tz_localize("Europe/Berlin"),
            "day": pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"]),
            "number": [1.5, 2.0, np.nan],
            "text": ["q", None, "w"],
            "true": [True, False, True],
            "maybe": pd.array([True, None, False], dtype="boolean"),
            "waited": pd.to_timedelta([1, 2, 3], unit="h"),
            "string": pd.array(["a", "b", None], dtype="string"),
        }
    )


def test_a_pandas_frame_comes_back_with_its_dtypes_and_values() -> None:
    frame = people()
    made = FrameTemplate.of(frame).frame(to_table(frame))
    pd.testing.assert_frame_equal(made, frame)
    assert made["letter"].cat.categories.tolist() == ["x", "y", "z"]


def test_a_polars_frame_comes_back_with_its_dtypes_and_values() -> None:
    frame = pl.DataFrame(
        {
            "whole": pl.Series([1, 2, None], dtype=pl.UInt16),
            "letter": pl.Series(["x", "y", None], dtype=pl.Enum(["x", "y", "z"])),
            "moment": pl.Series([dt.datetime(2020, 1, 1, 5, tzinfo=dt.UTC)] * 3),
            "day": [dt.date(2020, 1, 1)] * 3,
            "time": [dt.time(10, 5)] * 3,
            "number": [1.5, None, 2.0],
        }
    )
    made = FrameTemplate.of(frame).frame(to_table(frame))
    assert made.schema == frame.schema
    assert made.equals(frame)


def test_an_arrow_table_comes_back_with_its_types() -> None:
    table = pa.table(
        {
            "letter": pa.array(["x", "y", "x"]).dictionary_encode(),
            "day": pa.array([dt.date(2020, 1, 1)] * 3, pa.date32()),
            "moment": pa.array([dt.datetime(2020, 1, 1, 5)] * 3, pa.timestamp("ms")),
            "money": pa.array([1, 2, 3], pa.decimal128(9, 2)),
            "whole": pa.array([1, None, 3], pa.uint8()),
        }
    )
    made = FrameTemplate.of(table).frame(to_table(table))
    assert made.schema.types == table.schema.types
    assert made.to_pylist() == table.to_pylist()


def test_a_frame_is_read_as_the_parquet_file_of_it_would_be(tmp_path: Path) -> None:
    frame = people()
    pq.write_table(arrow_of(frame, name="table"), tmp_path / "people.parquet")
    assert to_table(frame).equals(read_table(tmp_path / "people.parquet"))


def test_nested_cells_are_kept_as_text_and_reported() -> None:
    notices: list[Notice] = []
    table = to_table(pl.DataFrame({"list": [[1, 2], [3]]}), report=notices.append)
    assert table.column("list").to_pylist() == ["[1, 2]", "[3]"]
    assert [notice.code for notice in notices] == ["nested"]


def test_columns_with_odd_names_get_them_back() -> None:
    frame = pd.DataFrame({" age ": [1, 2], "line\nbreak": ["a", "b"]})
    table = to_table(frame)
    assert table.column_names == ["age", "line break"]
    assert FrameTemplate.of(frame).frame(table).columns.tolist() == [" age ", "line\nbreak"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (people().iloc[:0], r"rows: 0 rows, 11 columns; give a table with at least one row"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), r"rows: two columns are called 'a'; rename one"),
        (pa.table([[1], [2]], names=["a", "a"]), r"rows: two columns are called 'a'"),
        (pd.DataFrame({"m": [1, "a", [2]]}), r"rows: column 'm' holds values of several types \(int, list, str\)"),
        ({"a": [1]}, r"rows: a dict is no table; give a pandas or polars DataFrame"),
        (pd.Series([1]), r"rows: a Series is no table"),
    ],
)
def test_what_is_no_usable_table_is_named(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        to_table(given, name="rows")


def test_a_template_survives_the_disk_and_damage_is_named(tmp_path: Path) -> None:
    template = FrameTemplate.of(people())
    (tmp_path / "frame.json").write_bytes(template.dumped())
    assert FrameTemplate.read(tmp_path) == template
    assert FrameTemplate.read(tmp_path / "elsewhere") is None
    (tmp_path / "frame.json").write_text('{"format_version": 99, "library": "pandas"}')
    with pytest.raises(BundleError, match=r"frame\.json: of format 99"):
        FrameTemplate.read(tmp_path)
    (tmp_path / "frame.json").write_text("[")
    with pytest.raises(BundleError, match=r"frame\.json: not readable"):
        FrameTemplate.read(tmp_path)


RARE = "Morbus Quackenbush"


def categories(name: str) -> Any:
    """A frame whose types list a value of one row, and one of none."""
    values = ["Rome", "Oslo"] * 50 + [RARE]
    match name:
        case "pandas":
            frame = pd.DataFrame({"city": pd.Categorical(values, ["Oslo", RARE, "Rome", "nobody's"], ordered=True)})
            frame.attrs = {"source": f"of {RARE}"}
            return frame
        case "polars":
            kind = pl.Enum(["Oslo", RARE, "Rome", "nobody's"])
            nested = pl.Series("nested", [[value] for value in values], pl.List(kind))
            return pl.DataFrame({"city": pl.Series(values, dtype=kind), "nested": nested})
        case "arrow":
            about = pa.field("city", pa.dictionary(pa.int8(), pa.string()), metadata={"of": RARE})
            plain = pa.array(values).dictionary_encode().cast(about.type)
            return pa.Table.from_arrays([plain], schema=pa.schema([about], metadata={"source": f"of {RARE}"}))
        case _:
            return pa.table({"city": pa.array([value * 3 for value in values], pa.string_view())})


@pytest.mark.parametrize("library", ["pandas", "polars", "arrow", "views"])
def test_a_bundle_is_told_no_value_that_its_schema_does_not_list(library: str, tmp_path: Path) -> None:
    """Types, their metadata and what views look at held values of single rows."""
    frame = categories(library)
    template = FrameTemplate.of(frame).kept(infer_schema(pa.table({"city": ["Rome", "Oslo"] * 50}), target=None))
    (tmp_path / "frame.json").write_bytes(template.dumped())
    again = FrameTemplate.read(tmp_path)
    assert again is not None
    for word in (RARE, "nobody"):
        assert word.encode() not in again.empty
    made = again.frame(pa.table({"city": ["Oslo", "Rome", "a new one"]}))
    match library:
        case "pandas":
            assert made["city"].cat.categories.tolist() == ["Oslo", "Rome", "a new one"]
            assert made["city"].cat.ordered
            assert made["city"].tolist() == ["Oslo", "Rome", "a new one"]
        case "polars":
            assert made.schema == {"city": pl.Enum(["Oslo", "Rome", "a new one"])}
            assert made["city"].to_list() == ["Oslo", "Rome", "a new one"]
        case _:
            assert made.schema.types == frame.schema.types
            assert made["city"].to_pylist() == ["Oslo", "Rome", "a new one"]


def test_categories_that_a_schema_does_not_list_are_those_of_the_rows() -> None:
    frame = pd.DataFrame({"size": pd.Categorical([1, 2, 3] * 30), "flag": pd.Categorical([True, False, True] * 30)})
    table = to_table(frame)
    template = FrameTemplate.of(frame).kept(infer_schema(table, target=None))
    made = template.frame(table.slice(0, 3))
    assert made["size"].tolist() == [1, 2, 3]
    assert made["flag"].tolist() == [True, False, True]
    assert made.dtypes.map(str).tolist() == ["category", "category"]


def test_what_cannot_be_cast_stays_as_it_was_written() -> None:
    texts = pa.chunked_array([["2020-01-01", "later"]])
    assert restored(texts, pa.timestamp("s")).equals(texts)


def test_a_missing_whole_number_does_not_break_a_frame_without_room_for_it() -> None:
    template = FrameTemplate.of(pd.DataFrame({"age": [1, 2]}))
    made = template.frame(pa.table({"age": [1, None]}))
    assert made["age"].isna().tolist() == [False, True]


def test_rows_of_a_file_come_back_as_pandas() -> None:
    assert library_of(pandas_frame(pa.table({"a": [1]})), name="rows") == "pandas"


@pytest.mark.parametrize(
    "columns",
    [
        pd.Index([3, 7]),
        pd.Index([1.5, "a"], dtype=object),
        pd.Index(["x", "y"], name="heading"),
        pd.MultiIndex.from_tuples([("a", 1), ("a", 2)], names=["upper", None]),
        pd.Index([("a", 1), "b"], tupleize_cols=False),
    ],
)
def test_labels_of_pandas_come_back(columns: pd.Index[Any]) -> None:
    frame = pd.DataFrame([[1, 2], [3, 4]])
    frame.columns = columns
    back = FrameTemplate.of(frame).frame(to_table(frame))
    pd.testing.assert_index_equal(back.columns, columns)


def test_labels_that_json_lacks_come_back_as_text() -> None:
    frame = pd.DataFrame({pd.Timestamp("2020-01-01"): [1, 2]})
    assert FrameTemplate.of(frame).frame(to_table(frame)).columns.tolist() == ["2020-01-01 00:00:00"]


def test_objects_and_dtypes_of_arrow_come_back_in_pandas() -> None:
    moments = [dt.datetime(2020, 1, 1, 8), None]
    frame = pd.DataFrame(
        {
            "day": [dt.date(2020, 1, 1), dt.date(2020, 1, 2)],
            "price": [Decimal("1.50"), Decimal("22.25")],
            "at": [dt.time(1, 2), dt.time(3, 4)],
            "raw": [b"a", b"b"],
            "arrow_price": pd.array([Decimal("1.50"), None], dtype=pd.ArrowDtype(pa.decimal128(10, 2))),
            "arrow_text": pd.array(["a", None], dtype=pd.ArrowDtype(pa.string())),
            "arrow_moment": pd.array(moments, dtype=pd.ArrowDtype(pa.timestamp("us"))),
            "text": pd.array(["a", None], dtype="string[pyarrow]"),
        }
    )
    back = FrameTemplate.of(frame).frame(to_table(frame))
    pd.testing.assert_frame_equal(back, frame)
    assert back.dtypes.map(repr).tolist() == frame.dtypes.map(repr).tolist()


def test_sparse_columns_are_made_dense_and_intervals_come_back() -> None:
    ages = pd.cut(pd.Series([1, 2, 3]), 3)
    frame = pd.DataFrame({"flag": pd.arrays.SparseArray([0, 0, 1]), "ages": ages, "bins": pd.interval_range(0, 3)})
    back = FrameTemplate.of(frame).frame(to_table(frame))
    assert back["flag"].tolist() == [0, 0, 1]
    pd.testing.assert_frame_equal(back[["ages", "bins"]], frame[["ages", "bins"]])
    drawn = to_table(frame).set_column(2, "bins", [["(0, 1]", "none", "(2, 3]"]])
    assert FrameTemplate.of(frame).frame(drawn)["bins"].tolist() == ["(0, 1]", "none", "(2, 3]"]


def test_nested_values_of_polars_come_back() -> None:
    frame = pl.DataFrame({"list": [[1, 2], [3]], "struct": [{"a": 1}, {"a": 2}]})
    table = to_table(frame)
    assert table.column("list").to_pylist() == ["[1, 2]", "[3]"]
    assert FrameTemplate.of(frame).frame(table).equals(frame)


def test_small_indices_of_dictionaries_come_back() -> None:
    kind = pa.dictionary(pa.int8(), pa.large_string(), ordered=True)
    table = pa.table({"city": pa.chunked_array([pa.array(["Rome", "Oslo"]).dictionary_encode().cast(kind)])})
    assert FrameTemplate.of(table).frame(to_table(table)).schema == table.schema


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)}), r"rows: column 'o' is of the type Object"),
        (
            pa.table({"i": pa.array([(1, 2, 3)], pa.month_day_nano_interval())}),
            r"rows: column 'i' is of the type month",
        ),
    ],
)
def test_a_type_that_cannot_be_read_is_named_with_its_column(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        to_table(given, name="rows")


def test_texts_of_pandas_keep_what_a_missing_one_is() -> None:
    with pd.option_context("future.infer_string", True):
        frame = pd.DataFrame({"text": ["a", None, "b"]})
        back = FrameTemplate.of(frame).frame(to_table(frame))
    assert repr(back.dtypes["text"]) == repr(frame.dtypes["text"])


def test_a_subclass_of_a_frame_is_one() -> None:
    class Mapped(pd.DataFrame):
        pass

    assert library_of(Mapped({"a": [1]}), name="rows") == "pandas"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"\ud800": [1, 2]}, r"a column is called '\\ud800', which is no Unicode; rename it"),
        (
            {"a": [Decimal("Infinity"), Decimal(1)]},
            "column .a. holds values of several types .Decimal., or of one",
        ),
    ],
)
def test_what_arrow_cannot_hold_is_named(columns: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        arrow_of(pd.DataFrame(columns), name="table")


def test_a_wide_frame_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names were counted one by one: 21,000 columns took minutes before they were refused."""
    monkeypatch.setattr("difflm.records.limits.MAX_COLUMNS", 3)
    monkeypatch.setattr("difflm.records.frames.pandas_frames.storable", None)
    with pytest.raises(DataError, match="table: 4 columns; at most 3 are read"):
        arrow_of(pd.DataFrame([[1, 2, 3, 4]]), name="table")


def test_a_text_that_is_no_unicode_is_named() -> None:
    with pytest.raises(DataError, match=r"rows: column 'a' has a text that is no Unicode .*ud800"):
        to_table(pd.DataFrame({"a": ["\ud800"]}), name="rows")


@pytest.mark.parametrize("zone", [dt.timezone(dt.timedelta(hours=2)), dt.UTC, "UTC", "Asia/Tokyo"])
def test_zones_of_pandas_come_back(zone: Any) -> None:
    frame = pd.DataFrame({"at": pd.to_datetime(MOMENTS).tz_localize(zone)})
    back = FrameTemplate.of(frame).frame(to_table(frame))
    pd.testing.assert_frame_equal(back, frame)
    assert back.dtypes["at"] == frame.dtypes["at"]


@pytest.mark.parametrize(
    "field",
    [
        pa.field("a", pa.timestamp("ns", "+99:99")),
        pa.field("a", pa.month_day_nano_interval()),
        pa.field("a", pa.dictionary(pa.uint32(), pa.string()), metadata={"_PL_ENUM_VALUES2": "99;a"}),
    ],
)
def test_what_polars_panics_at_is_named(tmp_path: Path, field: pa.Field) -> None:
    """A panic of a library in Rust is no Exception."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, pa.schema([field])):
        pass
    (tmp_path / "frame.json").write_bytes(FrameTemplate(library="polars", empty=sink.getvalue()).dumped())
    with pytest.raises(BundleError, match=r"frame\.json: not readable .*; remove the file"):
        FrameTemplate.read(tmp_path)


def test_a_template_that_fills_the_memory_is_refused_before_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, column = io.BytesIO(), pa.DictionaryArray.from_arrays(pa.array([], pa.int32()), pa.array(["x" * 2**20] * 300))
    with pa.ipc.new_stream(
        sink, pa.schema([("a", column.type)]), options=pa.ipc.IpcWriteOptions(compression="zstd")
    ) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([column], ["a"]))
    (tmp_path / "frame.json").write_bytes(FrameTemplate(library="pandas", empty=sink.getvalue()).dumped())
    monkeypatch.setattr(pa.ipc, "open_stream", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(BundleError, match="a frame without rows that unpacks to 31"):
        FrameTemplate.read(tmp_path)


@pytest.mark.parametrize("empty", [pl.DataFrame({"a": [dt.datetime(2020, 1, 1)]}), pl.DataFrame({"a": [1]})])
def test_a_value_that_a_polars_column_cannot_hold_is_kept_or_named(empty: pl.DataFrame) -> None:
    with contextlib.suppress(DataError):
        FrameTemplate.of(empty).frame(pa.table({"a": ["2020-02-30"]}))


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame, pa.table])
@pytest.mark.parametrize(
    "values", [[b"abcd", b"beef"], [b"12", b"34"], [b"1.5", None], [b"Rome", b"\xff"], [b"\xab\xcd", b"\x00\x01"]]
)
def test_bytes_come_back_also_those_that_look_like_digits(
    kind: Any, values: list[bytes | None], tmp_path: Path
) -> None:
    """b"abcd" came back as the two bytes that its letters are as hexadecimal digits."""
    frame = kind({"raw": values})
    (tmp_path / "frame.json").write_bytes(FrameTemplate.of(frame).dumped())
    template = FrameTemplate.read(tmp_path)
    assert template is not None
    read = to_table(frame)
    assert arrow_of(template.frame(read), name="made").column("raw").to_pylist() == values
    if values[0] == b"12":  # a bundle writes such a column as numbers
        made = template.frame(pa.table({"raw": [12, 34]}))
        assert arrow_of(made, name="made").column("raw").to_pylist() == values


def test_text_is_not_filled_in_beside_bytes_that_are_none() -> None:
    """The given b"Rome" came back as the letters of its digits."""
    frame = pd.DataFrame({"city": [b"Rome", None, b"\xff"]})
    with pytest.raises(DataError, match="column 'city' holds bytes that are no text"):
        filled_in(frame, pa.table({"city": ["526f6d65", "Oslo", "ff"]}), name="table")
    made = filled_in(frame, pa.table({"city": ["526f6d65", "fe", "ff"]}), name="table")
    assert made["city"].tolist() == [b"Rome", b"\xfe", b"\xff"]


@pytest.mark.parametrize(
    ("wanted", "filled", "kept"),
    [
        (pl.Null, [1.5, 2.0], pl.Float64),
        (pl.Null, ["a", "b"], pl.String),
        (pl.Int8, [1.5, 2.0], pl.Float64),
        (pl.Int8, [1.0, 2.0], pl.Int8),
        (pl.Int8, [1000, 2], pl.Int64),
        (pl.Categorical, ["a", "b"], pl.Categorical),
    ],
)
def test_what_is_filled_in_a_polars_column_stays_where_its_dtype_cannot_hold_it(
    wanted: Any, filled: list[Any], kept: Any
) -> None:
    """A column of nothing is the plain way to ask for all of it, and came back as nothing."""
    frame = pl.DataFrame({"income": pl.Series([None, None], dtype=wanted), "age": [1, 2]})
    made = filled_in(frame, pa.table({"income": filled, "age": [1, 2]}), name="gaps")
    assert made["income"].to_list() == filled
    assert made["income"].dtype == kept


@pytest.mark.parametrize("kind", ["int64", "float64", "datetime64[us]"])
@pytest.mark.parametrize("listed", [True, False], ids=["categories", "values"])
def test_intervals_of_pandas_come_back(kind: str, listed: bool) -> None:
    edges = pd.Index(np.array([0, 3, 7, 20])).astype(kind)
    values = pd.arrays.IntervalArray.from_breaks(edges, closed="left").take([0, 2, 1, 1, -1], allow_fill=True)
    column = pd.Series(values, name="bin")
    frame = pd.DataFrame({"bin": column.astype("category") if listed else column, "n": range(5)})
    made = FrameTemplate.of(frame).frame(to_table(frame))
    pd.testing.assert_frame_equal(made, frame)


def test_an_arrow_field_that_is_never_missing_stays_so_where_nothing_is() -> None:
    fields = [pa.field("n", pa.int64(), nullable=False), pa.field("m", pa.int64(), nullable=False)]
    template = FrameTemplate.of(pa.table({"n": [1, 2], "m": [1, 2]}, schema=pa.schema(fields)))
    made = template.frame(pa.table({"n": [3, 4], "m": [3, None]}))
    assert [field.nullable for field in made.schema] == [False, True]


def test_an_arrow_type_that_no_file_has_is_named() -> None:
    column = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])])
    with pytest.raises(DataError, match=r"table: column 'mixed' is of the type sparse_union<.*>, which no table file"):
        to_table(pa.table({"n": [1, 2], "mixed": column}))
