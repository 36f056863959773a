"""The verbs of the command line: each has its place in the help, and the version can be asked for."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from difflm import __version__
from difflm_jobs.cli.main import app
from difflm_jobs.verbs import EXAMPLES, GROUPS, GroupedVerbs


def test_every_verb_has_one_place_in_the_help() -> None:
    group: Any = get_command(app)
    placed = [name for names in GROUPS.values() for name in names]
    assert sorted(placed) == sorted(group.commands)
    assert group.list_commands(None) == placed


def test_the_help_shows_the_verbs_under_their_titles() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    assert sorted(GROUPS, key=shown.index) == [*GROUPS]
    assert shown.index("From a table to its report") < shown.index(" run ") < shown.index("Rows from a finished run")


@pytest.mark.parametrize(
    "arguments",
    [
        ("postgresql://ada:hunter2@host/db",),
        ("run", "people.csv", "postgresql://ada:hunter2@host/db?table=people"),
        ("run", "people.csv", "--rows", "mysql://ada:hunter2@host/db"),
        ("judge", "https://ada:hunter2@host/x"),
    ],
)
def test_arguments_that_are_none_are_shown_without_passwords(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "hunter2" not in result.output
    assert "host" in result.output or "No such option" in result.output  # what it is about


def leaves(group: Any, before: str = "") -> dict[str, Any]:
    """Every verb that does something, as the help knows it, by its whole name."""
    found = {}
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        inside = hasattr(command, "commands")
        found |= leaves(command, f"{name} ") if inside else {f"{before}{name}": command}
    return found


VERBS = leaves(get_command(app))


@pytest.mark.parametrize("name", VERBS)
def test_the_help_of_a_verb_ends_with_what_it_is_called_with(name: str) -> None:
    command = VERBS[name]
    ended = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "80"})
    assert ended.exit_code == 0
    for example in EXAMPLES[name]:
        assert f"\n {example}\n" in "\n".join(line.rstrip() for line in ended.output.splitlines()) + "\n"
        words = shlex.split(example.partition(" > ")[0])
        depth = len(name.split()) + 1
        assert words[:depth] == ["difflm", *name.split()]
        assert command.make_context(name, words[depth:]) is not None


def test_no_example_is_of_a_verb_that_is_gone() -> None:
    assert set(EXAMPLES) == set(VERBS)


def test_the_version_is_printed() -> None:
    ended = CliRunner().invoke(app, ["--version"])
    assert (ended.exit_code, ended.output) == (0, f"difflm {__version__}\n")


def test_an_error_whose_message_is_fixed_is_raised_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of exceptions became an AttributeError."""

    def fail(self: object, ctx: object) -> None:
        raise ExceptionGroup("several", [ValueError("one")])

    monkeypatch.setattr("typer.core.TyperGroup.invoke", fail)
    with pytest.raises(ExceptionGroup, match="several"):
        GroupedVerbs(name="difflm").invoke(None)
