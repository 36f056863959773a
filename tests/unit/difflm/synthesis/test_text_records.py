"""Tools and code out of untrained bundles: every tool fits its JSON Schema, all code parses, and the seams say no."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from difflm.errors import ConfigError
from difflm.records.schema import SchemaConfig
from difflm.records.tool_codec import records_of, table_of_tools
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.decoding.engines import BuiltinEngineConfig
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.testing.bundles import untrained_stages
from difflm_evaluators.texts.text_scores import CopiesConfig
from difflm_evaluators.texts.tools import evaluate_tools, read_record

LLGUIDANCE = BuiltinEngineConfig(constraint="llguidance")
TOOL_KINDS = SchemaConfig(kinds={"category": "categorical", "parameters": "tool_parameters"})


@pytest.fixture(scope="module")
def tool_table() -> pa.Table:
    def api(number: int) -> dict[str, object]:
        parameters = [{"name": f"p{i}", "type": "STRING", "description": "what"} for i in range(number % 3)]
        return {
            "name": f"find{number}",
            "description": f"Finds the {number} things.",
            "required_parameters": parameters[:1],
            "optional_parameters": parameters[1:],
        }

    tools = [
        {
            "category": "Data" if tool % 2 else "Music",
            "tool_name": f"tool {tool}",
            "tool_description": None if tool == 3 else "It finds.",
            "api_list": [api(tool + i) for i in range(3)],
        }
        for tool in range(12)
    ]
    return table_of_tools(record for tool in tools for record in records_of(tool, "tool"))


def test_tools_fit_their_schema_whatever_the_model_says(tmp_path: Path, tool_table: pa.Table) -> None:
    folders = untrained_stages(tmp_path, tool_table, inference=TOOL_KINDS)
    config = SamplingConfig(batch_size=6, steps=2, text_tokens=60, attempts=8, precision="float32", engine=LLGUIDANCE)
    records, account = Synthesizer(load_bundle(folders.bundle), config).draw_valid(range(6), seed=1)
    assert records
    assert not {"json_schema", "not_json", "keys", "type"} & set(account.rejections)
    real = [read_record(row, "real") for row in tool_table.to_pylist()]
    made = [read_record(record, "made") for _, record in records]
    assert evaluate_tools(made, real, None, CopiesConfig())[0].score("valid_share").value == 100.0
    assert all(isinstance(json.loads(str(record["parameters"])), list) for _, record in records)


def test_the_automaton_says_that_it_knows_no_json_schema(tmp_path: Path, tool_table: pa.Table) -> None:
    folders = untrained_stages(tmp_path, tool_table, inference=TOOL_KINDS)
    with pytest.raises(ConfigError, match="constraint=llguidance"):
        Synthesizer(load_bundle(folders.bundle), SamplingConfig())


def test_code_that_comes_out_parses(tmp_path: Path) -> None:
    table = pa.table({"code": [f"def f{i}(a):\n    return a + {i}\n" for i in range(40)]})
    folders = untrained_stages(tmp_path, table, inference=SchemaConfig(kinds={"code": "python"}))
    config = SamplingConfig(batch_size=16, steps=2, text_tokens=3, attempts=20, precision="float32")
    records, account = Synthesizer(load_bundle(folders.bundle), config).draw_valid(range(16), seed=1)
    assert account.rejections.get("syntax", 0) > 0  # an untrained model errs, and that is counted
    assert records
    for _, record in records:
        compile(str(record["code"]), "record", "exec")
