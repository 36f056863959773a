"""Tools and code through `prepare` and `evaluate`, without a cluster; pass@k from the command line's function."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from difflm.artifacts import Artifact
from difflm.errors import ConfigError, DataError
from difflm.records.files.reading import ReadConfig
from difflm.records.notices import Notice, ignore
from difflm.records.schema import SchemaConfig, read_schema
from difflm_evaluators.live.gates import CODE_SCORES, TOOL_SCORES
from difflm_jobs.cli.passk import score_completions
from difflm_jobs.config import ExperimentConfig, RuntimeConfig
from difflm_jobs.inputs.record_kinds import CODE, TOOLS, record_kind
from difflm_jobs.inputs.sources import DataConfig, FileSource
from difflm_jobs.pipeline.stage import StageContext, section
from difflm_jobs.stages.evaluate import evaluate_files
from difflm_jobs.stages.prepare import Prepare

NO_API = Notice(column=None, code="no_api", count=1, message="no API")


def tool(number: int, *, description: str = "It finds things.") -> dict[str, Any]:
    parameter = {"name": f"p{number}", "type": "STRING", "description": "what"}
    api = {
        "name": f"find{number}",
        "description": description,
        "required_parameters": [parameter] if number % 2 else [],
        "optional_parameters": [],
    }
    return {
        "category": ("Data", "Music")[number // 2 % 2],
        "tool_name": f"t{number}",
        "tool_description": None,
        "api_list": [api],
        "host": "x",
    }


def prepared(folder: Path, data: DataConfig) -> Path:
    stage = Prepare(data=data, schema=SchemaConfig(drop_all_missing=True), seed=1)
    inputs: dict[str, Artifact] = {}
    output = folder / "out"
    output.mkdir()
    context = StageContext(
        inputs=inputs,
        output=output,
        work=folder / "work",
        report=lambda *told: None,
        runtime=RuntimeConfig(),
        start_cluster=lambda: None,
    )
    stage.run(context)
    return output


def test_tools_are_prepared_long_ones_counted(tmp_path: Path) -> None:
    path = tmp_path / "tools.jsonl"
    tools = [*(tool(i) for i in range(40)), tool(40, description="long " * 100), tool(41) | {"api_list": []}]
    path.write_text("\n".join(map(json.dumps, tools)))
    out = prepared(tmp_path, DataConfig(train=FileSource(path=str(path)), kind="tools", longest=300))
    schema = read_schema(out)
    kinds = {field.name: field.kind for field in schema.fields}
    assert kinds["category"] == "categorical"
    assert kinds["parameters"] == "json"
    rows = sum(pq.read_table(out / f"{name}.parquet").num_rows for name in ("train", "validation", "test"))
    assert rows == 40
    codes = {notice["code"] for notice in json.loads((out / "report.json").read_text())["notices"]}
    assert {"long_text", "no_api"} <= codes


def test_a_folder_of_code_is_prepared_and_hashed_with_its_names(tmp_path: Path) -> None:
    folder = tmp_path / "src"
    folder.mkdir()
    for number in range(30):
        (folder / f"m{number}.py").write_text(f"def f{number}():\n    return {number}\n")
    (folder / "old.py").write_text("print 'python 2'\n")
    data = DataConfig(train=FileSource(path=str(folder)), kind="code")
    stage = Prepare(data=data, schema=SchemaConfig(), seed=1)
    before = stage.sources()
    (folder / "m0.py").rename(folder / "other.py")
    assert stage.sources() != before
    schema = read_schema(prepared(tmp_path, data))
    assert [field.kind for field in schema.fields] == ["text"]
    with pytest.raises(DataError, match="is a folder"):
        Prepare(data=DataConfig(train=FileSource(path=str(folder))), schema=SchemaConfig(), seed=1).sources()


def test_the_identity_of_records_knows_their_kind_and_length_and_no_path() -> None:
    def hashed(kind: str, longest: int, train: str = "a.csv") -> object:
        data = DataConfig.model_validate({"train": train, "kind": kind, "longest": longest})
        return section(Prepare(data=data, schema=SchemaConfig(), seed=1))

    assert hashed("code", 9) != hashed("code", 10)
    assert hashed("code", 9) != hashed("tools", 9)
    assert hashed("table", 9) == hashed("table", 9, train="b.csv")


def test_each_kind_knows_what_is_special_to_it() -> None:
    kinds = [record_kind(name) for name in ("table", "tools", "code")]
    assert [(kind.name, kind.tabular, kind.folders, kind.holds_json) for kind in kinds] == [
        ("table", True, False, False),
        ("tools", False, False, True),
        ("code", False, True, False),
    ]
    given = SchemaConfig(text_max_characters=10)
    table, tools, _ = (kind.schema_config(given, longest=50) for kind in kinds)
    assert table == given
    assert (tools.kinds["parameters"], tools.text_max_characters) == ("tool_parameters", 50)
    odd = [Notice(column="a", code="identifier", count=2, message="differs"), NO_API]
    assert [kind.shown(odd) for kind in kinds] == [["'a': differs", "no API"], ["no API"], ["no API"]]


def test_any_tools_and_code_can_be_evaluated(tmp_path: Path) -> None:
    train, made = tmp_path / "train.jsonl", tmp_path / "made.jsonl"
    train.write_text("\n".join(json.dumps(tool(i)) for i in range(4)))
    record = {
        "category": "Data",
        "tool_name": "new",
        "tool_description": None,
        "api_name": "a",
        "api_description": "b",
        "parameters": [],
    }
    made.write_text(json.dumps(record) + "\n" + json.dumps(record | {"parameters": [1]}))
    out = tmp_path / "out"
    report = evaluate_files(made, train=train, test=train, target=None, out=out, overrides=(), kind="tools")
    values = {score.name: score.value for score in report.scores}
    assert set(values) == set(TOOL_SCORES)
    assert (values["valid_share"], values["category_coverage"]) == (50.0, 50.0)  # one of two categories
    assert "Categories covered" in (out / "report.md").read_text()
    assert "2 synthetic records" in (out / "report.html").read_text()
    train.write_text(json.dumps({"code": "x = 1"}))
    made.write_text(json.dumps({"code": "x = 1"}) + "\n" + json.dumps({"code": "def ("}))
    report = evaluate_files(made, train=train, test=None, target=None, out=out, overrides=(), kind="code")
    values = {score.name: score.value for score in report.scores}
    assert set(values) == set(CODE_SCORES)
    assert (values["parses_share"], values["exact_copy_share"]) == (50.0, 50.0)


def test_unknown_kinds_and_missing_keys_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give table, tools, code"):
        record_kind("images")
    path = tmp_path / "tools.jsonl"
    path.write_text(json.dumps({"category": "Data"}))
    with pytest.raises(DataError, match="record 1 has no key 'tool_name'"):
        evaluate_files(path, train=path, test=None, target=None, out=tmp_path, overrides=(), kind="tools")
    with pytest.raises(ConfigError, match="--target x: records of tools have none"):
        evaluate_files(path, train=path, test=None, target="x", out=tmp_path, overrides=(), kind="tools")
    path.write_text('{"code": "x = 1"}\n{"code": "\\ud83d\\ude00 \\uD83D"}\n')
    with pytest.raises(DataError, match=r"line 2: \\ud83d is half of a surrogate pair"):
        CODE.read(path, ReadConfig(), ignore)
    path.write_text('{"code": "x = \\"\\ud83d\\ude00\\""}\n')
    assert CODE.read(path, ReadConfig(), ignore).to_pydict() == {"code": ['x = "😀"']}


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("a.csv", "other,more\nx,y\n", "a.csv: has the columns .*other.*; code is looked for under"),
        ("a.csv", 'code,more\n"x = 1",a\n,b\n', "a.csv: 1 rows have no text under 'code'"),
        ("a.jsonl", "", "a.jsonl: the file is empty"),
    ],
)
def test_files_without_code_are_named(tmp_path: Path, name: str, text: str, fault: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=fault):
        CODE.read(tmp_path / name, ReadConfig(), ignore)


def test_code_is_read_from_csv_and_a_folder_holds_no_tools(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,more\n"x = 1",a\n"y = 2",b\n')
    assert CODE.read(tmp_path / "a.csv", ReadConfig(), ignore).to_pydict() == {"code": ["x = 1", "y = 2"]}
    (tmp_path / "a.py").write_text("x = 1\n")
    with pytest.raises(DataError, match="is a folder; give a file"):
        TOOLS.read(tmp_path, ReadConfig(), ignore)


def test_pass_at_k_of_reference_solutions_and_of_samples(tmp_path: Path) -> None:
    problems, samples = tmp_path / "problems.jsonl", tmp_path / "samples.jsonl"
    exercise = {"task_id": 1, "text": "one", "code": "f = 1", "test_list": ["assert f == 1"]}
    problems.write_text(json.dumps(exercise))
    samples.write_text("\n".join(json.dumps({"task_id": 1, "completion": text}) for text in ("f = 1", "f = 2")))
    console = Console(file=io.StringIO())

    def scores(given: str) -> list[float | None]:
        found = score_completions(
            given, problems=problems, ks=[1], out=tmp_path / "out", workers=1, overrides=(), console=console
        )
        return [score.value for score in found.scores]

    assert scores("reference") == [100.0]
    assert scores(str(samples)) == [50.0]
    written = json.loads((tmp_path / "out" / "passk.json").read_text())
    assert written["details"]["outcomes"] == {"passed": 1, "failed": 1}
    shown = (tmp_path / "out" / "passk.md").read_text()
    assert "| pass@1 | 50.00 | - |" in shown
    assert "2 programs of 1 exercises: 1 failed, 1 passed." in shown
    assert "| 1 | failed | AssertionError" in shown
    problems.write_text("\n".join(json.dumps(exercise | {"task_id": number}) for number in (1, 2)))
    assert scores(str(samples)) == [25.0]
    shown = (tmp_path / "out" / "passk.md").read_text()
    assert "2 programs of 2 exercises: 1 failed, 1 passed; 1 exercises have no completion and count as never" in shown


def test_the_presets_say_how_they_are_read() -> None:
    config = ExperimentConfig.model_validate({"name": "a", "data": {"train": "a.py", "kind": "code"}})
    assert (config.data.kind, config.data.longest) == ("code", 2000)
