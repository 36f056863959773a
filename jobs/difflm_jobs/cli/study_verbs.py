"""The verbs that run many experiments: `difflm ablate`, `difflm study` and `difflm flywheel`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from difflm.errors import ConfigError, EvaluationError, RunError
from difflm_jobs.cli.terminal import (
    RUNS,
    Gates,
    Given,
    Name,
    Runs,
    Set,
    Target,
    audience,
    output,
    print_line,
    progress_output,
)

if TYPE_CHECKING:
    from rich.console import Console

    from difflm_evaluators.report.comparison_report import ResultTable

study_app = typer.Typer()


@study_app.command()
def ablate(
    config: Given,
    grid: Annotated[
        str | None, typer.Option(help="A YAML file of cells, or one that ships: capacity, priors, table4.")
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="A.B=[V, V]", help="All values of one key; with several, their combinations."),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Such as 0,1,2.")] = None,
    changes: Set = None,
    target: Target = None,
    name: Name = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the table; by default that of the runs.")] = None,
    runs: Runs = RUNS,
) -> None:
    """Run an experiment in every cell of a grid with every seed, and write one table with standard errors."""
    from difflm_jobs.experiment import experiment_scores
    from difflm_jobs.inputs.places import refuse_others
    from difflm_jobs.loading import load_experiment
    from difflm_jobs.pipeline.progress import reporting
    from difflm_jobs.stages.stages import kept_cluster
    from difflm_jobs.studies.ablation import ablation_table, cell_experiments, load_grid, run_grid, spent_together

    cells = load_grid(grid, vary=vary or (), seeds=_numbers(seeds))
    experiments = cell_experiments(config, cells, overrides=changes or (), target=target, name=name)
    first = next(iter(experiments.values()))
    refuse_others(out or runs / first.name, "ablation")
    console = progress_output()
    shown = partial(reporting, console)
    if (spent := spent_together(experiments)) is not None:
        print_line(console, spent)

    with kept_cluster(first.runtime) as cluster:
        results = run_grid(
            cells,
            experiments,
            lambda experiment: experiment_scores(experiment, runs, cluster=cluster, reporting=shown),
            say=partial(print_line, console),
        )
    base = load_experiment(config, overrides=changes or (), target=target).name
    _finish(ablation_table(cells, results, experiment=base), out or runs / first.name, "ablation", output())
    failed = sum(len(result.failures) for result in results)
    if failed:
        raise RunError(f"{failed} of {len(experiments)} runs failed; their reasons stand below the table")


@study_app.command()
def study(
    given: Annotated[list[str], typer.Argument(metavar="RUN...", help="Finished runs by name or folder.")],
    times: Annotated[str, typer.Option(help="Multiples of the real rows.")] = "1,2,4",
    changes: Set = None,
    out: Annotated[Path, typer.Option(help="Folder of the table and of the synthetic rows.")] = Path("study"),
    runs: Runs = RUNS,
) -> None:
    """Score models trained on multiples of synthetic rows, and on real and synthetic rows together."""
    from difflm_jobs.cli.compare import distinct_labels
    from difflm_jobs.cli.summary import rows_line
    from difflm_jobs.experiment import find_experiment
    from difflm_jobs.inputs.places import refuse_others
    from difflm_jobs.rows.bundle_rows import DatasetRequest, write_rows
    from difflm_jobs.studies.study import label_folder, quantity_table, study_run

    refuse_others(out, "study")
    multiples = _numbers(times, "--times")
    if not multiples or min(multiples) < 1:
        raise ConfigError(f"--times {times}: expected multiples from 1 on, such as 1,2,4")
    console = progress_output()

    def draw(wanted: DatasetRequest, overrides: Sequence[str]) -> None:
        print_line(console, rows_line(write_rows(wanted, overrides=overrides, audience=audience())))

    folders = dict(zip(distinct_labels(given), (find_experiment(run, runs) for run in given), strict=True))
    studies = {
        label: study_run(
            folder,
            times=multiples,
            overrides=changes or (),
            out=out / "rows" / label_folder(label),
            draw=draw,
            say=partial(print_line, console),
        )
        for label, folder in folders.items()
    }
    _finish(quantity_table(studies), out, "study", output())


@study_app.command()
def flywheel(
    config: Given,
    rounds: Annotated[int, typer.Option(min=2, help="Rounds, with the first, which is trained on real rows.")] = 3,
    gate: Gates = None,
    changes: Set = None,
    target: Target = None,
    name: Name = None,
    runs: Runs = RUNS,
) -> None:
    """Synthesize, evaluate, gate, merge with the real rows, train again, until a gate falls; goes on after a kill."""
    from difflm_jobs.loading import load_experiment

    given = load_experiment(config, overrides=changes or (), target=target)
    from difflm.artifacts.run_folder import ROUNDS
    from difflm_jobs.inputs.gates import table_gates
    from difflm_jobs.inputs.places import refuse_others
    from difflm_jobs.pipeline.progress import reporting
    from difflm_jobs.stages.stages import kept_cluster
    from difflm_jobs.studies.flywheel import flywheel_table, round_run, turn

    experiment = given.model_copy(update={"name": name or f"{given.name}-flywheel"})
    gates = table_gates([*given.gates, *(gate or ())], given.data.kind)
    console, folder = progress_output(), runs / experiment.name
    refuse_others(folder, "flywheel")
    shown = partial(reporting, console)
    with kept_cluster(experiment.runtime) as cluster:
        done = turn(
            experiment,
            lambda each, against: round_run(each, runs, against=against, cluster=cluster, reporting=shown),
            rounds=rounds,
            gates=gates,
            folder=folder / ROUNDS,
            say=partial(print_line, console),
        )
    _finish(flywheel_table(done, name=given.name), folder, "flywheel", output())
    if done[-1].stopped_by:
        raise EvaluationError("; ".join(done[-1].stopped_by))


def _numbers(text: str | None, option: str = "--seeds") -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise ConfigError(f"{option} {text}: expected whole numbers with commas, such as 0,1,2") from None


def _finish(table: ResultTable, folder: Path, stem: str, console: Console) -> None:
    from rich.table import Table

    from difflm_evaluators.report.comparison_report import write_result_table

    shown = Table(title=table.title, title_justify="left")
    for column in table.columns:
        shown.add_column(column)
    for row in table.rows:
        shown.add_row(*row)
    console.print(shown)
    for note in table.notes:
        print_line(console, note)
    write_result_table(table, folder, stem)
    console.print(f"table: {folder / f'{stem}.html'}", highlight=False, soft_wrap=True)
