"""The report of an evaluation on disk: report.json for programs, report.md for terminals, report.html for people."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from difflm.errors import EvaluationError, StorageError
from difflm_evaluators.base import JSON
from difflm_evaluators.evaluation import EvaluationReport
from difflm_evaluators.report.html import judge_rows, judge_text, judge_warnings, render_html
from difflm_evaluators.report.layout import JudgeEntry, ReportContext, ReportFile
from difflm_evaluators.report.pictures import Picture, draw_pictures
from difflm_evaluators.report.rows import baseline_text, interval_text, percent, value_text, worst_columns, worst_pairs


def write_files(directory: Path, files: Mapping[str, str]) -> None:
    """Write texts by their names relative to `directory`, made when missing; StorageError where that cannot be."""
    try:
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = directory / f"{name}.partial"
            try:
                temporary.write_text(text, encoding="utf-8")
                os.replace(temporary, path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise StorageError(
            f"{directory}: cannot write the report ({error}); free space or choose another one"
        ) from error


def markdown_cell(text: str) -> str:
    """Text as a cell of a Markdown table, without markup of its own."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def write_report(report: EvaluationReport, directory: Path, *, context: ReportContext) -> None:
    """Write report.json, report.md, report.html and pictures/*.svg into `directory`, which is made when missing.

    Raises:
        EvaluationError: a published figure without a source or a number that JSON cannot hold.
        StorageError: the directory cannot be written.
    """
    for row in context.published:
        if not row.source.strip() or not math.isfinite(row.value):
            raise EvaluationError(
                f"published figure of {row.method!r} for {row.score!r}: value {row.value}, source {row.source!r}; "
                "give a finite number and name its source"
            )
    text = json_text(report, context)
    pictures = draw_pictures(report, context.loss_curves)
    files = {
        "report.json": text,
        "report.md": render_markdown(report, context, pictures),
        "report.html": render_html(report, context, pictures),
    }
    files |= {f"pictures/{picture.name}.svg": picture.standalone for picture in pictures}
    write_files(directory, files)


def json_text(report: EvaluationReport, context: ReportContext) -> str:
    """`report.json`: the report, then the context; loss curves stay in the stages' own event files."""
    extra: dict[str, JSON] = {
        "title": context.title,
        "settings": dict(context.settings),
        "environment": dict(context.environment),
        "timings": dict(context.timings),
        "published": [asdict(row) for row in context.published],
        "judge": context.judge.model_dump(mode="json") if context.judge is not None else None,
    }
    try:
        text = json.dumps({**report.to_json(), **extra}, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        ReportFile.model_validate_json(text)
    except (TypeError, ValueError) as error:
        raise EvaluationError(f"the report's settings or timings are not JSON ({error}); give plain values") from error
    return text


def _judge_lines(judge: JudgeEntry) -> list[str]:
    lines = ["", "## A language model's grades", "", markdown_cell(judge_text(judge)), ""]
    lines += [line for text in judge_warnings(judge) for line in (f"**Warning:** {markdown_cell(text)}", "")]
    lines += ["| score | value | beside it | meaning |", "|---|---|---|---|"]
    for row in judge_rows(judge):
        cells = (markdown_cell(row[key]) for key in ("title", "value", "beside", "meaning"))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def render_markdown(report: EvaluationReport, context: ReportContext, pictures: Sequence[Picture]) -> str:
    """`report.md`: scores, worst columns and pairs, published figures, timings, links to the pictures."""
    rows = report.rows
    lines = [
        f"# {markdown_cell(context.title)}",
        "",
        f"{rows['synthetic']:,} synthetic rows against {rows['train']:,} training and {rows['test']:,} test rows.",
        "",
        *(line for text in report.warnings for line in (f"**Warning:** {markdown_cell(text)}", "")),
        "| score | value | real data | meaning |",
        "|---|---|---|---|",
    ]
    for score in report.scores:
        value = "; ".join(filter(None, (value_text(score), interval_text(score))))
        title, value, baseline = map(markdown_cell, (score.title, value, baseline_text(score)))
        lines.append(f"| {title} | {value} | {baseline} | {score.meaning} |")
    lines += _judge_lines(context.judge) if context.judge is not None else []
    lines += ["", "## Worst columns", ""]
    lines += ["| column | error % | real test split % | detection % | what differs most |", "|---|---|---|---|---|"]
    for column in worst_columns(report):
        figures = " | ".join(percent(column[key]) for key in ("error", "baseline", "gain_share"))
        lines.append(f"| {markdown_cell(column['name'])} | {figures} | {markdown_cell(column['text'])} |")
    lines += ["", "## Worst pairs", ""]
    lines += ["| pair | error % | real test split % | what differs most |", "|---|---|---|---|"]
    for pair in worst_pairs(report):
        figures = " | ".join(percent(pair[key]) for key in ("error", "baseline"))
        names = markdown_cell(f"{pair['first']} × {pair['second']}")
        lines.append(f"| {names} | {figures} | {markdown_cell(pair['text'])} |")
    if context.published:
        lines += ["", "## Published figures", "", "| method | score | value | source |", "|---|---|---|---|"]
        lines += [
            f"| {markdown_cell(r.method)} | {r.score} | {r.value:g} | {markdown_cell(r.source)} |"
            for r in context.published
        ]
    if context.timings:
        lines += ["", "## Timings", "", "| stage | seconds |", "|---|---|"]
        lines += [f"| {markdown_cell(stage)} | {seconds:,.1f} |" for stage, seconds in context.timings.items()]
    lines += ["", "## Pictures", ""]
    lines += [f"- [{markdown_cell(picture.title)}](pictures/{picture.name}.svg)" for picture in pictures]
    return "\n".join(lines) + "\n"
