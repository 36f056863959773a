"""No verb writes over what it reads, nor over what something else wrote."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from difflm.errors import ConfigError
from difflm_jobs.cli.main import main
from difflm_jobs.inputs.places import refuse_others, refuse_over

TABLE = "age,city\n" + "31,Rome\n45,Oslo\n" * 40
EXPERIMENT = "name: people\ndata: {train: people.csv, test: test.csv}\n"


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["difflm", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2, said
    return said


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of somebody's project, in which the command is given."""
    for name in ("people.csv", "test.csv", "made.csv"):
        (tmp_path / name).write_text(TABLE)
    (tmp_path / "people.yaml").write_text(EXPERIMENT)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("stem", "command"),
    [
        ("report", "evaluate made.csv --train people.csv --out ."),
        ("compare", "compare one two --out ."),
        ("diagnose", "diagnose run --out ."),
        ("judge", "judge tools made.csv --model m --base-url http://127.0.0.1:9/v1 --out ."),
        ("passk", "passk reference --problems made.csv --out ."),
        ("protocol", "protocol --synthetic made.csv --train people.csv --test test.csv --out ."),
        ("ablation", "ablate people.yaml --vary seed=[0,1] --out ."),
        ("study", "study run --out ."),
        ("flywheel", "flywheel people.yaml --runs .. --name {name}"),
        ("benchmark", "benchmark people.csv --methods cart --out ."),
        ("compare", "benchmark people.csv --methods cart --out ."),
    ],
)
def test_pages_of_something_else_are_kept(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stem: str, command: str
) -> None:
    """`--out .` where one's own report.md, study.json or benchmark.html lies: it was replaced."""
    own = project / f"{stem}.md"
    own.write_text("mine")
    arguments = command.format(name=project.name).split()
    assert f"{stem}.md: was not written by this command" in refused(monkeypatch, capsys, *arguments)
    (project / f"{stem}.json").write_text(json.dumps({"mine": 1}))
    with pytest.raises(ConfigError, match=rf"{stem}\.json: was not written"):
        refuse_others(project, stem)
    assert own.read_text() == "mine"
    with pytest.raises(ConfigError, match=r"made\.csv: is a file, and a folder is written"):
        refuse_others(project / "made.csv", stem)


@pytest.mark.parametrize(
    "command",
    [
        "synthesize run --rows 10 --out people.csv",
        "synthesize run --rows 10 --out ./run/../test.csv",
        "synthesize run/artifacts/bundle-1 --rows 10 --out people.csv",
        "synthesize other --rows 10 --like made.csv --out made.csv",
        "synthesize other --rows 10 --evaluate-against made.csv --holdout test.csv --out test.csv",
        "impute other made.csv --out made.csv",
        "impute other made.csv --out link.csv",
        "export-tools made.csv --out made.csv",
        "judge export-pairs made.csv people.csv --out people.csv",
        "judge read-pairs people.csv made.csv --out made.csv",
    ],
)
def test_a_table_that_is_read_or_was_learned_is_not_replaced(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """`difflm synthesize runs/people --out people.csv` had synthetic rows in the place of the real ones."""
    (project / "link.csv").symlink_to("made.csv")
    (project / "run" / "artifacts" / "bundle-1").mkdir(parents=True)
    assert "and would be replaced; give another name" in refused(monkeypatch, capsys, *command.split())
    for name in ("people.csv", "test.csv", "made.csv"):
        assert (project / name).read_text() == TABLE


def test_a_folder_is_told_before_any_work(project: Path) -> None:
    with pytest.raises(ConfigError, match="--out run: is a folder, and a file is written"):
        refuse_over(Path("run"), [])
