"""`difflm init`: a file that can be run as it is, whose comments are the table's columns and the defaults."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from difflm.config import parse_yaml
from difflm.errors import ConfigError, UserError
from difflm_jobs.cli.main import main
from difflm_jobs.cli.starting_file import write_starting_file
from difflm_jobs.inputs.record_kinds import record_kind
from difflm_jobs.loading import load_experiment


def table(folder: Path, name: str = "people.csv") -> Path:
    """Forty people with columns of every kind, one of them empty."""
    rows = []
    for row in range(40):
        seldom = "" if row % 4 else row
        rows.append(f"{17 + row},c{row % 3},{'ny'[row % 2]},{row}.25,2020-01-{row % 28 + 1:02d},,7,{seldom}")
    path = folder / name
    path.write_text("\n".join(["age,city,n o,x: y,when,empty,same,gaps", *rows]) + "\n", encoding="utf-8")
    return path


def uncommented(text: str) -> str:
    """The file with every setting that is a comment taken in: `#key` or `#  key`, but not `# words`."""
    return re.sub(r"(?m)^#(?! \S|$)", "", text)


def init(path: Path, out: Path, *, target: str | None = None, kind: str = "table", force: bool = False) -> str:
    made = write_starting_file(path, target=target, kind=record_kind(kind), out=out, force=force)
    return made.path.read_text(encoding="utf-8")


def test_the_file_loads_as_it_is_and_says_what_the_columns_are(tmp_path: Path) -> None:
    path, out = table(tmp_path), tmp_path / "mine.yaml"
    text = init(path, out, target="city")
    config = load_experiment(str(out))
    assert (config.name, config.data.target, config.schema_.drop_all_missing) == ("people", "city", True)
    assert config.data.train.kind == "file"
    assert config.data.train.path == str(path)
    direct = load_experiment(str(path), target="city", overrides=["schema.drop_all_missing=true"])
    assert config == direct
    for line in (
        "age: integer 17..56",
        "city: categorical, 3 values: c0, c1, c2",
        "n o: boolean y or n",
        '"x: y": decimal 0.25..39.25, 2 decimals',
        "when: datetime 2020-01-01..2020-01-28 (%Y-%m-%d)",
        "same: always 7",
        "gaps: integer 0..36, 75 % missing",
        "noticed: empty: left out: it has no value in the training split",
    ):
        assert f"\n  # {line}\n" in text


@pytest.mark.parametrize("target", ["city", None])
def test_the_settings_that_are_comments_are_the_defaults(tmp_path: Path, target: str | None) -> None:
    out = tmp_path / "mine.yaml"
    text = init(table(tmp_path), out, target=target)
    (tmp_path / "all.yaml").write_text(uncommented(text), encoding="utf-8")
    assert load_experiment(str(tmp_path / "all.yaml")) == load_experiment(str(out))
    assert len(parse_yaml(uncommented(text), "all")) > len(parse_yaml(text, "own")) + 5


def test_tools_and_code_have_the_settings_that_they_need(tmp_path: Path) -> None:
    api = {"name": "get", "description": "Gets.", "required_parameters": [], "optional_parameters": []}
    tools = [
        {"tool_name": f"t{row}", "tool_description": f"about {row}", "category": "Food", "api_list": [api]}
        for row in range(4)
    ]
    path = tmp_path / "tools.jsonl"
    path.write_text("".join(json.dumps(tool) + "\n" for tool in tools), encoding="utf-8")
    init(path, tmp_path / "tools.yaml", kind="tools")
    config = load_experiment(str(tmp_path / "tools.yaml"))
    assert config.data.kind == "tools"
    assert config.sampling.engine.kind == "builtin"
    assert config.sampling.engine.constraint == "llguidance"
    folder = tmp_path / "src"
    folder.mkdir()
    for row in range(3):
        (folder / f"f{row}.py").write_text(f"def f{row}():\n    return {row}\n", encoding="utf-8")
    text = init(folder, tmp_path / "code.yaml", kind="code")
    assert load_experiment(str(tmp_path / "code.yaml")).data.kind == "code"
    assert "# code: text in python of at most" in text
    assert "#  longest: 2000" in text


def test_names_that_yaml_would_read_otherwise_stay_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a: 'b' #\n é.csv"
    path.write_text("1e-3,true\n" + "".join(f"{row % 5},{'ab'[row % 2]}\n" for row in range(30)), encoding="utf-8")
    text = init(path, tmp_path / "mine.yaml", target="true")
    config = load_experiment(str(tmp_path / "mine.yaml"))
    assert config.data.train.kind == "file"
    assert (config.data.train.path, config.data.target) == (str(path), "true")
    assert '  # "1e-3": integer 0..4' in text


def test_a_file_that_is_there_is_kept_unless_force_is_given(tmp_path: Path) -> None:
    path, out = table(tmp_path), tmp_path / "mine.yml"
    out.write_text("rows: 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.yml: is there already; give another name with --out, or --force"):
        init(path, out)
    assert out.read_text(encoding="utf-8") == "rows: 3\n"
    assert "train:" in init(path, out, force=True)


@pytest.mark.parametrize(
    ("name", "text", "target", "out", "message"),
    [
        ("none.csv", None, None, "a.yaml", "none.csv: no such file"),
        ("empty.csv", "", None, "a.yaml", "empty.csv"),
        ("head.csv", "a,b\n", None, "a.yaml", "head.csv"),
        ("blank.csv", "a,b\n,\n,\n", None, "a.yaml", "blank.csv"),
        ("t.csv", "a,b\n1,x\n2,y\n", "c", "a.yaml", "t.csv: the table has no column 'c'; it has 'a', 'b'"),
        ("t.xlsx", "a", None, "a.yaml", "t.xlsx: not a workbook"),
        ("t.csv", "a,b\n1,x\n", None, "a.txt", "a.txt: a configuration ends in .yaml or .yml"),
        ("t.csv", "a,b\n1,x\n", None, "no/a.yaml", "there is no folder"),
        (".", None, None, "a.yaml", "is a folder; give the file inside it"),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_is_written(
    name: str, text: str | None, target: str | None, out: str, message: str, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(message)):
        init(tmp_path / name, tmp_path / out, target=target)
    assert not (tmp_path / out).exists()


def test_the_verb_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table(tmp_path, "my people.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["difflm", "init", "my people.csv", "--target", "city"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("my-people.yaml: a configuration for 40 records of 7 columns\n")
    assert "difflm run my-people.yaml" in said
