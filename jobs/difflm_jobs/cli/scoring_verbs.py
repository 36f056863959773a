"""The verbs about records that are there already: `evaluate`, `passk`, `export-tools` and `downstream`."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from difflm_jobs.cli.terminal import RUNS, Gates, Runs, Set, Target, output, print_line, print_warning, progress_output

scoring_app = typer.Typer()


@scoring_app.command()
def evaluate(
    records: Annotated[
        str, typer.Argument(help="The synthetic table: a file, a dataset of many parts, or a database's URL.")
    ],
    train: Annotated[str, typer.Option(help="The real training table, also a database's.")],
    test: Annotated[str | None, typer.Option(help="Real rows that were not trained on.")] = None,
    kind: Annotated[str, typer.Option(help="What the records are: table, tools or code.")] = "table",
    target: Target = None,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("evaluation"),
    judge: Annotated[Path | None, typer.Option(help="Folder of `difflm judge`, to show its scores as well.")] = None,
    gate: Gates = None,
    changes: Set = None,
) -> None:
    """Score any synthetic records against real ones, and write a report."""
    from difflm_jobs.cli.summary import print_scores, print_verdict
    from difflm_jobs.inputs.gates import refuse_failed, table_gates
    from difflm_jobs.inputs.record_kinds import record_kind
    from difflm_jobs.stages.evaluate import evaluate_files, headlines

    what = record_kind(kind).name
    gates = table_gates(gate or (), what)

    def tell(line: str) -> None:
        print_line(progress_output(), line)

    report = evaluate_files(
        records,
        train=train,
        test=test,
        target=target,
        out=out,
        judge=judge,
        overrides=changes or (),
        kind=what,
        tell=tell,
    )
    console = output()
    print_scores(console, headlines(report))
    print_verdict(console, report.verdict)
    console.print(f"report: {out / 'report.html'}", highlight=False, soft_wrap=True)
    refuse_failed(gates, headlines(report), report.rows["synthetic"], partial(print_warning, console))


@scoring_app.command()
def passk(
    samples: Annotated[str, typer.Argument(help="JSON lines with task_id and completion, or the word reference.")],
    problems: Annotated[Path, typer.Option(help="The exercises: a file of HumanEval or MBPP.")],
    k: Annotated[list[int] | None, typer.Option(min=1, help="May be given several times; 1 by default.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Programs that run at a time.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder for passk.json and passk.md.")] = Path("passk"),
    changes: Set = None,
) -> None:
    """Run completions of programming exercises in a sandbox: pass@k; 'reference' runs the exercises' own solutions."""
    from difflm_jobs.cli.passk import account, score_completions
    from difflm_jobs.cli.summary import print_scores

    evaluation = score_completions(
        samples,
        problems=problems,
        ks=k or [1],
        out=out,
        workers=workers,
        overrides=changes or (),
        console=progress_output(),
    )
    console = output()
    print_scores(console, [asdict(score) for score in evaluation.scores])
    console.print(account(evaluation), highlight=False, soft_wrap=True)
    console.print(f"details: {out / 'passk.md'} and passk.json", highlight=False, soft_wrap=True)


@scoring_app.command("export-tools")
def export_tools(
    records: Annotated[Path, typer.Argument(help="Tool records: JSON lines, CSV or Parquet.")],
    out: Annotated[Path, typer.Option(help="JSON lines of raw tools.")],
) -> None:
    """Write tool records as raw tools, the way ToolBench has them: one object per tool with its list of APIs."""
    from difflm_jobs.cli.passk import export_tools as export

    found, tools = export(records, out)
    output().print(f"{out}: {tools:,} tools with {found:,} APIs", highlight=False, soft_wrap=True)


@scoring_app.command()
def downstream(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file; see docs/recipes/downstream.md.")],
    changes: Set = None,
    runs: Runs = RUNS,
) -> None:
    """Train a language model further on real, on synthetic and on both kinds of code, and compare them."""
    from difflm.config import apply_overrides, load_yaml, validate
    from difflm_jobs.pipeline.progress import reporting
    from difflm_jobs.studies.downstream import run_downstream
    from difflm_jobs.studies.downstream_config import DownstreamConfig
    from difflm_jobs.studies.downstream_scores import REPORT

    given = {"name": config.stem, **load_yaml(config)}
    settings = validate(DownstreamConfig, apply_overrides(given, changes or ()), str(config), changes or ())
    made = run_downstream(settings, runs, partial(reporting, progress_output()))
    console = output()
    print_line(console, (made.path / REPORT).read_text(encoding="utf-8"))
    console.print(f"details: {made.path}", highlight=False, soft_wrap=True)
