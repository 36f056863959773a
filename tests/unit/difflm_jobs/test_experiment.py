"""Running an experiment in a folder that may be anybody's."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from difflm.errors import ConfigError
from difflm_jobs.console import PrintableConsole
from difflm_jobs.experiment import run_experiment
from difflm_jobs.loading import load_experiment
from difflm_jobs.pipeline.progress import reporting


def test_a_configuration_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    """`--name` may be any folder, such as a project of one's own."""
    (tmp_path / "table.csv").write_text("a,b\n1,2\n" * 20)
    (tmp_path / "project").mkdir()
    own = tmp_path / "project" / "config.yaml"
    own.write_text("database: {host: example.org}\n")
    experiment = load_experiment(str(tmp_path / "table.csv"), name="project")
    with pytest.raises(ConfigError, match=r"config\.yaml: is none of a run, and would be replaced; give another"):
        run_experiment(experiment, tmp_path, last=None, started=0.0, reporting=partial(reporting, PrintableConsole()))
    assert own.read_text() == "database: {host: example.org}\n"
    assert [path.name for path in (tmp_path / "project").iterdir()] == ["config.yaml"]
