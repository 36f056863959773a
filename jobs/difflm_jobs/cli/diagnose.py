"""`difflm diagnose`: which part of a run loses fidelity, and in which columns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from difflm_jobs.cli.terminal import RUNS, Runs, audience, output, print_line

if TYPE_CHECKING:
    from rich.console import Console

    from difflm_evaluators.diagnosis.diagnosis import Diagnosis

MAX_LABEL = 36

diagnose_app = typer.Typer()


@diagnose_app.command()
def diagnose(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run by name or folder, or a bundle.")],
    rows: Annotated[int, typer.Option(help="At most so many rows of each part; half the training rows at most.")] = (
        10_000
    ),
    seed: Annotated[int, typer.Option(min=0, help="Of rows, draws and folds.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for diagnose.json and diagnose.html.")] = Path("diagnosis"),
    train: Annotated[Path | None, typer.Option(help="The rows that were learned, of a bundle without its run.")] = None,
    test: Annotated[Path | None, typer.Option(help="Real rows that were not learned, for --train.")] = None,
    runs: Runs = RUNS,
) -> None:
    """Say where fidelity is lost: in the autoencoder, the prior or the decoder, and in which columns and relations."""
    from difflm_jobs.inputs.places import refuse_others
    from difflm_jobs.rows.diagnosis import diagnose_learned, locate

    refuse_others(out, "diagnose")
    given = find_run(run, runs)
    learned = locate(given, train=train, test=test)
    with audience().reporting() as reporter, reporter.stage("diagnose") as report:
        diagnosis = diagnose_learned(learned, rows=rows, seed=seed, report=report)
    from difflm_evaluators.diagnosis.page import write_diagnosis

    about = {"bundle": str(learned.bundle), "real training rows": str(learned.real.train)}
    about["real held-out rows"] = str(learned.real.holdout or "none")
    write_diagnosis(diagnosis, out, title=given.resolve().name, about=about)
    print_diagnosis(diagnosis, output())
    print_line(output(), f"details: {out / 'diagnose.html'} and diagnose.json")


def find_run(run: str, runs: Path) -> Path:
    """Find the folder of a run, or a generator wherever it lies.

    Raises:
        ConfigError: there is none; names the runs there are.
    """
    from difflm.synthesis.sharing.places import is_generator
    from difflm_jobs.experiment import find_experiment

    path = Path(run)
    return path if is_generator(run) or (path / "artifacts").is_dir() else find_experiment(run, runs)


def print_diagnosis(diagnosis: Diagnosis, console: Console) -> None:
    """Print a table of every finding, then what they say, and the detector."""
    from rich.table import Table
    from rich.text import Text

    from difflm_evaluators.diagnosis.findings import conclusions, findings, notes

    for finding in findings(diagnosis):
        table = Table(title=finding.title, title_justify="left")
        labels = max(len(row[0]) for row in finding.rows)
        table.add_column(finding.heads[0], min_width=min(labels, MAX_LABEL), overflow="fold")
        for head in finding.heads[1:]:
            table.add_column(head, justify="right", overflow="fold", no_wrap=finding.name == "sources")
        for row in finding.rows:
            table.add_row(*map(Text, row))
        console.print(table)
    for line in (*conclusions(diagnosis), *notes(diagnosis)):
        print_line(console, line)
