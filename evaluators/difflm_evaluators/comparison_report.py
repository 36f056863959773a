"""A comparison on disk: compare.json for programs, compare.md for terminals, compare.html for people."""

import json
from collections.abc import Sequence
from pathlib import Path

from difflm_evaluators.comparison import LEVEL, ComparedScore, Comparison, Difference
from difflm_evaluators.report_file import ScoreEntry
from difflm_evaluators.report_html import template_environment
from difflm_evaluators.report_rows import number_text
from difflm_evaluators.report_writing import markdown_cell, write_files

BEST = "★"
MOST_COLUMNS = 100
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
        (name, [f"{100 * run[name]:.2f}" if name in run else "–" for run in by_run]) for name in names[:MOST_COLUMNS]
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
