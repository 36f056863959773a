"""Code: every character comes back, what cannot be learned is counted, and other encodings are named."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from difflm.errors import DataError
from difflm.records.codec import Accepted, Rejected
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.inference import infer_schema
from difflm.records.notices import Notice
from difflm.records.schema import SchemaConfig, TextField
from difflm.records.text_codec import read_code, usable_code, usable_held_out, usable_tools

PYTHON = SchemaConfig(kinds={"code": "python"})
ODD = 'def f():\r\n\treturn "\\u00e9\\\\ \x0c é 漢 \U0001f600"  # "quoted"\n'


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=4))
def test_every_character_comes_back(texts: list[str]) -> None:
    table = pa.table({"code": pa.array(texts, pa.string())})
    codec = JsonRecordCodec(infer_schema(table, config=SchemaConfig(kinds={"code": "text"})))
    for text in texts:
        line = codec.encode({"code": text})
        assert "\n" not in line
        assert codec.decode(line) == Accepted(record={"code": text})


def test_python_that_does_not_parse_is_rejected() -> None:
    schema = infer_schema(pa.table({"code": [ODD]}), config=PYTHON)
    field = schema.field("code")
    assert isinstance(field, TextField)
    assert field.language == "python"
    codec = JsonRecordCodec(schema)
    assert codec.decode(codec.encode({"code": ODD})) == Accepted(record={"code": ODD})
    decoded = codec.decode(codec.encode({"code": "def f("}))
    assert isinstance(decoded, Rejected)
    assert decoded.reason == "syntax"


def test_files_of_all_kinds_hold_the_same_code(tmp_path: Path) -> None:
    texts = [ODD, "x = 1\n"]
    (tmp_path / "src" / "deep").mkdir(parents=True)
    (tmp_path / "src" / "a.py").write_bytes(ODD.encode())
    (tmp_path / "src" / "deep" / "b.py").write_bytes(b"\xef\xbb\xbfx = 1\n")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"id": i, "code": t}) + "\n" for i, t in enumerate(texts)))
    (tmp_path / "a.json").write_text(json.dumps([{"content": text} for text in texts]))
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    for name in ("src", "a.jsonl", "a.json", "a.parquet"):
        assert read_code(tmp_path / name).column("code").to_pylist() == texts


def test_what_cannot_be_learned_is_left_out_and_counted_never_cut() -> None:
    notices: list[Notice] = []
    table = pa.table({"code": ["x = 1", "x" * 99, "def f(", "x = 1", "y = 2"]})
    assert usable_code(table, longest=20, report=notices.append).column("code").to_pylist() == ["x = 1", "y = 2"]
    assert {notice.code: notice.count for notice in notices} == {"long_text": 1, "syntax": 1, "repeated": 1}


def test_long_tools_are_left_out_and_counted() -> None:
    notices: list[Notice] = []
    table = pa.table({"name": ["a", "b" * 9, "c"], "text": ["dd", "e", None]})
    assert usable_tools(table, longest=9, report=notices.append).column("name").to_pylist() == ["a", "c"]
    assert [(notice.code, notice.count) for notice in notices] == [("long_text", 1)]


def test_a_description_that_no_tool_has_becomes_an_empty_text() -> None:
    notices: list[Notice] = []
    table = pa.table({"name": ["a", "b"], "text": pa.array([None, None], pa.string())})
    assert usable_tools(table, longest=9, report=notices.append).column("text").to_pylist() == ["", ""]
    assert [(notice.code, notice.column, notice.count) for notice in notices] == [("missing", "text", 2)]


def test_held_out_records_longer_than_training_s_are_counted_never_cut() -> None:
    notices: list[Notice] = []
    schema = infer_schema(pa.table({"code": ["x = 1", "y = 12"]}), config=PYTHON)
    table = pa.table({"code": ["z = 34", "z = 345", "w"]})
    kept = usable_held_out(table, schema, name="test", report=notices.append)
    assert kept.column("code").to_pylist() == ["z = 34", "w"]
    (notice,) = notices
    assert (notice.code, notice.count) == ("long_text", 1)
    assert "1 records of test have a longer text" in notice.message
    with pytest.raises(DataError, match=r"all 1 records of test have a longer text.*give more records"):
        usable_held_out(table.slice(1, 1), schema, name="test", report=notices.append)


def test_another_encoding_is_named_with_file_byte_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "latin.py"
    path.write_bytes("# caf\xe9\n".encode("latin1"))
    with pytest.raises(DataError, match=r"latin.py, line 1: byte 0xe9 is not utf-8; .*data.read.encoding=cp1252"):
        read_code(tmp_path)
    assert read_code(tmp_path, encoding="latin1").column("code").to_pylist() == ["# café\n"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: not JSON"),
        ("[1]", "entry 1 is no JSON object"),
        ('{"body": "x"}', "have the keys \\['body'\\]"),
        ('{"code": "x"}\n{"code": 1}', "object 2 has no text under 'code'"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "code.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_code(path)


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.py file"):
        read_code(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        read_code(tmp_path / "absent.jsonl")
