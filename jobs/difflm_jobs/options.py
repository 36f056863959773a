"""Options that several verbs of the command line share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Given = Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file, a preset's name, or just a table.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one key; may be repeated.")]
Target = Annotated[str | None, typer.Option(help="The column that a model would predict.")]
Name = Annotated[str | None, typer.Option(help="Name of the experiment, and of its folder.")]
Gates = Annotated[
    list[str] | None,
    typer.Option(
        "--gate", metavar="GATE", help="What must hold, such as 'shape < 3', 'warn: trend < 5'; may be repeated."
    ),
]
Runs = Annotated[Path, typer.Option(envvar="DIFFLM_RUNS", help="Folder that holds the experiments.")]
RUNS = Path("runs")
