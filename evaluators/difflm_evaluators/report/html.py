"""`report.html`, one file without scripts, fonts or anything else from outside; `report.md`; the notebook's table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from difflm_evaluators.report.layout import JudgeEntry, PublishedEntry, ReportFile, ScoreEntry
from difflm_evaluators.report.pictures import Picture
from difflm_evaluators.report.plots import GROUPS
from difflm_evaluators.report.privacy import NOT_PROVEN, SHOWN_ROWS, privacy_findings
from difflm_evaluators.report.publishing import MEANT, publishing
from difflm_evaluators.report.rendering import html_templates, markdown_templates, render_piece
from difflm_evaluators.report.rows import (
    DIRECTIONS,
    baseline_text,
    column_rows,
    flatten,
    interval_text,
    number_text,
    percent,
    value_text,
    worst_columns,
    worst_pairs,
)
from difflm_evaluators.report.verdict import verdict_shown


def judge_rows(judge: JudgeEntry | None) -> list[dict[str, Any]]:
    """Lay out a judge's scores as rows of text, and whether each is defined."""
    rows: list[dict[str, Any]] = []
    for score in judge.scores if judge is not None else ():
        value = f"undefined: {score.undefined_because}" if score.value is None else number_text(score.value, score.unit)
        if score.standard_error is not None:
            value += f" ± {score.standard_error:.2g}"
        beside = (
            f"{number_text(score.baseline, score.unit)} ({score.baseline_label})" if score.baseline is not None else "–"
        )
        defined = score.value is not None
        rows.append(
            {"title": score.title, "value": value, "beside": beside, "meaning": score.meaning, "defined": defined}
        )
    return rows


def judge_warnings(judge: JudgeEntry | None) -> list[str]:
    """List what a judge's scores warn of, each once."""
    scores = judge.scores if judge is not None else ()
    return list(dict.fromkeys(score.warning for score in scores if score.warning is not None))


def judge_text(judge: JudgeEntry) -> str:
    """Tell who judged what, and how far it came."""
    stopped = "" if judge.complete else " Stopped before the end."
    counted = f"{judge.answered:,} of {judge.questions:,} questions answered."
    return f"{judge.model}, protocol {judge.protocol}: {counted}{stopped} {judge.title}"


OWN = "this table"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTable:
    """`titles` of the scores, `rows` of (method, a cell per score with the numbers of its sources), and `sources`."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, tuple[int, ...]], ...]], ...]
    sources: tuple[str, ...]


def published_table(report: ReportFile, published: Sequence[PublishedEntry]) -> PublishedTable | None:
    """Lay out the table; None where nobody published anything; cells without a figure hold a dash."""
    if not published:
        return None
    names = tuple(dict.fromkeys(row.score for row in published))
    methods = tuple(dict.fromkeys(row.method for row in published))
    sources = tuple(dict.fromkeys(row.source for row in published))
    own = [report.scores.get(name) for name in names]
    first = tuple((value_text(score) if score is not None else "–", ()) for score in own)
    rows: list[tuple[str, tuple[tuple[str, tuple[int, ...]], ...]]] = [(OWN, first)]
    for method in methods:
        cells = []
        for name, score in zip(names, own, strict=True):
            found = [row for row in published if row.method == method and row.score == name]
            unit = score.unit if score is not None else ""
            text = ", ".join(number_text(row.value, unit) for row in found) or "–"
            cells.append((text, tuple(sources.index(row.source) + 1 for row in found)))
        rows.append((method, tuple(cells)))
    titles = tuple(score.title if score is not None else name for name, score in zip(names, own, strict=True))
    return PublishedTable(titles=titles, rows=tuple(rows), sources=sources)


SECTIONS = ("columns", "associations", "pairs", "fidelity", "map", "privacy", "worst", "training")


def render_html(report: ReportFile, pictures: Sequence[Picture]) -> str:
    """Render the whole page. Names and values from the data are escaped; only SVGs drawn by `plots` are markup."""
    sections: dict[str, list[tuple[Picture, Markup]]] = {name: [] for name in SECTIONS}
    for picture in pictures:
        sections[picture.section].append((picture, Markup(picture.inline)))
    return (
        html_templates()
        .get_template("report.html.j2")
        .render(
            report=report,
            **verdict_shown(report),
            pictures=sections,
            tiles=[_tile(score) for score in report.scores.values()],
            columns=column_rows(report),
            hidden_columns=len(report.columns) - len(sections["columns"]),
            worst_columns=worst_columns(report),
            worst_pairs=worst_pairs(report),
            undefined_pairs=_undefined_pairs(report),
            published=published_table(report, report.published),
            findings=privacy_findings(report),
            publishing=publishing(report),
            meant=MEANT,
            not_proven=NOT_PROVEN,
            nearest=_nearest(report),
            shown_rows=SHOWN_ROWS,
            map=_map(report),
            samples=_samples(report),
            unknown=_unknown_words(report),
            judge=judge_rows(report.judge),
            judge_text=judge_text(report.judge) if report.judge is not None else "",
            judge_warnings=judge_warnings(report.judge),
            environment=flatten(report.environment),
            settings=flatten(report.settings),
            evaluation_settings=flatten(report.config),
            percent=percent,
        )
    )


def render_markdown(report: ReportFile, pictures: Sequence[Picture] | None) -> str:
    """`report.md`: scores, worst columns and pairs, published figures, timings, and links to pictures if any."""
    scores = [
        {
            "title": score.title,
            "value": "; ".join(filter(None, (value_text(score), interval_text(score)))),
            "baseline": baseline_text(score),
            "meaning": score.meaning,
        }
        for score in report.scores.values()
    ]
    return (
        markdown_templates()
        .get_template("report.md.j2")
        .render(
            report=report,
            **verdict_shown(report),
            scores=scores,
            findings=privacy_findings(report),
            publishing=publishing(report),
            worst_columns=worst_columns(report),
            worst_pairs=worst_pairs(report),
            judge=judge_rows(report.judge),
            judge_text=judge_text(report.judge) if report.judge is not None else "",
            judge_warnings=judge_warnings(report.judge),
            pictures=pictures,
            percent=percent,
        )
    )


def _tile(score: ScoreEntry) -> dict[str, str]:
    return {
        "title": score.title,
        "value": value_text(score) if score.value is not None else "undefined",
        "reason": score.undefined_because or "",
        "interval": interval_text(score),
        "baseline": baseline_text(score),
        "direction": DIRECTIONS[score.direction],
        "meaning": score.meaning,
    }


def _undefined_pairs(report: ReportFile) -> int:
    count = report.details("pairs").get("undefined_pairs", 0)
    return count if isinstance(count, int) else 0


def _nearest(report: ReportFile) -> list[dict[str, Any]]:
    """Lay out the nearest pairs of rows, if any: each a distance and its (column, synthetic, training)."""
    details = report.details("nearest")
    return [
        {
            "distance": number_text(pair["distance"], ""),
            "cells": list(zip(details["columns"], pair["synthetic"], pair["training"], strict=True)),
        }
        for pair in details.get("pairs", [])
    ]


_SIDES = {"synthetic": "Synthetic", "real_test": "Real"}


def _samples(report: ReportFile) -> list[tuple[str, list[str]]]:
    """Lay out the texts of each side that has some, under its title; none where none were drawn."""
    details = report.details("samples")
    return [(title, details[role]) for role, title in _SIDES.items() if details.get(role)]


def _unknown_words(report: ReportFile) -> list[str]:
    """List the unknown words of each side that `_samples` shows, the most frequent first."""
    details, shown = report.details("language").get("unknown_words", {}), report.details("samples")
    return [", ".join(word for word, _ in details.get(role, [])) for role in _SIDES if shown.get(role)]


def _map(report: ReportFile) -> dict[str, Any]:
    """Say what the map is of, and the colours of its groups."""
    details = report.details("projection")
    return {
        "space": details.get("space"),
        "dimensions": details.get("dimensions"),
        "groups": list(zip(details.get("groups", []), GROUPS, strict=False)),
    }


def score_table(report: ReportFile) -> str:
    """Render the verdict, and folded the scores, as a piece of a notebook, in the notebook's own colours."""
    rows: Mapping[str, int] = report.rows.model_dump()
    counted = [f"{count:,} {name}" for name, count in rows.items() if count]
    cells = [
        {
            "meaning": score.meaning,
            "cells": [
                {"text": score.title, "note": score.name, "note_class": "soft"},
                {"text": value_text(score), "note": interval_text(score), "note_class": "soft"},
                {"text": baseline_text(score), "note": "", "note_class": ""},
                {"text": DIRECTIONS[score.direction], "note": "", "note_class": ""},
            ],
        }
        for score in report.scores.values()
    ]
    heads = ("score", "value", "real data", "good")
    shown = verdict_shown(report)
    return render_piece(report.title, f"rows: {', '.join(counted)}", report.warnings, heads, cells, verdict=shown)
