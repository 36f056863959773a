"""Formats: every one gives the rows back, in one piece or in many."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from difflm.artifacts.formats import FORMATS, decode_table, encode_table, table_writer
from difflm.errors import DataError

TABLE = pa.table({"name": ["a,b", 'c"d', "é"], "x": [1.5, None, 2.0], "ok": [True, None, False]})


def test_parquet_and_arrow_give_the_table_back() -> None:
    assert pq.read_table(io.BytesIO(encode_table(TABLE, "parquet"))).equals(TABLE)
    assert pa.ipc.open_file(encode_table(TABLE, "arrow")).read_all().equals(TABLE)


def test_csv_quotes_only_what_needs_it() -> None:
    text = encode_table(TABLE, "csv").decode()
    assert text == 'name,x,ok\n"a,b",1.5,true\n"c""d",,\né,2.0,false\n'


def test_json_lines_keep_missing_values() -> None:
    lines = encode_table(TABLE, "jsonl").decode().splitlines()
    assert [json.loads(line) for line in lines] == TABLE.to_pylist()


@pytest.mark.parametrize("format_", FORMATS)
def test_the_same_rows_give_the_same_bytes(format_: str) -> None:
    assert encode_table(TABLE, format_) == encode_table(TABLE.slice(0), format_)


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
def test_text_in_pieces_is_the_text_in_one(format_: str) -> None:
    sink = io.BytesIO()
    with table_writer(format_, sink, TABLE.schema) as write:
        write(TABLE.slice(0, 1))
        write(TABLE.slice(1))
    assert sink.getvalue() == encode_table(TABLE, format_)


@pytest.mark.parametrize("format_", FORMATS)
def test_no_rows_are_a_file_too(format_: str) -> None:
    assert (len(encode_table(TABLE.slice(0, 0), format_)) > 0) == (format_ != "jsonl")


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("rows", [0, 4])
def test_what_is_written_is_read_as_it_was(format_: str, rows: int) -> None:
    columns = {
        "name": ["a,b", 'c"d\n', None, "2020-01-01"],
        "x": [1.5, None, 0.1 + 0.2, -1e300],
        "n": [2**62, None, -1, 0],
        "ok": [True, None, False, True],
    }
    table = pa.table(columns).slice(0, rows)
    assert decode_table(encode_table(table, format_), format_, table.schema).equals(table)


@pytest.mark.parametrize("kind", [pa.decimal128(5, 300_000_000), pa.decimal128(5, -3), pa.month_day_nano_interval()])
def test_a_type_that_parquet_lacks_is_named(kind: pa.DataType) -> None:
    table = pa.table({"a": pa.nulls(1, kind)})
    with pytest.raises(DataError, match=r"^Parquet has no type of a column \(.*\); write \.arrow"):
        encode_table(table, "parquet")
