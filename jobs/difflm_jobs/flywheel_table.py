"""What a flywheel's rounds scored: a table, and shape error and usefulness by round as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from difflm.telemetry import JSON
from difflm_evaluators import plots
from difflm_evaluators.result_table import ResultTable, mean_text
from difflm_jobs.flywheel import Round

SCORES = ("shape_error", "trend_error", "mle_auc", "mle_rmse", "c2st_auc", "distinct_row_share", "range_coverage")
PICTURES = ("shape_error", "mle_auc", "mle_rmse")
EXPLANATION = (
    "Every round is scored against the real splits of round 0, which was trained on real rows alone; each later round "
    "was trained on these and the synthetic rows of the round before."
)


def flywheel_table(rounds: Sequence[Round], *, name: str) -> ResultTable:
    """A row per round; what real data get in its place is the last row."""
    scores = [{score["name"]: score for score in ended.run.headlines} for ended in rounds]
    names = [score for score in SCORES if any(score in found for found in scores)]
    rows = [
        [str(ended.number), f"{ended.trained_on:,}", f"{ended.made:,}", *(_text(found.get(score)) for score in names)]
        for ended, found in zip(rounds, scores, strict=True)
    ]
    rows.append(["real", "–", "–", *(mean_text(scores[0].get(score, {}).get("baseline"), None) for score in names)])
    notes = [EXPLANATION]
    notes += [f"Stopped after round {rounds[-1].number}: {reason}." for reason in rounds[-1].stopped_by]
    notes += [
        f"Round {ended.number}: {verdict.sentence()}."
        for ended in rounds
        for verdict in ended.failed
        if verdict.gate.action == "warn"
    ]
    facts: list[JSON] = [ended.to_json() for ended in rounds]
    return ResultTable(
        title=f"Flywheel of {name}",
        columns=["round", "training rows", "synthetic rows", *(_heading(score, scores) for score in names)],
        rows=rows,
        notes=notes,
        facts={"name": name, "rounds": facts, "stopped_by": list(rounds[-1].stopped_by)},
        pictures={score: picture for score in PICTURES if (picture := _picture(score, scores))},
    )


def _text(score: Mapping[str, Any] | None) -> str:
    return "–" if score is None else mean_text(score["value"], score["standard_error"])


def _heading(name: str, scores: Sequence[Mapping[str, Any]]) -> str:
    score = next(found[name] for found in scores if name in found)
    unit = f", {score['unit']}" if score["unit"] else ""
    return f"{score['title']}{unit}"


def _picture(name: str, scores: Sequence[Mapping[str, Any]]) -> str | None:
    values = [
        (number, found[name]["value"])
        for number, found in enumerate(scores)
        if name in found and found[name]["value"] is not None
    ]
    if not values:
        return None
    real = scores[0].get(name, {}).get("baseline")
    return plots.levels_by({"synthetic": values}, real, across="round", label=_heading(name, scores))
