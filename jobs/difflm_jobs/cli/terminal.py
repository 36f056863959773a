"""What the verbs share: their options, and two consoles: results to standard output, progress to standard error."""

from __future__ import annotations

import io
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from difflm_jobs.rows.bundle_rows import Audience

Given = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A YAML file, a preset's name, or just a table, also a database's URL.")
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one key; may be repeated.")]
Target = Annotated[str | None, typer.Option(help="The column that a model would predict.")]
Name = Annotated[str | None, typer.Option(help="Name of the experiment, and of its folder.")]
Gates = Annotated[
    list[str] | None,
    typer.Option(
        "--gate", metavar="GATE", help="What must hold, such as 'shape < 3', 'warn: trend < 5'; may be repeated."
    ),
]
Quality = Annotated[
    str | None,
    typer.Option(
        metavar="LEVEL",
        help="fast (a third of the steps), balanced (the defaults) or best (several times as many, and a larger "
        "decoder from 5,000 rows on). What --set or your own file says stays.",
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Choose the steps so that the whole run takes about so long on this machine: 90s, 10m, 1h, 1h30m. Given "
        "again after a kill, the same choice holds.",
    ),
]
Constraints = Annotated[
    list[str] | None,
    typer.Option(
        "--constraint",
        metavar="RULE",
        help="What every row satisfies across columns, such as 'start <= end', 'total == n * unit'; may be repeated.",
    ),
]
Protect = Annotated[
    str | None,
    typer.Option(
        metavar="on|off",
        help="Whether values that few training rows have are left out of all that is learned (default: on).",
    ),
]
Epsilon = Annotated[
    float | None,
    typer.Option(
        metavar="E",
        help="Differential privacy: of everything that is fitted to rows, together (3 is usual; smaller is stricter).",
    ),
]
ProtectUnit = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="With --epsilon: the column that says whose a row is; else each is by itself."),
]
Runs = Annotated[Path, typer.Option(envvar="DIFFLM_RUNS", help="Folder that holds the experiments.")]
SafeCsv = Annotated[
    bool, typer.Option("--safe-csv", help="Put an apostrophe before CSV texts that a spreadsheet would run.")
]
Dialect = Annotated[
    str,
    typer.Option(
        metavar="source|plain",
        help="Write rows as the table's file was written (its delimiter, types, ...), or plainly.",
    ),
]
RUNS = Path("runs")
REFERENCE = "reference"
"""In place of a file of completions: the exercises' own solutions."""

PLAIN_WIDTH = 120


def is_plain(dialect: str) -> bool:
    """Read a value of --dialect.

    Raises:
        ConfigError: there is no such dialect.
    """
    from difflm.errors import ConfigError

    if dialect not in ("source", "plain"):
        raise ConfigError(f"--dialect {dialect}: unknown; give source or plain")
    return dialect == "plain"


def changed(changes: list[str] | None, protect: str | None) -> list[str]:
    """Return the settings of --set and --protect.

    Raises:
        ConfigError: --protect is neither on nor off.
    """
    from difflm.errors import ConfigError

    if protect not in (None, "on", "off"):
        raise ConfigError(f"--protect {protect}: give on or off; for columns, --set protect.columns.COLUMN=off")
    asked = {None: [], "on": ["protect.enabled=true"], "off": ["protect=off"]}
    return [*(changes or ()), *asked[protect]]


def describe_failure(error: Exception) -> str | None:
    """Say in one line what failed outside this program: an optional library that lacks, a disk; None for a defect."""
    from difflm.artifacts.atomic import describe_storage_error
    from difflm.extras import describe_missing

    return describe_missing(error) or describe_storage_error(error, Path.cwd())


def spell_unknown_letters() -> None:
    """Let what is printed have letters that the encoding of the output lacks, such as the α of a score in Latin-1."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as those of sys.stderr are


def output() -> Console:
    """Open the console that results go to, wide enough for tables where there is no terminal."""
    from difflm_jobs.console import PrintableConsole

    console = PrintableConsole()
    return console if console.is_terminal else PrintableConsole(width=PLAIN_WIDTH)


def progress_output() -> Console:
    """Open the console that progress goes to, so that results can be piped."""
    from difflm_jobs.console import PrintableConsole

    return PrintableConsole(stderr=True)


def print_line(console: Console, text: str, *, style: str | None = None) -> None:
    """Print a line as it is: nothing in it is markup, no number is coloured, and it is not wrapped."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def print_warning(console: Console, text: str) -> None:
    """Print what nobody may miss, as it is."""
    print_line(console, f"warning: {text}", style="bold red")


def audience() -> Audience:
    """Show a job's progress, notices and warnings on standard error."""
    from difflm_jobs.pipeline.progress import reporting
    from difflm_jobs.rows.bundle_rows import Audience

    console = progress_output()
    return Audience(
        reporting=partial(reporting, console), tell=partial(print_line, console), warn=partial(print_warning, console)
    )
