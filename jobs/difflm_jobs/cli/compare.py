"""`difflm compare`: the reports of several runs side by side; `difflm report-schema`: the layout of report.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from difflm.errors import ArtifactError, ConfigError
from difflm_jobs.cli.terminal import RUNS, Runs, output, print_line

if TYPE_CHECKING:
    from rich.console import Console

    from difflm_evaluators.report.comparison import ComparedScore
    from difflm_evaluators.report.comparison_report import Comparison

REPORT = "report.json"

report_app = typer.Typer()


@report_app.command()
def compare(
    given: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Runs by name or folder, report.json files, or folders that hold one."),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for compare.json, compare.md and compare.html.")] = None,
    runs: Runs = RUNS,
) -> None:
    """Show the scores of two or more runs of one table side by side, and which differences are more than chance."""
    if len(given) < 2:
        raise ConfigError(f"compare: {len(given)} run given; give two or more")
    from difflm_evaluators.report.comparison_report import compare_reports, write_comparison
    from difflm_evaluators.report.layout import read_report, readable
    from difflm_jobs.inputs.places import refuse_others

    if out is not None:
        refuse_others(out, "compare")
    paths = [find_report(text, runs) for text in given]
    labels = distinct_labels(given)
    console = output()
    with readable(*paths):
        comparison = compare_reports(dict(zip(labels, map(read_report, paths), strict=True)))
        print_comparison(comparison, console)
        if out is not None:
            write_comparison(comparison, out)
    if out is not None:
        console.print(f"comparison: {out / 'compare.html'}", highlight=False, soft_wrap=True)


@report_app.command("report-schema")
def print_report_schema() -> None:
    """Print the JSON schema of report.json."""
    from difflm_evaluators.report.layout import report_schema

    print(report_schema(), end="")


def find_report(given: str, runs: Path) -> Path:
    """Find the report.json of a path: a file, one in a folder, or that of a run's last evaluation.

    Raises:
        ConfigError: there is no such run or file.
        ArtifactError: no finished run of the experiment wrote a report.
    """
    from difflm_jobs.experiment import find_experiment
    from difflm_jobs.pipeline.runlog import read_runs

    path = Path(given)
    if path.is_file():
        return path
    if (path / REPORT).is_file():
        return path / REPORT
    folder = find_experiment(given, runs)
    for run in reversed(read_runs(folder)):
        for stage in run.stages:
            report = folder / "artifacts" / stage.artifact / REPORT
            if stage.stage == "evaluate" and report.is_file():
                return report
    raise ArtifactError(f"{folder}: no run of it wrote a report; run it to the end first")


def distinct_labels(given: Sequence[str]) -> list[str]:
    """Name the runs: by the last part of each path, or by the whole path where two of these are equal."""
    short = [Path(text).name or text for text in given]
    short = [Path(text).parent.name if name == REPORT else name for text, name in zip(given, short, strict=True)]
    labels = list(short) if len(set(short)) == len(short) and all(short) else list(given)
    return [
        f"{label} ({labels[:place].count(label) + 1})" if label in labels[:place] else label
        for place, label in enumerate(labels)
    ]


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print every score in every run, with the verdict on each difference below its value, then the notes."""
    from rich.table import Table
    from rich.text import Text

    from difflm_evaluators.report.comparison_report import EXPLANATION, goal_text

    table = Table(title="Scores", title_justify="left")
    table.add_column("score")
    for label in comparison.labels:
        table.add_column(Text(label), overflow="fold")
    table.add_column("good")
    for score in comparison.scores:
        cells = [_cell(score, place) for place in range(len(comparison.labels))]
        table.add_row(*map(Text, (score.title, *cells, goal_text(score))))
    console.print(table)
    for text in (*(f"note: {note}" for note in comparison.notes), EXPLANATION):
        print_line(console, text)


def _cell(score: ComparedScore, place: int) -> str:
    from difflm_evaluators.report.comparison_report import BEST, value_line, verdict_line

    best = f" {BEST}" if place in score.best else ""
    below = f"\n{verdict_line(score.differences[place - 1])}" if place else ""
    return f"{value_line(score.entries[place])}{best}{below}"
