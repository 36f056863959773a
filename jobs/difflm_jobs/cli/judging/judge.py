"""The verbs of the judge: `difflm judge tools`, `preference` and `rubric`.

Records for a judge: the rows of any readable table, with nested values as they were in the file.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from difflm.errors import DataError
from difflm_jobs.cli.terminal import output, print_line, progress_output

if TYPE_CHECKING:
    from difflm.records.notices import Notice
    from difflm.telemetry import JSON
    from difflm_evaluators.judge.questions import Record
    from difflm_evaluators.judge.report import Judgement
    from difflm_evaluators.judge.run import JudgeProtocol
    from difflm_evaluators.judge.settings import JudgeSettings


def read_records(path: Path) -> list[Record]:
    """Read all rows. DataError naming file and row for what cannot be read."""
    from difflm.records.files.reading import read_table
    from difflm_evaluators.judge.questions import Record

    notices: list[Notice] = []
    table = read_table(path, report=notices.append)
    nested = {notice.column for notice in notices if notice.code == "nested"}
    rows: list[dict[str, JSON]] = table.to_pylist()
    return [
        Record(row=row, fields={name: _nested(value) if name in nested else value for name, value in fields.items()})
        for row, fields in enumerate(rows, start=1)
    ]


def read_sample(path: Path, most: int | None, seed: int) -> list[Record]:
    """Read all rows in the order of the file, or `most` of them drawn at random."""
    records = read_records(path)
    if most is None or most >= len(records):
        return records
    return sorted(random.Random(seed).sample(records, most), key=lambda record: record.row)


def shared_columns(a: Sequence[Record], b: Sequence[Record]) -> tuple[list[Record], list[Record], list[str]]:
    """Cut both sides to the columns that both have; return them and the names of those that only one has.

    A column that only one side has would tell the judge which side it looks at.

    Raises:
        DataError: they have no column in common.
    """
    from difflm_evaluators.judge.questions import Record

    names = [list(side[0].fields) for side in (a, b)]
    shared = [name for name in names[0] if name in names[1]]
    if not shared:
        raise DataError(f"the two files have no column in common: {names[0]} and {names[1]}; rename columns of one")
    hidden = [name for name in (*names[0], *names[1]) if name not in shared]
    cut_a, cut_b = (
        [Record(row=record.row, fields={name: record.fields[name] for name in shared}) for record in side]
        for side in (a, b)
    )
    return cut_a, cut_b, hidden


def with_column(records: Sequence[Record], column: str, path: Path) -> None:
    """Check that the records have a column.

    Raises:
        DataError: they have not.
    """
    names = list(records[0].fields)
    if column not in names:
        known = ", ".join(map(repr, names))
        raise DataError(
            f"{path}: no column {column!r}; it has {known}; give one of them with --category, or --groups N to compare "
            "N groups drawn at random"
        )


def _nested(value: JSON) -> JSON:
    """Parse a list or object that was read as its JSON text; other text stays."""
    from difflm.telemetry import parse_json

    if not isinstance(value, str):
        return value
    try:
        found: JSON = parse_json(value)
    except ValueError:
        return value
    return found if isinstance(found, list | dict) else value


judge_app = typer.Typer(
    help="Let a language model grade records, over any OpenAI-compatible endpoint.", no_args_is_help=True
)

Records = Annotated[Path, typer.Argument(help="The records: JSON lines, CSV, Parquet, ...")]
Model = Annotated[
    str,
    typer.Option(help="The model that judges, by its name at the endpoint; or package:NAME, a GGUF file or a folder."),
]
BaseUrl = Annotated[
    str | None, typer.Option(help="The endpoint, such as http://localhost:8000/v1; else OPENAI_BASE_URL, else OpenAI.")
]
Real = Annotated[Path | None, typer.Option(help="Real records, graded in the same way, to compare with.")]
Out = Annotated[Path, typer.Option(help="Folder for answers and report; the same one again goes on.")]
Repeats = Annotated[int, typer.Option(min=1, help="How often each question is asked; 2 or more show agreement.")]
MaxRecords = Annotated[int | None, typer.Option(min=1, help="Judge so many records, drawn at random.")]
Seed = Annotated[int, typer.Option(min=0, help="Of what is drawn at random.")]
MaxDollars = Annotated[
    float | None, typer.Option(help="Stop before more is spent; needs --set prices.input=... --set prices.output=...")
]
CacheFile = Annotated[
    str | None, typer.Option("--cache", help="File that remembers answers between folders; 'none' for none.")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one setting, such as limits.concurrency=2.")
]

OUT = Path("judgement")


@judge_app.command()
def tools(
    records: Records,
    model: Model,
    base_url: BaseUrl = None,
    real: Real = None,
    max_records: MaxRecords = None,
    seed: Seed = 0,
    repeats: Repeats = 1,
    max_dollars: MaxDollars = None,
    out: Out = OUT,
    cache: CacheFile = None,
    changes: Set = None,
) -> None:
    """Score each tool from 0 to 10 by six aspects, as the DiffLM paper does."""
    from difflm_evaluators.judge.grades import tool_protocol

    settings = _settings(model, base_url, repeats, max_dollars, changes)
    own, beside = _samples(records, real, max_records, seed)
    _judge(tool_protocol(own, beside), settings, out, cache, title=f"Tools of {records}")


@judge_app.command()
def preference(
    a: Annotated[Path, typer.Argument(metavar="A", help="Records of one side, usually the synthetic ones.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Records of the other side, usually the real ones.")],
    model: Model,
    base_url: BaseUrl = None,
    category: Annotated[str, typer.Option(help="The column by which records are put side by side.")] = "category",
    groups: Annotated[
        int | None, typer.Option(min=1, help="Compare so many groups drawn at random, for records without categories.")
    ] = None,
    per_side: Annotated[int, typer.Option(min=1, help="Records shown of each side.")] = 20,
    max_categories: Annotated[int | None, typer.Option(min=1, help="Compare so many categories.")] = None,
    seed: Seed = 0,
    repeats: Repeats = 1,
    max_dollars: MaxDollars = None,
    out: Out = OUT,
    cache: CacheFile = None,
    changes: Set = None,
) -> None:
    """Ask which of two sets is better, category by category, in both orders: A, B or equal."""
    from difflm_evaluators.judge.preference import PreferenceProtocol, pairs_at_random, pairs_by_column

    settings = _settings(model, base_url, repeats, max_dollars, changes)
    first, second = read_records(a), read_records(b)
    if groups is None:
        with_column(first, category, a)
        with_column(second, category, b)
    first, second, hidden = shared_columns(first, second)
    say_hidden(hidden)
    left_out: Mapping[str, Sequence[str]] = {}
    if groups is not None:
        pairs = pairs_at_random(first, second, groups=groups, most=per_side, seed=seed)
    else:
        pairs, left_out = pairs_by_column(first, second, category, most=per_side, seed=seed)
    protocol = PreferenceProtocol(pairs=pairs[:max_categories], left_out=left_out)
    _judge(protocol, settings, out, cache, title=f"A: {a}, B: {b}")


@judge_app.command()
def rubric(
    records: Records,
    rubric: Annotated[Path, typer.Option(help="A YAML file: record, criteria (name, description, scale), headline.")],
    model: Model,
    base_url: BaseUrl = None,
    real: Real = None,
    max_records: MaxRecords = None,
    seed: Seed = 0,
    repeats: Repeats = 1,
    max_dollars: MaxDollars = None,
    out: Out = OUT,
    cache: CacheFile = None,
    changes: Set = None,
) -> None:
    """Grade any records by a rubric of your own."""
    from difflm.config import load_yaml, validate
    from difflm_evaluators.judge.grades import RubricProtocol
    from difflm_evaluators.judge.rubric import Rubric

    settings = _settings(model, base_url, repeats, max_dollars, changes)
    criteria = validate(Rubric, load_yaml(rubric), str(rubric))
    own, beside = _samples(records, real, max_records, seed)
    protocol = RubricProtocol(name="rubric", rubric=criteria, records=own, real=beside)
    _judge(protocol, settings, out, cache, title=f"{records} by {rubric}")


def _samples(records: Path, real: Path | None, most: int | None, seed: int) -> tuple[list[Record], list[Record]]:
    """Read the records to grade and the real ones beside them, if any, with the same columns."""
    own = read_sample(records, most, seed)
    if real is None:
        return own, []
    own, beside, hidden = shared_columns(own, read_sample(real, most, seed))
    say_hidden(hidden)
    return own, beside


def say_hidden(columns: Sequence[str], *, to: str = "the judge") -> None:
    """Name the columns that would tell which side a record is of."""
    if columns:
        text = f"columns that only one file has are not shown to {to}: {', '.join(columns)}"
        print_line(progress_output(), text)


def _settings(
    model: str, base_url: str | None, repeats: int, max_dollars: float | None, changes: list[str] | None
) -> JudgeSettings:
    """Lay options over defaults and `--set` over both; ConfigError for what cannot be, or without an endpoint."""
    from difflm.config import apply_overrides, validate
    from difflm_evaluators.judge.settings import JudgeSettings, find_endpoint

    given = {"model": model, "base_url": base_url, "repeats": repeats, "budget": {"dollars": max_dollars}}
    settings = validate(JudgeSettings, apply_overrides(given, changes or ()), "judge", changes or ())
    find_endpoint(settings, os.environ)  # before any file is read
    return settings


def _judge(protocol: JudgeProtocol, settings: JudgeSettings, out: Path, cache: str | None, *, title: str) -> None:
    """Ask, print the scores, and end with code 1 when not every question was asked, or none answered.

    Raises:
        EvaluationError: the budget is used up, the endpoint has fallen silent, or not one answer could be used; what
            is there is written.
    """
    from difflm.errors import EvaluationError
    from difflm_evaluators.judge.answers import DiskCache, NoCache, default_cache_path
    from difflm_evaluators.judge.run import judge
    from difflm_jobs.cli.summary import print_scores
    from difflm_jobs.inputs.places import refuse_others
    from difflm_jobs.pipeline.progress import reporting

    refuse_others(out, "judge")
    remembered = NoCache() if cache == "none" else DiskCache(Path(cache) if cache else default_cache_path())
    with reporting(progress_output()) as reporter, reporter.stage("judge") as report:
        judgement = judge(protocol, settings, out, title=title, cache=remembered, progress=report)
    console = output()
    print_scores(console, [asdict(score) for score in judgement.evaluation.scores])
    for line in (_account_line(judgement), f"report: {out / 'judge.md'}"):
        print_line(console, line)
    if judgement.stopped_because is not None:
        account = judgement.account
        raise EvaluationError(
            f"{out}: {account.answered:,} of {account.questions:,} questions answered, then "
            f"{judgement.stopped_because}; mend that and give the same command again, which goes on from there"
        )
    if judgement.account.questions and not judgement.account.answered:
        reason = next(iter(judgement.reasons), "it gave none")
        raise EvaluationError(f"{out}: not one of {judgement.account.questions:,} answers could be used: {reason}")


def _account_line(judgement: Judgement) -> str:
    account = judgement.account
    dollars = "" if account.dollars is None else f", ${account.dollars:.4f}"
    missing = "".join(f"; {count:,} without: {reason}" for reason, count in judgement.reasons.items())
    return (
        f"{account.answered:,} of {account.questions:,} questions answered with {account.requests:,} requests, "
        f"{account.input_tokens + account.output_tokens:,} tokens{dollars}{missing}"
    )
