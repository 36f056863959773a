"""`difflm purge`: a run without the real rows in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from difflm_jobs.cli.terminal import RUNS, Runs, output, print_line

at_rest_app = typer.Typer()


@at_rest_app.command()
def purge(
    run: Annotated[str, typer.Argument(metavar="RUN", help="An experiment's name or folder.")], runs: Runs = RUNS
) -> None:
    """Remove from a run what holds real rows or is fitted row by row: all but bundle, synthetic rows and report."""
    from difflm_jobs.experiment import find_experiment

    print_line(output(), purged(find_experiment(run, runs)))


def purged(folder: Path) -> str:
    """Purge the folder of an experiment; return a line about it."""
    from difflm_jobs.pipeline.at_rest import purge_run

    removed = purge_run(folder)
    return f"{folder}: removed {', '.join(removed) or 'nothing'}; bundle, synthetic rows and report are left"
