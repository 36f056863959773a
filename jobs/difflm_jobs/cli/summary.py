"""The summary of a run: a table of its stages, the headline scores, and what Ray cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from difflm.artifacts import Artifact
from difflm_jobs.pipeline.runlog import HEADLINES, NOTICES, RunRecord, StageRecord


def print_summary(console: Console, run: RunRecord, artifacts: Sequence[Artifact]) -> None:
    """Print the stages of a run, what was left out of it, and, when it was evaluated, its headline scores."""
    console.print(stage_table(run.stages))
    for artifact in artifacts:
        for notice in artifact.manifest.facts.get(NOTICES, ()):
            console.print(f"{artifact.manifest.kind}: {notice}", highlight=False, soft_wrap=True, markup=False)
    for artifact in artifacts:
        scores = artifact.manifest.facts.get(HEADLINES)
        if scores:
            print_scores(console, scores)
    console.print(overhead_line(run), highlight=False, soft_wrap=True)


def stage_table(stages: Sequence[StageRecord]) -> Table:
    """One row per stage; memory is that of the largest process."""
    table = Table(title="Stages", title_justify="left")
    table.add_column("stage", no_wrap=True)
    table.add_column("status")
    for name in ("seconds", "computing", "peak MiB"):
        table.add_column(name, justify="right")
    table.add_column("artifact", overflow="fold")
    for stage in stages:
        ran = stage.status == "ran"
        cells = (f"{stage.seconds:,.1f}", f"{stage.compute_seconds:,.1f}") if ran else ("-", "-")
        peak = f"{max(stage.peak_rss_mib.values()):,.0f}" if stage.peak_rss_mib else "-"
        table.add_row(stage.stage, stage.status, *cells, peak, stage.artifact, style=None if ran else "dim")
    return table


def print_scores(console: Console, scores: Sequence[Mapping[str, Any]]) -> None:
    """Print the scores, and below them what no reader may miss."""
    console.print(score_table(scores))
    for score in scores:
        if score.get("warning"):
            console.print(f"warning: {score['warning']}", style="bold red", highlight=False, soft_wrap=True)


def score_table(scores: Sequence[Mapping[str, Any]]) -> Table:
    """One row per score, with what real data reach beside it."""
    table = Table(title="Scores", title_justify="left")
    table.add_column("score")
    table.add_column("synthetic", justify="right")
    table.add_column("real data", justify="right")
    table.add_column("better")
    for score in scores:
        table.add_row(str(score["title"]), _value(score), _number(score.get("baseline")), _better(score))
    return table


def overhead_line(run: RunRecord) -> str:
    """Wall time, computing time, and their ratio."""
    if run.overhead is None:
        return f"{run.wall_seconds:,.1f} s, nothing had to run."
    return (
        f"{run.wall_seconds:,.1f} s of wall time for {run.compute_seconds:,.1f} s of the stages' own computing: "
        f"overhead {run.overhead:.2f} (1.00 is none)."
    )


def _value(score: Mapping[str, Any]) -> str:
    if score.get("value") is None:
        return f"undefined: {score.get('undefined_because')}"
    error = score.get("standard_error")
    return _number(score["value"]) + (f" ± {_number(error)}" if error is not None else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _better(score: Mapping[str, Any]) -> str:
    ideal = score.get("ideal")
    return str(score.get("direction")) if ideal is None else f"{score.get('direction')} ({_number(ideal)} is ideal)"
