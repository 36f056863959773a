"""`report.html`: one file without scripts, fonts or anything else from outside, from a Jinja template that escapes."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from difflm_evaluators.evaluation import EvaluationReport
from difflm_evaluators.plots import GROUPS
from difflm_evaluators.report_context import ReportContext
from difflm_evaluators.report_judge import judge_rows, judge_text, judge_warnings
from difflm_evaluators.report_pictures import Picture
from difflm_evaluators.report_privacy import NOT_PROVEN, SHOWN_ROWS, privacy_findings
from difflm_evaluators.report_published import published_table
from difflm_evaluators.report_rows import (
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

SECTIONS = ("columns", "associations", "pairs", "fidelity", "map", "privacy", "worst", "training")


def template_environment() -> Environment:
    """Templates of this package; whatever they show is escaped, and an unknown name is an error."""
    return Environment(
        loader=PackageLoader("difflm_evaluators", "templates"),
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
