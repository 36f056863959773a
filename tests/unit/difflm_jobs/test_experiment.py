"""Running an experiment in a folder that may be anybody's."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from difflm.artifacts import write_bytes_atomic, write_json_atomic
from difflm.config import dump_yaml
from difflm.errors import ConfigError, DataError
from difflm_jobs.console import PrintableConsole
from difflm_jobs.experiment import run_experiment
from difflm_jobs.loading import load_experiment
from difflm_jobs.pipeline.progress import reporting
from difflm_jobs.pipeline.runlog import describe_environment

SILENT = partial(reporting, PrintableConsole())

TABLE = "a,b\n" + "1,2\n" * 20


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", "database: {host: example.org}\n"),
        ("config.yaml", "# the seed of the paper\nname: project\ndata: {train: table.csv}\n"),
        ("environment.json", '{"name": "staging", "values": []}'),
        ("runs.jsonl", '{"loss": 0.5}\n'),
    ],
)
def test_a_file_of_something_else_is_not_replaced(tmp_path: Path, name: str, text: str) -> None:
    """`--name` may be any folder, such as a project of one's own, with a folder `work` of its own."""
    (tmp_path / "table.csv").write_text(TABLE)
    (tmp_path / "project" / "work").mkdir(parents=True)
    own = tmp_path / "project" / name
    own.write_text(text)
    experiment = load_experiment(str(tmp_path / "table.csv"), name="project")
    with pytest.raises(ConfigError, match=rf"{name}: was not written by a run, and would be replaced; move it"):
        run_experiment(experiment, tmp_path, last=None, started=0.0, reporting=SILENT)
    assert own.read_text() == text
    assert {path.name for path in own.parent.iterdir()} == {name, "work"}


def test_a_run_that_was_killed_at_once_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    experiment = load_experiment(str(tmp_path / "table.csv"), name="project")
    folder = tmp_path / "project"
    write_bytes_atomic(folder / "config.yaml", dump_yaml(experiment).encode())
    write_json_atomic(folder / "environment.json", describe_environment())
    with pytest.raises(DataError, match="1 rows cannot be split"):
        run_experiment(experiment, tmp_path, last="prepare", started=0.0, reporting=SILENT)
