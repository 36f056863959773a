"""Tools: raw JSON to records and back exactly, their JSON fields in text, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from difflm.errors import ConfigError, DataError
from difflm.records.codec import Accepted, Rejected
from difflm.records.files.json_files import read_json_rows
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import JsonField, RecordSchema, SchemaConfig
from difflm.records.tool_codec import records_of, table_of_tools, tools_of, tools_of_table
from difflm.synthesis.plans.conditions import parse_condition

KINDS = SchemaConfig(kinds={"category": "categorical", "parameters": "tool_parameters"})

texts = st.text(st.characters(codec="utf-8"), max_size=12)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
parameters = st.lists(
    st.fixed_dictionaries({"name": names, "type": st.sampled_from(["STRING", "NUMBER"]), "description": texts}),
    max_size=3,
)
apis = st.fixed_dictionaries(
    {
        "name": names,
        "description": st.none() | texts,
        "required_parameters": parameters,
        "optional_parameters": parameters,
    }
)
tools = st.fixed_dictionaries(
    {
        "category": names,
        "tool_name": names,
        "tool_description": st.none() | texts,
        "api_list": st.lists(apis, min_size=1, max_size=3),
    }
)


@given(tools)
def test_a_tool_comes_back_exactly(tool: dict[str, Any]) -> None:
    records = records_of(tool, "tool")
    assert tools_of(records) == [tool]
    assert tools_of_table(table_of_tools(records)) == records


@given(tools)
def test_records_come_back_from_their_text(tool: dict[str, Any]) -> None:
    table = table_of_tools(records_of(tool, "tool"))
    kinds = {**dict.fromkeys(table.column_names, "text"), "parameters": "tool_parameters"}
    empty = [name for name in table.column_names if table.column(name).null_count == len(table)]
    codec = JsonRecordCodec(infer_schema(table.drop_columns(empty), config=SchemaConfig(kinds=_without(kinds, empty))))
    for record, raw in zip(codec.records_of(table), tools_of_table(table), strict=True):
        text = codec.encode(record)
        assert codec.decode(text) == Accepted(record=record)
        assert json.loads(text) == _without(raw, empty)


def _without(values: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}


@pytest.fixture(scope="module")
def schema() -> RecordSchema:
    parameter = {"name": "q", "type": "STRING", "description": "what to find"}
    api = {"name": "search", "description": "Finds.", "required_parameters": [parameter], "optional_parameters": []}
    tool = {"category": "Data", "tool_name": "finder", "tool_description": "It finds.", "api_list": [api, api]}
    return infer_schema(table_of_tools(records_of(tool, "tool")), config=KINDS)


def test_the_schema_holds_what_training_has(schema: RecordSchema) -> None:
    field = schema.field("parameters")
    assert isinstance(field, JsonField)
    item = field.json_schema["items"]["properties"]
    assert item["type"] == {"enum": ["STRING"]}
    assert (field.json_schema["maxItems"], item["name"]["maxLength"]) == (1, 12)
    assert RecordSchema.from_json(schema.to_json()) == schema


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ("[]", None),
        ('[{"name": "q", "type": "STRING", "description": "", "required": true}]', None),
        ('[{"name": "q", "type": "NUMBER", "description": "", "required": true}]', "json_schema"),
        ('[{"name": "q", "type": "STRING", "description": ""}]', "json_schema"),
        ('[{"name": "q", "name": "q", "type": "STRING", "description": "", "required": true}]', "json_schema"),
        ('"[]"', "json_schema"),
        ("[NaN]", "not_json"),
        ("null", "missing"),
        (json.dumps("x" * 500), "length"),
    ],
)
def test_parameters_are_checked_by_their_schema(schema: RecordSchema, parameters: str, reason: str | None) -> None:
    codec = JsonRecordCodec(schema)
    record = next(codec.records_of(table_of_tools([_RECORD])))
    text = codec.encode(record).replace(codec.encode(record).partition('"parameters": ')[2], parameters + "}")
    decoded = codec.decode(text)
    assert (decoded.reason if isinstance(decoded, Rejected) else None) == reason


_RECORD = {
    "category": "Data",
    "tool_name": "finder",
    "tool_description": "It finds.",
    "api_name": "search",
    "api_description": "Finds.",
    "parameters": [],
}


def test_conditions_cannot_compare_json(schema: RecordSchema) -> None:
    with pytest.raises(ConfigError, match="is json, which conditions"):
        parse_condition('parameters == "[]"', schema)


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        ({"category": "a", "tool_name": "b"}, "'api_list' is no list of objects but None"),
        ({"category": "a", "api_list": []}, "'tool_name' is no text but None"),
        (
            {"category": "a", "tool_name": "b", "tool_description": 7, "api_list": []},
            "'tool_description' is neither a text nor null but 7",
        ),
    ],
)
def test_what_is_no_tool_is_named(tool: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"tools.json: tool 3: {message}.*ToolBench"):
        records_of(tool, "tools.json: tool 3")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [("{", "record 2: 'parameters' is no JSON"), (None, "is no JSON"), ("[1]", "no list of parameters but \\[1\\]")],
)
def test_tables_whose_parameters_are_none_are_named(parameters: str | None, message: str) -> None:
    good = dict.fromkeys(("category", "tool_name", "tool_description", "api_name", "api_description"), "x")
    table = pa.Table.from_pylist([good | {"parameters": "[]"}, good | {"parameters": parameters}])
    with pytest.raises(DataError, match=f"made.csv: .*{message}"):
        tools_of_table(table, "made.csv")


def test_all_of_toolbench_comes_back(real_data: Callable[[str], Path]) -> None:
    kept = ("name", "description", "required_parameters", "optional_parameters")
    for tool in read_json_rows(real_data("toolbench/toolenv_tools.jsonl.gz"))[::20]:
        api_list = [{key: api[key] for key in kept} for api in tool["api_list"]]
        expected = {key: tool[key] for key in ("category", "tool_name", "tool_description")} | {"api_list": api_list}
        assert tools_of(records_of(tool, "tool")) == ([expected] if api_list else [])
