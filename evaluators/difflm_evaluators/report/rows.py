"""Rows of a report as text: how a score, a baseline and a percentage are written, and what comes first."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from difflm_evaluators.report.layout import AnyScore, ReportFile

LABEL_CHARACTERS = 40


def difference_text(difference: Mapping[str, Any], *kinds: str) -> str:
    """Say a difference of `breakdown` in one line; `kinds` are the schema kinds of its column, or of both columns."""
    if difference["what"] == "correlation":
        return f"r {difference['real']:.3f} real, {difference['synthetic']:.3f} synthetic"
    if difference["what"] == "cell":
        where = " × ".join(
            level_text(difference[side], kind) for side, kind in zip(("first", "second"), kinds, strict=True)
        )
    else:
        where = level_text(difference["value"], kinds[0])
        if difference["what"] == "at most" and kinds[0] == "text":
            where += " characters"
    return f"{where}: {100 * difference['real']:.1f} % real, {100 * difference['synthetic']:.1f} % synthetic"


def level_text(level: Mapping[str, Any], kind: str) -> str:
    """Write a category, "missing", or a range of numbers or dates."""
    if level.get("missing"):
        return "missing"
    if "label" in level:
        line = " ".join(str(level["label"]).split())
        return line if len(line) <= LABEL_CHARACTERS else line[: LABEL_CHARACTERS - 1] + "…"
    low, high = level.get("low"), level.get("high")
    if low is None:
        return f"≤ {value_or_date(high, kind)}" if high is not None else "all"
    least = value_or_date(low, kind)
    return f"> {least}" if high is None else f"{least} to {value_or_date(high, kind)}"


def value_or_date(value: float, kind: str) -> str:
    """Write a number with six significant digits, or the date of seconds since 1970."""
    if kind != "datetime":
        return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:.6g}"
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value)
    return moment.strftime("%Y-%m-%d") if value % 86_400 == 0 else moment.strftime("%Y-%m-%d %H:%M")


DIRECTIONS: Mapping[str, str] = {"lower": "lower is better", "higher": "higher is better", "target": "nearer is better"}


def number_text(number: float, unit: str) -> str:
    """Write a number with the places that are worth reading: two for percentages, three significant ones otherwise."""
    if unit == "%":
        return f"{number:.2f} %"
    if abs(number) < 10:
        return f"{number:.3f}"
    return f"{number:,.1f}" if abs(number) < 1e6 else f"{number:.3g}"


def value_text(score: AnyScore) -> str:
    """Write the value with its standard error, or why there is none."""
    if score.value is None:
        return f"undefined: {score.undefined_because}"
    if score.standard_error is None:
        return number_text(score.value, score.unit)
    unit = f" {score.unit}" if score.unit else ""
    return f"{number_text(score.value, '')} ± {score.standard_error:.2g}{unit}"


def interval_text(score: AnyScore) -> str:
    """Write the 95 % confidence interval, empty where there is none."""
    if score.interval is None:
        return ""
    low, high = (number_text(end, "") for end in score.interval)
    return f"95 % confidence: {low} to {high}" + (f" {score.unit}" if score.unit else "")


def baseline_text(score: AnyScore) -> str:
    """Write what real data gets, or the ideal; a dash when neither is known."""
    if score.baseline is not None:
        return f"{number_text(score.baseline, score.unit)} ({score.baseline_label})"
    if score.ideal is not None:
        return f"{number_text(score.ideal, score.unit)} (ideal)"
    return "–"


def percent(share: float | None) -> str:
    """Write a share in [0, 1] as a percentage with two places, a dash for None."""
    return "–" if share is None else f"{100 * share:.2f}"


def worst_columns(report: ReportFile) -> list[dict[str, Any]]:
    """List columns by falling shape error, each with a line on what differs most; those without error are left out."""
    return [
        {**column, "text": difference_text(column["difference"], report.columns[column["name"]])}
        for column in report.details("breakdown").get("columns", [])
    ]


def worst_pairs(report: ReportFile) -> list[dict[str, Any]]:
    """List pairs by falling trend error, each with a line on what differs most; those without error are left out."""
    return [
        {
            **pair,
            "text": difference_text(pair["difference"], report.columns[pair["first"]], report.columns[pair["second"]]),
        }
        for pair in report.details("breakdown").get("pairs", [])
    ]


def column_rows(report: ReportFile) -> list[dict[str, Any]]:
    """List every column in the table's order, with its kind and its values outside the schema."""
    faults: Mapping[str, Any] = report.details("validity").get("faults", {})
    return [
        {
            **column,
            "kind": report.columns[column["name"]],
            "faults": ", ".join(f"{count:,} {reason}" for reason, count in faults.get(column["name"], {}).items()),
        }
        for column in report.details("marginals").get("columns", [])
    ]


def flatten(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flatten nested settings into (dotted key, value) rows; lists stay on one line."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            rows += flatten(value, f"{name}.")
        else:
            rows.append((name, "null" if value is None else str(value)))  # as it is written in a configuration
    return rows
