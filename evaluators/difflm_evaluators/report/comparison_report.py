"""A table of results over several runs: on the console, as Markdown, JSON and one page of HTML."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from difflm_evaluators.base import JSON
from difflm_evaluators.report.comparison import LEVEL, ComparedScore, Comparison, Difference
from difflm_evaluators.report.html import template_environment
from difflm_evaluators.report.layout import ScoreEntry
from difflm_evaluators.report.plots import inline_svg, standalone_svg
from difflm_evaluators.report.report import markdown_cell, write_files
from difflm_evaluators.report.rows import number_text

BEST = "★"
MAX_COLUMNS = 100
EXPLANATION = (
    f"{BEST} marks the best run of each score. p-values are two-sided, of a test against the first run, and corrected "
    f"for all tests of this comparison together (Holm); below {LEVEL:g} the difference is more than chance. The tests "
    "are about these tables: another training of the same generator gives another table."
)


def write_comparison(comparison: Comparison, directory: Path) -> None:
    """Write compare.json, compare.md and compare.html; StorageError when `directory` cannot be written."""
    text = json.dumps(comparison.to_json(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    files = {"compare.json": text, "compare.md": comparison_markdown(comparison)}
    write_files(directory, {**files, "compare.html": comparison_html(comparison)})


def value_line(entry: ScoreEntry | None) -> str:
    """A value with its standard error, or why there is none."""
    if entry is None:
        return "not evaluated"
    if entry.value is None:
        return f"undefined: {entry.undefined_because}"
    error = "" if entry.standard_error is None else f" ± {entry.standard_error:.2g}"
    return number_text(entry.value, entry.unit) + error


def verdict_line(difference: Difference) -> str:
    """The verdict with its corrected p-value, or why there is no test."""
    if difference.p_holm is None:
        return difference.method
    return f"{difference.verdict} (p {p_text(difference.p_holm)})"


def p_text(p_value: float) -> str:
    """A p-value with two significant digits."""
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.2g}"


def goal_text(score: ComparedScore) -> str:
    """What is good: a direction, or the number to be near."""
    if score.direction != "target":
        return f"{score.direction} is better"
    return "nearer to real data is better" if score.ideal is None else f"near {number_text(score.ideal, score.unit)}"


def column_errors(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Shape error in percent of every column in every run, the largest first; a dash where it was not evaluated."""
    by_run: list[dict[str, float]] = [
        {row["name"]: row["error"] for row in report.details("marginals").get("columns", [])}
        for report in comparison.reports
    ]
    names = sorted(comparison.reports[0].columns, key=lambda name: -max(run.get(name, 0.0) for run in by_run))
    return [
        (name, [f"{100 * run[name]:.2f}" if name in run else "–" for run in by_run]) for name in names[:MAX_COLUMNS]
    ]


def comparison_markdown(comparison: Comparison) -> str:
    """`compare.md`: notes, scores side by side, tests."""
    labels = [markdown_cell(label) for label in comparison.labels]
    lines = ["# Comparison of " + " and ".join(labels), ""]
    lines += [line for note in comparison.notes for line in (f"**Note:** {markdown_cell(note)}", "")]
    lines += [EXPLANATION, "", _row(["score", *labels, "good"]), _row(["---"] * (len(labels) + 2))]
    for score in comparison.scores:
        cells = [_marked(score, place) for place in range(len(labels))]
        lines.append(_row([markdown_cell(text) for text in (score.title, *cells, goal_text(score))]))
    lines += ["", f"## Differences from {labels[0]}", ""]
    lines += [_row(["score", "run", "verdict", "test"]), _row(["---"] * 4)]
    for score in comparison.scores:
        for label, difference in zip(labels[1:], score.differences, strict=True):
            method = difference.method if difference.p_value is not None else "–"
            lines.append(_row([markdown_cell(score.title), label, markdown_cell(verdict_line(difference)), method]))
    lines += ["", "## Shape error by column, %", "", _row(["column", *labels]), _row(["---"] * (len(labels) + 1))]
    lines += [_row([markdown_cell(name), *errors]) for name, errors in column_errors(comparison)]
    return "\n".join(lines) + "\n"


def _marked(score: ComparedScore, place: int) -> str:
    text = value_line(score.entries[place])
    return f"{text} {BEST}" if place in score.best else text


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def comparison_html(comparison: Comparison) -> str:
    """`compare.html`: one file in the look of the report, with nothing from outside."""
    scores = [
        {
            "title": score.title,
            "meaning": score.meaning,
            "good": goal_text(score),
            "cells": [
                {
                    "value": value_line(entry),
                    "best": place in score.best,
                    "difference": score.differences[place - 1] if place else None,
                    "verdict": verdict_line(score.differences[place - 1]) if place else "",
                }
                for place, entry in enumerate(score.entries)
            ],
        }
        for score in comparison.scores
    ]
    return (
        template_environment()
        .get_template("compare.html.j2")
        .render(
            comparison=comparison,
            runs=list(zip(comparison.labels, comparison.reports, strict=True)),
            scores=scores,
            columns=column_errors(comparison),
            explanation=EXPLANATION,
            best=BEST,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultTable:
    """What was found, in words: a row per run or cell, the first column its name; `facts` are the same as numbers.

    `pictures` maps file names without an ending to SVG drawings.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    facts: Mapping[str, JSON] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)


def mean_text(mean: float | None, error: float | None, *, digits: int = 4) -> str:
    """A mean and, where there is one, its standard error; a dash for nothing."""
    if mean is None:
        return "–"
    return f"{mean:.{digits}g}" + ("" if error is None else f" ± {error:.2g}")


def result_markdown(table: ResultTable) -> str:
    """The table and its notes as Markdown."""
    lines = [f"# {markdown_cell(table.title)}", ""]
    rows = [table.columns, ["---"] * len(table.columns), *table.rows]
    lines += ["| " + " | ".join(markdown_cell(cell) for cell in row) + " |" for row in rows]
    lines += [line for note in table.notes for line in ("", markdown_cell(note))]
    lines += [line for name in table.pictures for line in ("", f"![{name}]({name}.svg)")]
    return "\n".join(lines) + "\n"


def result_html(table: ResultTable) -> str:
    """One page in the look of the report, with nothing from outside."""
    pictures = [Markup(inline_svg(svg, name)) for name, svg in table.pictures.items()]
    return template_environment().get_template("results.html.j2").render(table=table, pictures=pictures)


def write_result_table(table: ResultTable, directory: Path, stem: str) -> None:
    """Write STEM.json, STEM.md, STEM.html and the pictures; StorageError when `directory` cannot be written."""
    text = json.dumps(dict(table.facts), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    files = {f"{stem}.json": text, f"{stem}.md": result_markdown(table), f"{stem}.html": result_html(table)}
    write_files(directory, {**files, **{f"{name}.svg": standalone_svg(svg) for name, svg in table.pictures.items()}})
