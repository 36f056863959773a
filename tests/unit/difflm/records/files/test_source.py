"""The source's form: rows made of a table come back as its file had them, in dialect, names, types and nesting."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from difflm.artifacts.formats import encode_table
from difflm.errors import DataError, SchemaError
from difflm.records.files.reading import ReadConfig, read_table
from difflm.records.files.source import SOURCE_NAME, SourceForm
from difflm.records.files.typed_form import TypedForm
from difflm.records.kinds.columns import conform_table
from difflm.records.kinds.inference import infer_schema
from difflm.records.notices import Notice
from difflm.records.schema import SchemaConfig, TextField


def there_and_back(path: Path, config: ReadConfig | None = None) -> bytes:
    """Read a file, and write its rows as a bundle would write made ones."""
    table = read_table(path, config)
    read = SourceForm.of(table)
    assert read is not None
    form = SourceForm.parsed_json(read.dumped(), "form")
    assert form == read
    schema = infer_schema(table)
    rows = conform_table(table, schema)
    format_ = "parquet" if form.typed else "jsonl" if form.json_ else "csv"
    written = encode_table(rows, format_, form=form)
    parts = form.parsed(written, format_, rows.schema)  # as the evaluators read parts of a dataset
    assert parts is not None
    assert conform_table(parts, schema).equals(rows)
    return written


CSV = "id;name;price;n;flag\n" + "".join(
    f"{row};{('Ann', 'Bob', 'Zoë')[row % 3]};{row / 4:.2f};{row % 7};{('yes', 'no')[row % 2]}\n" for row in range(40)
)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (CSV, "utf-8"),
        (CSV, "utf-8-sig"),
        (CSV.replace("\n", "\r\n"), "utf-16"),
        (CSV, "cp1252"),
        (CSV.replace(";", "\t"), "utf-8"),
        (CSV.replace(";", ","), "utf-8"),
        (CSV.replace("\n", "\r"), "utf-8"),
        ("sep=;\n" + CSV, "utf-8"),
        (CSV.replace("\n", ";\n"), "utf-8"),
        (CSV.replace(";", "; "), "utf-8"),
        (CSV.replace(";0;", ";NA;"), "utf-8"),
        (CSV.replace("id;", ";"), "utf-8"),
        (CSV.replace("name", " name ;").replace("Ann", "Ann;").replace("Bob", "Bob;").replace("Zoë", "Zoë;x"), "utf-8"),
        ("\n".join(";".join(f'"{cell}"' for cell in row.split(";")) for row in CSV.splitlines()) + "\n", "utf-8"),
        ("".join(row.replace("Ann", '"A;""n"') + "\n" for row in CSV.splitlines()), "utf-8"),
        ('"a","b"\n' + "".join(f'"{"xy"[row % 2]}",{row % 5}\n' for row in range(30)), "utf-8"),
        ("a,b\n" + "".join(f"{'' if row % 3 else row},{row % 5}\n" for row in range(30)), "utf-8"),
        ("a\n" + "".join('""\n' if row % 3 else f"{row}\n" for row in range(30)), "utf-8"),
        ("x,y\n" + "".join(f"{row % 4}.0,{'0.5' if row % 2 else row}\n" for row in range(30)), "utf-8"),
    ],
)
def test_a_delimited_file_comes_back_byte_for_byte(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode(encoding))
    assert there_and_back(path) == text.encode(encoding)


def test_a_file_without_a_header_comes_back_without_one(tmp_path: Path) -> None:
    path = tmp_path / "t.data"
    path.write_text("39, State-gov\n50, Private\n38, Private\n39, State-gov\n")
    assert there_and_back(path, ReadConfig(header=("age", "work"))) == path.read_bytes()


def test_a_preamble_is_not_repeated(tmp_path: Path) -> None:
    """What stands above a table is about that table, and may name somebody."""
    path = tmp_path / "t.csv"
    path.write_text("Sales of Ms Smith\n\na,b\n" + "1,x\n2,y\n" * 10)
    assert there_and_back(path) == ("a,b\n" + "1,x\n2,y\n" * 10).encode()


def test_the_defaults_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1,x\n2,y\n" * 10)
    form = SourceForm.of(read_table(path))
    assert form is not None
    assert json.loads(form.dumped()) == {"format_version": 1, "dialect": {}}


MOMENT = dt.datetime(2024, 3, 5, 8, 30, 15)
DAY = dt.date(2024, 3, 5)
TYPED: dict[str, pa.Array] = {
    "int8": pa.array([1, 2, None], pa.int8()),
    "uint16": pa.array([1, 60_000, 7], pa.uint16()),
    "uint64": pa.array([1, 2**64 - 1, 3], pa.uint64()),
    "float32": pa.array([0.1, None, 3.5], pa.float32()),
    "float16": pa.array(np.array([0.5, 1.5, 2.0], np.float16)),
    "bool": pa.array([True, False, None]),
    "date32": pa.array([DAY, DAY + dt.timedelta(1), None], pa.date32()),
    "date64": pa.array([DAY, DAY + dt.timedelta(1), None], pa.date64()),
    "moment_s": pa.array([MOMENT, MOMENT + dt.timedelta(1), None], pa.timestamp("s")),
    "moment_ns": pa.array([MOMENT, MOMENT + dt.timedelta(1), None], pa.timestamp("ns")),
    "millis": pa.array([1_700_000_000_123, 1_700_000_000_004, None], pa.timestamp("ms")),
    "nanos": pa.array([1_700_000_000_123_456_789, None, 1_600_000_000_000_000_001], pa.timestamp("ns", "UTC")),
    "time_ms": pa.array([30_600_250, 1, None], pa.time32("ms")),
    "time_ns": pa.array([30_600_250_000_007, 1, None], pa.time64("ns")),
    "midnight": pa.array([dt.datetime(2024, 3, 5), None, dt.datetime(2024, 3, 6)], pa.timestamp("us")),
    "zoned": pa.array([MOMENT, MOMENT + dt.timedelta(1), None], pa.timestamp("ms", "Europe/Berlin")),
    "time32": pa.array([dt.time(8, 30), dt.time(9, 15), None], pa.time32("s")),
    "time64": pa.array([dt.time(8, 30, 1, 500), dt.time(9, 15), None], pa.time64("us")),
    "duration": pa.array([dt.timedelta(1), dt.timedelta(2), None], pa.duration("ms")),
    "decimal": pa.array([Decimal("1.10"), Decimal("-2.25"), None], pa.decimal128(10, 2)),
    "dictionary": pa.array(["Rome", "Oslo", "Rome"]).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string())),
    "large": pa.array(["x", None, "y"], pa.large_string()),
    "words": pa.array(["NA", "", "?"], pa.string()),
    "fixed": pa.array([b"\x00\xff", b"ab", None], pa.binary(2)),
    "bytes": pa.array([b"abc", b"d", None], pa.binary()),
    "raw": pa.array([b"\xff\x00", b"d", None], pa.large_binary()),
    "list": pa.array([[1, 2], [], None], pa.list_(pa.int32())),
    "struct": pa.array([{"a": 1, "b": "x"}, {"a": None, "b": "y"}, None]),
    "days": pa.array([[DAY], [DAY, DAY], []], pa.list_(pa.date32())),
}


@pytest.mark.parametrize("name", TYPED)
def test_an_arrow_type_comes_back(tmp_path: Path, name: str) -> None:
    table = pa.table({name: pa.chunked_array([TYPED[name]] * 12), "n": pa.array(range(36), pa.int32())})
    pq.write_table(table, tmp_path / "t.parquet")
    source = pq.read_table(tmp_path / "t.parquet")
    back = pq.read_table(io.BytesIO(there_and_back(tmp_path / "t.parquet")))
    assert back.schema.equals(source.schema)
    assert back.column("n").equals(source.column("n"))
    assert back.column(name).equals(source.column(name))
    assert back.column(name).null_count == source.column(name).null_count


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.jsonl", "t.ods"])
def test_columns_without_a_value_come_back_without_one(tmp_path: Path, name: str) -> None:
    """They are not learned, and whoever imports the rows looks for them."""
    kind, rows = name.partition(".")[2], 40
    table = pa.table({
        "none": pa.nulls(rows, pa.string()), "a": range(rows), "gone": pa.nulls(rows, pa.float64()),
        "more": pa.nulls(rows, pa.string()), "b": ["x", "y"] * (rows // 2),
    })  # fmt: skip
    (tmp_path / name).write_bytes(encode_table(table, kind))
    read = read_table(tmp_path / name)
    schema = infer_schema(read, config=SchemaConfig(drop_all_missing=True))
    form = SourceForm.of(read)
    assert form is not None
    form = form.kept(schema, list[Notice]().append, columns=read.column_names)
    assert SourceForm.parsed_json(form.dumped(), "source.json") == form
    assert form.kept(schema, list[Notice]().append).empty == form.empty == {"none": "", "gone": "a", "more": "gone"}
    made = conform_table(read, schema)
    content = encode_table(made, kind, form=form)
    (tmp_path / f"made.{kind}").write_bytes(content)
    again = read_table(tmp_path / f"made.{kind}")
    assert again.equals(read)
    if kind != "ods":
        parsed = form.parsed(content, kind, made.schema)
        assert parsed is not None
        assert parsed.column_names == ["a", "b"]
    if kind == "csv":
        assert content == (tmp_path / name).read_bytes()


def test_a_type_that_cannot_come_back_is_given_up_when_it_is_read() -> None:
    """And told then: not where rows are written, after everything was trained."""
    rows = pa.table({"v": ["a", "b"], "n": [1, 2]})
    types = pa.schema([("v", pa.timestamp("s")), ("n", pa.int8())])
    notices = list[Notice]()
    form = TypedForm.of(types.empty_table(), rows, {}).fitting(rows, notices.append)
    assert form.types() == pa.schema([("v", pa.string()), ("n", pa.int8())])
    (notice,) = notices
    assert (notice.column, notice.code) == ("v", "kept_as_text")
    assert notice.message == "of the type timestamp[s], which made rows cannot have; they have it as string"


@pytest.mark.parametrize(
    "values",
    [
        pa.RunEndEncodedArray.from_arrays([20, 36], ["Rome", "Oslo"]),
        pa.array([[1, 2], [], [3]] * 12, pa.list_view(pa.int32())),
        pa.array([Decimal("1000"), Decimal("2000"), Decimal("-7000")] * 12, pa.decimal128(5, -3)),
    ],
)
def test_an_odd_type_of_arrow_comes_back(tmp_path: Path, values: pa.Array) -> None:
    table = pa.table({"v": values, "n": range(36)})
    with pa.ipc.new_file(tmp_path / "t.arrow", table.schema) as sink:
        sink.write_table(table)
    notices = list[Notice]()
    read = read_table(tmp_path / "t.arrow", report=notices.append)
    form = SourceForm.of(read)
    assert form is not None
    form = form.kept(infer_schema(read), notices.append)
    made = pa.ipc.open_file(encode_table(conform_table(read, infer_schema(read)), "arrow", form=form)).read_all()
    assert made.schema.field("v").type == values.type
    assert made.column("v").to_pylist() == values.to_pylist()
    assert not [notice for notice in notices if notice.code == "kept_as_text"]


def test_a_uuid_of_arrow_comes_back(tmp_path: Path) -> None:
    values = [uuid.UUID(int=row) for row in range(20)]
    table = pa.table({"id": pa.array([value.bytes for value in values], pa.uuid()), "n": range(20)})
    with pa.ipc.new_file(tmp_path / "t.arrow", table.schema) as sink:
        sink.write_table(table)
    assert read_table(tmp_path / "t.arrow").column("id")[3].as_py() == str(values[3])
    assert pq.read_table(io.BytesIO(there_and_back(tmp_path / "t.arrow"))).column("id").to_pylist() == values


def test_the_type_of_free_texts_is_given_up_and_told(tmp_path: Path) -> None:
    """Nothing keeps a made text to 32 digits, or to JSON: the column is text then, and not an error after hours."""
    values = [bytes([row] * (row + 1)) for row in range(60)]
    pq.write_table(pa.table({"v": pa.array(values, pa.binary()), "g": ["p", "q"] * 30}), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert table.column("v")[1].as_py() == "0101"
    schema, form, notices = infer_schema(table), SourceForm.of(table), list[Notice]()
    assert form is not None
    kept = form.kept(schema, notices.append)
    assert [(notice.column, notice.code) for notice in notices] == [("v", "kept_as_text")]
    made = pa.table({"v": ["no digits"], "g": ["p"]})
    assert pq.read_table(io.BytesIO(encode_table(made, "parquet", form=kept))).to_pydict() == made.to_pydict()


def test_codes_of_a_form_keep_their_type_unless_it_is_nested(tmp_path: Path) -> None:
    """Made hexadecimal digits of one length are bytes again; a made list may be no JSON."""
    keys = [hashlib.sha256(bytes([row])).digest()[:16] for row in range(60)]
    lists = [[row, 10 + row] for row in range(10, 70)]
    pq.write_table(pa.table({"key": pa.array(keys, pa.binary(16)), "list": lists}), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    schema = infer_schema(table, config=SchemaConfig(kinds={"list": "code"}))
    form, notices = SourceForm.of(table), list[Notice]()
    assert {field.kind for field in schema.fields} <= {"code", "identifier"}
    assert form is not None
    kept = form.kept(schema, notices.append)
    assert [(notice.column, notice.code) for notice in notices] == [("list", "kept_as_text")]
    made = pa.table({"key": ["0f" * 16], "list": ["[01, 20]"]})
    back = pq.read_table(io.BytesIO(encode_table(made, "parquet", form=kept))).to_pydict()
    assert back == {"key": [b"\x0f" * 16], "list": ["[01, 20]"]}


def test_lists_and_objects_keep_their_types_where_json_of_the_schema_seen_fits_them(tmp_path: Path) -> None:
    rows = range(60)
    typed = {
        "list": pa.array([[row, row % 7] for row in rows], pa.list_(pa.int8())),
        "pair": pa.array([[row / 7, row / 3] for row in rows], pa.list_(pa.float64(), 2)),
        "struct": pa.array([{"a": row, "b": f"x{row}"} for row in rows], pa.struct({"a": pa.int8(), "b": pa.string()})),
        "days": pa.array([{"day": DAY + dt.timedelta(row)} for row in rows], pa.struct({"day": pa.date32()})),
    }
    pq.write_table(pa.table(typed), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    schema = infer_schema(table)
    form, notices = SourceForm.of(table), list[Notice]()
    assert form is not None
    kept = form.kept(schema, notices.append)
    assert not [notice for notice in notices if notice.code == "kept_as_text"]
    made = pq.read_table(io.BytesIO(encode_table(conform_table(table, schema), "parquet", form=kept)))
    for name in typed:
        assert made.schema.field(name).type == typed[name].type
        assert made.column(name).to_pylist() == typed[name].to_pylist()
    field = schema.field("list")
    assert isinstance(field, TextField)
    assert field.json_schema is not None
    assert field.json_schema["items"]["maximum"] == 59  # no made number is beyond the type


def test_names_come_back(tmp_path: Path) -> None:
    pq.write_table(pa.table([[1, 2] * 9, ["x", "y"] * 9], names=["", " b "]), tmp_path / "t.parquet")
    assert pq.read_table(io.BytesIO(there_and_back(tmp_path / "t.parquet"))).column_names == ["", " b "]


def test_a_value_that_the_type_cannot_hold_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": pa.array([1, 2], pa.int8())}), tmp_path / "t.parquet")
    form = SourceForm.of(read_table(tmp_path / "t.parquet"))
    with pytest.raises(DataError, match=r"column 'n': a value is no int8, the type of the source.*--dialect plain"):
        encode_table(pa.table({"n": [1000]}), "parquet", form=form)


def test_json_comes_back_as_json(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": 1, "tags": ["a"], "geo": {"lat": 1.5}, "note": None, " x ": "p"},
        {"id": 2, "tags": [], "note": "b", " x ": "q"},
    ] * 10
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "t.jsonl").write_text(text)
    assert there_and_back(tmp_path / "t.jsonl").decode() == text


def test_typed_files_know_missing_values_by_themselves(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"c": "NA", "n": null}\n{"c": "", "n": 1}\n')
    assert read_table(tmp_path / "t.jsonl").to_pydict() == {"c": ["NA", ""], "n": [None, 1]}
    assert read_table(tmp_path / "t.jsonl", ReadConfig(missing=("NA",))).column("c").to_pylist() == [None, ""]


def test_a_form_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / SOURCE_NAME).write_text('{"format_version": 2}')
    with pytest.raises(SchemaError, match=r"source.json: format_version: .*prepare the data again"):
        SourceForm.read(tmp_path)
    assert SourceForm.read(tmp_path / "elsewhere") is None
