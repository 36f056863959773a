"""The verbs of the command line: each has its place in the help, and the version can be asked for."""

from __future__ import annotations

from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

from difflm import __version__
from difflm_jobs.cli.main import app
from difflm_jobs.verbs import GROUPS


def test_every_verb_has_one_place_in_the_help() -> None:
    group: Any = get_command(app)
    placed = [name for names in GROUPS.values() for name in names]
    assert sorted(placed) == sorted(group.commands)
    assert group.list_commands(None) == placed


def test_the_help_shows_the_verbs_under_their_titles() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    assert sorted(GROUPS, key=shown.index) == [*GROUPS]
    assert shown.index("From a table to its report") < shown.index(" run ") < shown.index("Rows from a finished run")


def test_the_version_is_printed() -> None:
    ended = CliRunner().invoke(app, ["--version"])
    assert (ended.exit_code, ended.output) == (0, f"difflm {__version__}\n")
