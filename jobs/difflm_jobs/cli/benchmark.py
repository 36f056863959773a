"""`difflm benchmark`: methods of others and our own on one table, with the same rows, minutes and ruler."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from difflm.errors import ConfigError, RunError
from difflm_jobs.cli.terminal import RUNS, Runs, Target, output, print_line, progress_output

if TYPE_CHECKING:
    from rich.console import Console

    from difflm_evaluators.report.comparison_report import ResultTable

METHODS = "real,cart,smote,ctgan,tvae,tabularargn,arf,compact"

benchmark_app = typer.Typer()


@benchmark_app.command()
def benchmark(
    config: Annotated[str, typer.Argument(metavar="TABLE", help="A table, a YAML file, or a preset's name.")],
    methods: Annotated[
        str,
        typer.Option(
            help="Of real, cart, smote, ctgan, tvae, tabularargn, tabularargn_dp, mst, arf, great, icl, compact, llm."
        ),
    ] = METHODS,
    minutes: Annotated[float, typer.Option(min=0.01, help="What each method has, for training and drawing.")] = 20.0,
    seeds: Annotated[str, typer.Option(help="Such as 0,1,2.")] = "0",
    train_rows: Annotated[int | None, typer.Option(min=4, help="Learn so many of the training rows.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Rows to make; by default as many as are learned.")] = None,
    rows: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE", help="Rows that were made elsewhere; may be repeated.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="A.B=C", help="A method's setting, such as great.model=DIR, or one of evaluation.* scores."
        ),
    ] = None,
    protocol: Annotated[bool, typer.Option(help="Score by the published protocol as well.")] = True,
    method_file: Annotated[Path | None, typer.Option(help="A YAML file of more methods, as methods.yaml.")] = None,
    target: Target = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of the methods' environments.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of results; by default RUNS/TABLE-benchmark.")] = None,
    runs: Runs = RUNS,
) -> None:
    """Run methods on a table within the same minutes, and score their rows; given again, it goes on."""
    from difflm.config import apply_overrides
    from difflm_jobs.benchmark.environments import cache_folder
    from difflm_jobs.benchmark.methods import read_methods
    from difflm_jobs.benchmark.run import Wanted, read_given, run_benchmark
    from difflm_jobs.benchmark.tables import read_benchmark_table

    names = [name.strip() for name in methods.split(",") if name.strip()]
    given = read_given(rows or (), names)
    scores = [change for change in changes or () if change.strip().startswith("evaluation.")]
    settings = [change for change in changes or () if change not in scores]
    chosen = read_methods(names, overrides=settings, file=method_file) if names or not given else []
    numbers = _numbers(seeds)
    console = progress_output()
    table = read_benchmark_table(config, target=target, train_rows=train_rows)
    wanted = Wanted(
        methods=chosen,
        seeds=numbers,
        rows=count,
        minutes=minutes,
        given=given,
        evaluation=apply_overrides({}, scores).get("evaluation", {}),
        protocol=protocol,
    )
    folder = out or runs / f"{table.name}-benchmark"
    found = run_benchmark(table, wanted, folder, cache=cache_folder(cache), say=partial(print_line, console))
    _print(found, folder, output())
    if not found.facts["scored"]:
        raise RunError("no method made rows that could be scored; the reasons stand in the table")


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise ConfigError(f"--seeds {text}: expected different whole numbers from 0 on with commas, such as 0,1,2")
    return numbers


def _print(found: ResultTable, folder: Path, console: Console) -> None:
    from rich.table import Table

    shown = Table(title=found.title, title_justify="left")
    for column in found.columns:
        shown.add_column(column, overflow="fold")
    for row in found.rows:
        shown.add_row(*row)
    console.print(shown)
    for note in found.notes:
        print_line(console, note)
    print_line(console, f"page: {folder / 'benchmark.html'}")
