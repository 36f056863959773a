"""`report.html`: one file without scripts, fonts or anything else from outside, from a Jinja template that escapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from difflm_evaluators.evaluation import EvaluationReport
from difflm_evaluators.report.layout import JudgeEntry, PublishedScore, ReportContext
from difflm_evaluators.report.pictures import Picture
from difflm_evaluators.report.plots import GROUPS
from difflm_evaluators.report.privacy import NOT_PROVEN, SHOWN_ROWS, privacy_findings
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


def judge_rows(judge: JudgeEntry | None) -> list[dict[str, Any]]:
    """A judge's scores as rows of text, and whether each is defined."""
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
    """What a judge's scores warn of, each once."""
    scores = judge.scores if judge is not None else ()
    return list(dict.fromkeys(score.warning for score in scores if score.warning is not None))


def judge_text(judge: JudgeEntry) -> str:
    """Who judged what, and how far it came."""
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


def published_table(report: EvaluationReport, published: Sequence[PublishedScore]) -> PublishedTable | None:
    """The table, None where nobody published anything; cells without a figure hold a dash."""
    if not published:
        return None
    names = tuple(dict.fromkeys(row.score for row in published))
    methods = tuple(dict.fromkeys(row.method for row in published))
    sources = tuple(dict.fromkeys(row.source for row in published))
    own = [report.score(name) for name in names]
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


def template_environment() -> Environment:
    """Templates of this package; whatever they show is escaped, and an unknown name is an error."""
    return Environment(
        loader=PackageLoader("difflm_evaluators.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_html(report: EvaluationReport, context: ReportContext, pictures: Sequence[Picture]) -> str:
    """The whole page. Names and values from the data are escaped; only SVGs drawn by `plots` are taken as markup."""
    sections: dict[str, list[tuple[Picture, Markup]]] = {name: [] for name in SECTIONS}
    for picture in pictures:
        sections[picture.section].append((picture, Markup(picture.inline)))
    return (
        template_environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            context=context,
            pictures=sections,
            tiles=[_tile(report, position) for position in range(len(report.scores))],
            columns=column_rows(report),
            hidden_columns=len(report.columns) - len(sections["columns"]),
            worst_columns=worst_columns(report),
            worst_pairs=worst_pairs(report),
            undefined_pairs=_undefined_pairs(report),
            published=published_table(report, context.published),
            findings=privacy_findings(report),
            not_proven=NOT_PROVEN,
            nearest=_nearest(report),
            shown_rows=SHOWN_ROWS,
            map=_map(report),
            judge=judge_rows(context.judge),
            judge_text=judge_text(context.judge) if context.judge is not None else "",
            judge_warnings=judge_warnings(context.judge),
            environment=flatten(context.environment),
            settings=flatten(context.settings),
            evaluation_settings=flatten(report.config),
            percent=percent,
        )
    )


def _tile(report: EvaluationReport, position: int) -> dict[str, str]:
    score = report.scores[position]
    return {
        "title": score.title,
        "value": value_text(score) if score.value is not None else "undefined",
        "reason": score.undefined_because or "",
        "interval": interval_text(score),
        "baseline": baseline_text(score),
        "direction": DIRECTIONS[score.direction],
        "meaning": score.meaning,
    }


def _undefined_pairs(report: EvaluationReport) -> int:
    pairs = report.evaluation("pairs")
    count = pairs.details["undefined_pairs"] if pairs is not None else 0
    return count if isinstance(count, int) else 0


def _nearest(report: EvaluationReport) -> list[dict[str, Any]]:
    """The nearest pairs of rows, when they were asked for: each a distance and its (column, synthetic, training)."""
    evaluation = report.evaluation("nearest")
    details: Mapping[str, Any] = evaluation.details if evaluation is not None else {}
    return [
        {
            "distance": number_text(pair["distance"], ""),
            "cells": list(zip(details["columns"], pair["synthetic"], pair["training"], strict=True)),
        }
        for pair in details.get("pairs", [])
    ]


def _map(report: EvaluationReport) -> dict[str, Any]:
    """What the map is of, and the colours of its groups."""
    evaluation = report.evaluation("projection")
    details: Mapping[str, Any] = evaluation.details if evaluation is not None else {}
    return {
        "space": details.get("space"),
        "dimensions": details.get("dimensions"),
        "groups": list(zip(details.get("groups", []), GROUPS, strict=False)),
    }
