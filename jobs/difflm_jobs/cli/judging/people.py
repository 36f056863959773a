"""`difflm judge export-pairs` and `read-pairs`: which of two sets of records people prefer."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from difflm_jobs.cli.judging.judge import Seed, judge_app, read_records, say_hidden, shared_columns, with_column
from difflm_jobs.cli.terminal import output, print_line, progress_output


@judge_app.command()
def export_pairs(
    a: Annotated[Path, typer.Argument(metavar="A", help="Records of one side, usually the synthetic ones.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Records of the other side, usually the real ones.")],
    out: Annotated[Path, typer.Option(help="The page; its key is written beside it.")] = Path("pairs.html"),
    category: Annotated[
        str | None, typer.Option(help="The column by which records are put side by side; else they are drawn freely.")
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="So many pairs.")] = 100,
    question: Annotated[str | None, typer.Option(help="What raters are asked.")] = None,
    seed: Seed = 0,
) -> None:
    """Write a page on which people choose between records of two sides, by keyboard; the sides are hidden."""
    from difflm_evaluators.judge.people import QUESTION, make_page, write_page
    from difflm_evaluators.judge.preference import pairs_at_random, single_pairs
    from difflm_jobs.inputs.places import refuse_over

    refuse_over(out, [a, b])
    first, second = read_records(a), read_records(b)
    if category is not None:
        with_column(first, category, a)
        with_column(second, category, b)
    first, second, hidden = shared_columns(first, second)
    say_hidden(hidden, to="raters")
    if category is None:
        drawn = pairs_at_random(first, second, groups=pairs, most=1, seed=seed)
    else:
        drawn = single_pairs(first, second, category, most=pairs, seed=seed)
    page = make_page(drawn, a=str(a), b=str(b), seed=seed, question=question or QUESTION)
    key = write_page(page, out)
    console = output()
    print_line(console, f"{len(drawn):,} pairs: {out} is for raters, {key} is not: it says which side is whose")
    print_line(console, f"when they have sent their files: difflm judge read-pairs {key} answers-*.json")


@judge_app.command()
def read_pairs(
    key: Annotated[Path, typer.Argument(help="The key that export-pairs wrote beside the page.")],
    answers: Annotated[list[Path], typer.Argument(help="The files that raters saved, one of each.")],
    out: Annotated[Path | None, typer.Option(help="Write scores, votes and agreement there as JSON.")] = None,
) -> None:
    """Say which side people prefer: wins, ties and losses with 95 % intervals, and how far raters agree."""
    from difflm.artifacts.atomic import write_json_atomic
    from difflm_evaluators.judge.people import evaluate_answers, read_answers, read_key
    from difflm_jobs.cli.summary import print_scores
    from difflm_jobs.inputs.places import refuse_over

    if out is not None:
        refuse_over(out, [key, *answers])
    known = read_key(key)
    evaluation = evaluate_answers(known, [read_answers(path, known) for path in answers])
    print_scores(output(), [asdict(score) for score in evaluation.scores])
    for score in evaluation.scores:
        if score.warning is not None:
            print_line(progress_output(), f"warning: {score.warning}")
    if out is not None:
        write_json_atomic(out, {"scores": [asdict(score) for score in evaluation.scores], **evaluation.details})
        print_line(output(), f"written: {out}")
