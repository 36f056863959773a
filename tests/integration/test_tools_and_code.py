"""Tools and code through every stage and the verbs behind them, with small models in this process instead of on Ray.

How well so small a model writes is not asked, only that what comes out is valid, counted and scored.
"""

import io
import json
import random
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest

from difflm.records.tool_codec import record_schema, records_of, tools_of_table
from difflm_jobs.cli.main import main

LOOP = "{evaluate_every: 40, checkpoint_every: 1000, log_every: 10, precision: float32}"
CONFIG = f"""
name: tiny
decoder: {{hidden_size: 32, layers: 1, heads: 2, intermediate_size: 64, vocabulary_size: 400, value_tokens: 16}}
decoder_fit:
  {{steps: 80, batch_size: 32, group_by_length: true, copied_below: 0.9999, validation_records: 20, loop: {LOOP}}}
autoencoder:
  {{encoder: {{kind: compact, hidden_size: 16, layers: 1, heads: 2}}, steps: 40, batch_size: 32, loop: {LOOP}}}
prior: {{steps: 40, width: 16, blocks: 1, batch_size: 32, loop: {LOOP}}}
rows: 24
"""
TOOL_SAMPLING = (
    "sampling={steps: 4, precision: float32, text_tokens: 40, attempts: 8, "
    "engine: {kind: builtin, constraint: llguidance}}"
)
TOOLS = f"""
data: {{kind: tools, train: tools.jsonl, longest: 250}}
conditions: {{enabled: true, steps: 10, loop: {LOOP}}}
{TOOL_SAMPLING.replace("=", ": ", 1)}
"""
CODE = """
data: {kind: code, train: code.jsonl, longest: 40}
sampling: {steps: 4, precision: float32, text_tokens: 40, attempts: 20, temperature: 0.7}
"""
WORDS = ("get", "list", "song", "price", "city", "user", "search", "weather", "stock", "team")


def write_tools(path: Path) -> None:
    """140 tools with one API or two, one far too long, one without an API."""
    draw = random.Random(0)

    def words(count: int) -> str:
        return " ".join(draw.choice(WORDS) for _ in range(count))

    def api() -> dict[str, Any]:
        parameter = {"name": draw.choice(WORDS), "type": draw.choice(["STRING", "NUMBER"]), "description": words(2)}
        return {
            "name": words(1),
            "description": words(draw.randint(1, 4)),
            "required_parameters": [parameter] if draw.random() < 0.5 else [],
            "optional_parameters": [],
        }

    def tool(apis: list[dict[str, Any]]) -> dict[str, Any]:
        category = draw.choice(["Data", "Music"])
        return {"category": category, "tool_name": words(2), "tool_description": None, "api_list": apis}

    tools = [tool([api() for _ in range(draw.randint(1, 2))]) for _ in range(140)]
    tools += [tool([api() | {"description": "long " * 100}]), tool([])]
    path.write_text("".join(json.dumps(one) + "\n" for one in tools), encoding="utf-8")


def write_code(path: Path) -> None:
    """250 assignments, one that does not parse, one that is too long."""
    draw = random.Random(0)
    texts = [f"{a} = {b} + {n}\n" for a in "abcde" for b in "vwxyz" for n in draw.sample(range(100), 10)]
    texts += ["def f(", "x" * 50]
    path.write_text("".join(json.dumps({"code": text}) + "\n" for text in texts), encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A run that ended, and the command line in its folder."""

    folder: Path
    said: str
    call: Callable[..., str]

    def artifact(self, kind: str) -> Path:
        (found,) = (self.folder / "runs" / "tiny" / "artifacts").glob(f"{kind}-*")
        return found

    def scores(self) -> dict[str, Any]:
        report = json.loads((self.artifact("report") / "report.json").read_text(encoding="utf-8"))
        return {score["name"]: score for evaluation in report["evaluations"] for score in evaluation["scores"]}


def command_line(in_this_process: pytest.MonkeyPatch, folder: Path) -> Callable[..., str]:
    """`difflm` in a folder; returns what it says."""

    def call(*arguments: str) -> str:
        in_this_process.chdir(folder)
        in_this_process.setattr(sys, "argv", ["difflm", *arguments])
        with redirect_stdout(io.StringIO()) as said, pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, said.getvalue()
        return said.getvalue()

    return call


def run(in_this_process: pytest.MonkeyPatch, folder: Path, config: str) -> Finished:
    (folder / "tiny.yaml").write_text(CONFIG + config, encoding="utf-8")
    call = command_line(in_this_process, folder)
    return Finished(folder=folder, said=call("run", "tiny.yaml"), call=call)


@pytest.fixture(scope="module")
def tools(in_this_process: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("tools")
    write_tools(folder / "tools.jsonl")
    return run(in_this_process, folder, TOOLS)


@pytest.fixture(scope="module")
def code(in_this_process: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("code")
    write_code(folder / "code.jsonl")
    return run(in_this_process, folder, CODE)


def test_every_generated_tool_parses_and_fits_the_schema(tools: Finished) -> None:
    made = pq.read_table(tools.artifact("synthetic") / "shards")
    trained = tools_of_table(pq.read_table(tools.artifact("table") / "train.parquet"))
    schema = record_schema({parameter["type"] for record in trained for parameter in record["parameters"]})
    records = tools_of_table(made)
    assert len(records) == 24
    for record in records:
        jsonschema.validate(record, schema)
    scores = tools.scores()
    assert scores["valid_share"]["value"] == 100
    assert 0 <= scores["near_copy_share"]["value"] <= 100
    assert scores["near_copy_share"]["baseline"] is not None


def test_what_was_left_out_and_read_in_part_is_said(tools: Finished, code: Finished) -> None:
    assert "table: 1 tools have no API and give no record" in tools.said
    assert "table: 1 records are longer than 250 characters and are left out" in tools.said
    assert "training values of 'parameters' have more than 16 tokens; only these are encoded" in tools.said
    assert "table: 1 records do not parse as Python and are left out" in code.said
    assert "tokens; only these are encoded" not in code.said


def test_rows_of_a_condition_satisfy_it_and_become_raw_tools(tools: Finished) -> None:
    arguments = ["--where", 'category == "Music"', "--set", TOOL_SAMPLING]
    tools.call("synthesize", "runs/tiny", "--rows", "8", "--out", "music.jsonl", *arguments)
    rows = _json_lines(tools.folder / "music.jsonl")
    assert [row["category"] for row in rows] == ["Music"] * 8
    said = tools.call("export-tools", "music.jsonl", "--out", "raw.jsonl")
    raw = _json_lines(tools.folder / "raw.jsonl")
    assert f"raw.jsonl: {len(raw)} tools with 8 APIs" in said
    assert len({(tool["tool_name"], tool["tool_description"]) for tool in raw}) == len(raw)
    again = [record for tool in raw for record in records_of(tool, "raw.jsonl")]
    made = [{**row, "parameters": json.loads(row["parameters"])} for row in rows]
    assert sorted(map(_required_first, again)) == sorted(map(_required_first, made))


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _required_first(record: Mapping[str, Any]) -> str:
    parameters = sorted(record["parameters"], key=lambda one: not one["required"])
    return json.dumps({**record, "parameters": parameters})


def test_code_that_comes_out_parses_and_draws_that_do_not_are_counted(code: Finished) -> None:
    account = json.loads((code.artifact("synthetic") / "account.json").read_text(encoding="utf-8"))
    texts = pq.read_table(code.artifact("synthetic") / "shards").column("code").to_pylist()
    assert len(texts) == account["rows_emitted"] > 0
    for text in texts:
        compile(text, "record", "exec", dont_inherit=True)
    assert account["attempts"] == account["rows_emitted"] + sum(account["rejections"].values())
    scores = code.scores()
    assert scores["parses_share"]["value"] == 100
    valid = account["rows_emitted"] + account["rejections"].get("privacy", 0)  # too near to training, yet valid
    assert scores["valid_draw_share"]["value"] == pytest.approx(100 * valid / account["attempts"])


def test_show_says_what_run_said(code: Finished) -> None:
    shown = code.call("show", "tiny")
    assert "Parses" in shown
    assert "do not parse as Python and are left out" in shown


DOWNSTREAM = f"""
scratch:
  texts: first.jsonl
  decoder: {{hidden_size: 32, layers: 1, heads: 2, intermediate_size: 64, vocabulary_size: 400}}
  training: {{steps: 40, batch_size: 16, longest_tokens: 20, loop: {LOOP}}}
real: real.jsonl
synthetic: synthetic.jsonl
held_out: held_out.jsonl
longest: 40
training: {{epochs: 2, batch_size: 16, longest_tokens: 20, loop: {{learning_rate: 0.005, precision: float32}}}}
pass_at_k: {{problems: problems.jsonl, max_tokens: 8}}
"""


def test_language_models_are_trained_further_and_compared(in_this_process: pytest.MonkeyPatch, tmp_path: Path) -> None:
    draw = random.Random(0)

    def write(name: str, texts: list[str]) -> None:
        (tmp_path / name).write_text("".join(json.dumps({"code": text}) + "\n" for text in texts), encoding="utf-8")

    def additions(count: int) -> list[str]:
        return [
            f"{draw.choice('abc')} = {draw.choice('xyz')} + {number}\n" for number in draw.sample(range(900), count)
        ]

    real = additions(80)
    write("real.jsonl", real)
    write("first.jsonl", [f"print({draw.randint(0, 999)}, 'x{number}')\n" for number in range(60)])
    write("synthetic.jsonl", [f"import m{number}\n" for number in range(50)] + ["import ("])
    write("held_out.jsonl", [*additions(30), real[0], "a = 1" + " + 1" * 9])
    problem = {"task_id": 1, "text": "one", "code": "f = 1", "test_list": ["assert f == 1"]}
    (tmp_path / "problems.jsonl").write_text(json.dumps(problem), encoding="utf-8")
    (tmp_path / "lm.yaml").write_text(DOWNSTREAM, encoding="utf-8")
    said = command_line(in_this_process, tmp_path)("downstream", "lm.yaml")

    (path,) = (tmp_path / "runs" / "lm" / "artifacts").glob("downstream-*")
    found = json.loads((path / "downstream.json").read_text(encoding="utf-8"))
    models = found["models"]
    assert list(models) == ["base-model", "train-real", "train-synthetic", "train-mixed"]
    assert {models[f"train-{arm}"]["steps"] for arm in ("real", "synthetic", "mixed")} == {10}
    assert [models[f"train-{arm}"]["texts"] for arm in ("real", "synthetic", "mixed")] == [80, 50, 130]
    assert models["train-real"]["perplexity"] < models["train-synthetic"]["perplexity"]
    assert models["train-real"]["gain_nats_per_token"] > 0 == models["base-model"]["gain_nats_per_token"]
    assert all(model["pass_at_1"] == 0 for model in models.values())
    assert "nothing about large models" in said
    assert 29 <= found["held_out"]["texts"] <= 30
    assert "trained on" in json.dumps(json.loads((path.parent.parent / "notices.json").read_text(encoding="utf-8")))
