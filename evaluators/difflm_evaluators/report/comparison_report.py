"""A comparison on disk: compare.json for programs, compare.md for terminals, compare.html for people.

A table of results over several runs: on the console, as Markdown, JSON and one page of HTML.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from difflm.errors import ConfigError
from difflm.telemetry import JSON
from difflm_evaluators.report.comparison import LEVEL, ComparedScore, Difference, compared_scores
from difflm_evaluators.report.layout import ReportFile, ScoreEntry
from difflm_evaluators.report.plots import inline_svg, standalone_svg
from difflm_evaluators.report.rendering import (
    html_templates,
    markdown_cell,
    markdown_templates,
    render_piece,
    write_files,
)
from difflm_evaluators.report.rows import number_text

COMPARISON_VERSION = 1
BEST = "★"
MAX_COLUMNS = 100
EXPLANATION = (
    f"{BEST} marks the best run of each score. p-values are two-sided, of a test against the first run, and corrected "
    f"for all tests of this comparison together (Holm); below {LEVEL:g} the difference is more than chance. The tests "
    "are about these tables: another training of the same generator gives another table."
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Comparison:
    """Reports by label, their scores side by side, and what a reader has to know first (`notes`).

    A notebook shows it as a table; `print(comparison)` gives the same as text.
    """

    labels: tuple[str, ...]
    reports: tuple[ReportFile, ...]
    scores: tuple[ComparedScore, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, JSON]:
        """Return the comparison as plain JSON values, without the details of the reports."""
        runs: list[JSON] = [
            {"label": label, "title": report.title, "rows": report.rows.model_dump(), "real": report.real.model_dump()}
            for label, report in zip(self.labels, self.reports, strict=True)
        ]
        return {
            "comparison_version": COMPARISON_VERSION,
            "level": LEVEL,
            "notes": list(self.notes),
            "runs": runs,
            "scores": [_score_json(score) for score in self.scores],
        }

    def save(self, path: Path | str) -> Path:
        """Write it, and return where: a file for a path in .html, .json or .md, else a folder with all of them.

        Raises:
            ConfigError: the path has another ending, and no folder of that name is there.
            StorageError: the place cannot be written.
        """
        path = Path(path)
        if path.is_dir() or not path.suffix:
            write_comparison(self, path)
            return path
        text = _RENDERERS.get(path.suffix.lower())
        if text is None:
            raise ConfigError(f"{path}: no ending of a comparison; give one of {', '.join(_RENDERERS)}, or a folder")
        write_files(path.parent, {path.name: text(self)})
        return path

    def __repr__(self) -> str:
        """Return the scores as lines of text, a value per report."""
        width = max((len(score.name) for score in self.scores), default=0)
        rows = [
            "  ".join([f"  {score.name:<{width}}", *(_marked(score, place) for place in range(len(self.labels)))])
            for score in self.scores
        ]
        notes = [f"  Note: {note}" for note in self.notes]
        return "\n".join([f"Comparison of {' and '.join(self.labels)}", *notes, *rows])

    def _repr_html_(self) -> str:
        """Return a table of the scores in every report, for notebooks."""
        rows = [
            {
                "meaning": score.meaning,
                "cells": [
                    {"text": score.title, "note": score.name, "note_class": "soft"},
                    *(_piece(score, place) for place in range(len(self.labels))),
                    {"text": goal_text(score), "note": "", "note_class": ""},
                ],
            }
            for score in self.scores
        ]
        heads = ("score", *self.labels, "good")
        return render_piece("Comparison", f"{BEST} marks the best", self.notes, heads, rows, warning_word="Note.")


def _score_json(score: ComparedScore) -> dict[str, JSON]:
    entries: list[JSON] = [
        None
        if entry is None
        else entry.model_dump(mode="json", include={"value", "standard_error", "interval", "undefined_because"})
        for entry in score.entries
    ]
    return {
        **{key: getattr(score, key) for key in ("name", "title", "unit", "direction", "ideal")},
        "entries": entries,
        "best": list(score.best),
        "differences": [asdict(difference) for difference in score.differences],
    }


def compare_reports(reports: Mapping[str, ReportFile]) -> Comparison:
    """Compare two or more reports, by label; the first is what the others are tested against.

    Raises:
        DataError: fewer than two reports, or reports of tables with other columns, another target or task.
    """
    scores, notes = compared_scores(reports)
    return Comparison(labels=tuple(reports), reports=tuple(reports.values()), scores=scores, notes=notes)


def write_comparison(comparison: Comparison, directory: Path) -> None:
    """Write compare.json, compare.md and compare.html; StorageError when `directory` cannot be written."""
    write_files(directory, {f"compare{ending}": render(comparison) for ending, render in _RENDERERS.items()})


def value_line(entry: ScoreEntry | None) -> str:
    """Write a value with its standard error, or why there is none."""
    if entry is None:
        return "not evaluated"
    if entry.value is None:
        return f"undefined: {entry.undefined_because}"
    error = "" if entry.standard_error is None else f" ± {entry.standard_error:.2g}"
    return number_text(entry.value, entry.unit) + error


def verdict_line(difference: Difference) -> str:
    """Write the verdict with its corrected p-value, or why there is no test."""
    if difference.p_holm is None:
        return difference.method
    return f"{difference.verdict} (p {p_text(difference.p_holm)})"


def p_text(p_value: float) -> str:
    """Write a p-value with two significant digits."""
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.2g}"


def goal_text(score: ComparedScore) -> str:
    """Say what is good: a direction, or the number to be near."""
    if score.direction != "target":
        return f"{score.direction} is better"
    return "nearer to real data is better" if score.ideal is None else f"near {number_text(score.ideal, score.unit)}"


def column_errors(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """List every column's shape error in percent in every run, the largest first; a dash where it was not evaluated."""
    by_run: list[dict[str, float]] = [
        {row["name"]: row["error"] for row in report.details("marginals").get("columns", [])}
        for report in comparison.reports
    ]
    names = sorted(comparison.reports[0].columns, key=lambda name: -max(run.get(name, 0.0) for run in by_run))
    return [
        (name, [f"{100 * run[name]:.2f}" if name in run else "–" for run in by_run]) for name in names[:MAX_COLUMNS]
    ]


def comparison_json(comparison: Comparison) -> str:
    """`compare.json`: what `Comparison.to_json` gives."""
    return json.dumps(comparison.to_json(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def comparison_markdown(comparison: Comparison) -> str:
    """`compare.md`: notes, scores side by side, tests."""
    labels = [markdown_cell(label) for label in comparison.labels]
    return markdown_templates().get_template("compare.md.j2").render(labels=labels, **_shown(comparison))


def comparison_html(comparison: Comparison) -> str:
    """`compare.html`: one file in the look of the report, with nothing from outside."""
    runs = list(zip(comparison.labels, comparison.reports, strict=True))
    return html_templates().get_template("compare.html.j2").render(runs=runs, **_shown(comparison))


def _shown(comparison: Comparison) -> dict[str, Any]:
    """Collect what page and Markdown show alike."""
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
    return {
        "comparison": comparison,
        "scores": scores,
        "columns": column_errors(comparison),
        "explanation": EXPLANATION,
        "best": BEST,
    }


def _marked(score: ComparedScore, place: int) -> str:
    text = value_line(score.entries[place])
    return f"{text} {BEST}" if place in score.best else text


def _piece(score: ComparedScore, place: int) -> dict[str, str]:
    """Lay out a cell of the notebook's table: the value, and below it the verdict on its difference."""
    if not place:
        return {"text": _marked(score, place), "note": "", "note_class": ""}
    difference = score.differences[place - 1]
    kind = {"better": "good", "worse": "bad"}.get(difference.verdict, "soft")
    return {"text": _marked(score, place), "note": verdict_line(difference), "note_class": kind}


_RENDERERS: Mapping[str, Callable[[Comparison], str]] = {
    ".json": comparison_json,
    ".md": comparison_markdown,
    ".html": comparison_html,
}


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
    """Write a mean and, where there is one, its standard error; a dash for nothing."""
    if mean is None:
        return "–"
    return f"{mean:.{digits}g}" + ("" if error is None else f" ± {error:.2g}")


def result_markdown(table: ResultTable) -> str:
    """Render the table and its notes as Markdown."""
    return markdown_templates().get_template("results.md.j2").render(table=table)


def result_html(table: ResultTable) -> str:
    """Render one page in the look of the report, with nothing from outside."""
    pictures = [Markup(inline_svg(svg, name)) for name, svg in table.pictures.items()]
    return html_templates().get_template("results.html.j2").render(table=table, pictures=pictures)


def write_result_table(table: ResultTable, directory: Path, stem: str) -> None:
    """Write STEM.json, STEM.md, STEM.html and the pictures; StorageError when `directory` cannot be written."""
    text = json.dumps(dict(table.facts), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    files = {f"{stem}.json": text, f"{stem}.md": result_markdown(table), f"{stem}.html": result_html(table)}
    write_files(directory, {**files, **{f"{name}.svg": standalone_svg(svg) for name, svg in table.pictures.items()}})
