"""What a benchmark found: figures by method and seed, means and ranks, as one table and as JSON of a fixed layout.

benchmark.json: `benchmark_version`; `table`, `asked`, `machine`, and `scored`, how many cells have scores; `figures`,
each with title, unit, direction (lower, higher or target), ideal and what measured it; `methods`, each with its
settings and pins, its `cells` (seed, reason or null, figures, costs, notes), `means` and `ranks` by figure. A later
version only adds keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from difflm.telemetry import JSON, host_facts
from difflm_evaluators.report.comparison_report import BEST, ResultTable
from difflm_evaluators.report.layout import read_report
from difflm_evaluators.report.rows import number_text
from difflm_jobs.benchmark.cells import Bench, Cell
from difflm_jobs.benchmark.methods import REAL, Method
from difflm_jobs.studies.ablation import Mean

if TYPE_CHECKING:
    from difflm_evaluators.report.layout import ScoreEntry

BENCHMARK_VERSION = 1
PROTOCOL = "protocol_"
"""Before the names of figures of the published protocol."""
PUBLISHED = (
    *("protocol_shape_error", "protocol_trend_error", "protocol_mle_auc", "protocol_mle_rmse"),
    *("protocol_c2st_logistic", "protocol_c2st_xgboost", "protocol_alpha_precision", "protocol_beta_recall"),
)
QUALITY = ("shape_error", "trend_error", "mle_auc", "mle_rmse", "c2st_auc", "alpha_precision", "beta_recall")
PRIVACY = ("dcr_share", "exact_copy_share", "nndr", "rare_cell_share", "rare_pair_share", "mia_auc", "mia_tpr")
RANKED = {"published protocol": PUBLISHED, "quality": QUALITY, "privacy": PRIVACY}
"""Figures whose ranks are averaged."""
OTHERS = ("conforming_share", "distinct_row_share")
COSTS: Mapping[str, str] = {
    "fitting_seconds": "training, s",
    "sampling_seconds": "drawing, s",
    "rows_per_second": "rows drawn per s",
    "peak_mib": "peak memory, MiB",
}
EXPLANATION = (
    f"{BEST} marks the best method of a row, (2), (3), ... are ranks among those that made rows; ± is the standard "
    "error of the mean over seeds, each of which trains and draws anew. Without it there was one seed."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What a figure is; `ideal` is that of the first method that has it."""

    name: str
    title: str
    unit: str
    direction: str
    ideal: float | None
    measured_by: str

    @property
    def heading(self) -> str:
        """Write title, unit and what is good."""
        ideal = "" if self.ideal is None else f" → {number_text(self.ideal, self.unit)}"
        arrow = {"lower": "↓", "higher": "↑"}.get(self.direction, ideal)
        return " ".join(part for part in (self.title, "" if self.direction == "target" else self.unit, arrow) if part)

    def distance(self, value: float) -> float | None:
        """Tell how far a value is from the best."""
        if self.direction == "target":
            return None if self.ideal is None else abs(value - self.ideal)
        return value if self.direction == "lower" else -value


@dataclass(slots=True, kw_only=True)
class MethodResult:
    """The cells of a method, a mean of each of its figures, and its ranks."""

    name: str
    title: str
    about: dict[str, Any]
    cells: list[Cell] = field(default_factory=list)
    figures: list[dict[str, float]] = field(default_factory=list)
    """Of each cell; without any where it has no rows."""
    means: dict[str, Mean] = field(default_factory=dict)
    ranks: dict[str, float] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """Say how many seeds ran, or why none did."""
        reasons = [cell.reason for cell in self.cells if cell.reason is not None]
        ran = len(self.cells) - len(reasons)
        if not reasons:
            return "ran" if ran == 1 else f"{ran} seeds"
        return reasons[0] if not ran else f"{ran} of {len(self.cells)} seeds; {reasons[0]}"

    def mean_rank(self, names: Sequence[str]) -> float | None:
        """Average the ranks of some figures; None without any."""
        found = [self.ranks[name] for name in names if name in self.ranks]
        return fmean(found) if found else None


def collect(cells: Sequence[Cell], methods: Mapping[str, Method]) -> tuple[list[MethodResult], dict[str, Measure]]:
    """Gather the figures of all cells by method, in the order of the cells."""
    results: dict[str, MethodResult] = {}
    measures: dict[str, Measure] = {}
    for cell in cells:
        method = methods.get(cell.method)
        about = method.identity | {"source": method.source} if method is not None else {"source": "given rows"}
        title = method.title if method is not None else cell.method
        result = results.setdefault(cell.method, MethodResult(name=cell.method, title=title, about=about))
        result.cells.append(cell)
        result.figures.append(_figures(cell, measures) | _costs(cell))
    for result in results.values():
        names = dict.fromkeys(name for figures in result.figures for name in figures)
        for name in names:
            result.means[name] = Mean.of([figures[name] for figures in result.figures if name in figures])
    _rank([result for result in results.values() if result.name != REAL], measures)
    return list(results.values()), measures


def _figures(cell: Cell, measures: dict[str, Measure]) -> dict[str, float]:
    if cell.report is None:
        return {}
    found: dict[str, float] = {}
    for figure in (cell.protocol or {}).get("figures", []):
        score = figure["score"]
        name = PROTOCOL + score["name"]
        _know(measures, name, score, figure["measured_by"])
        if score["value"] is not None:
            found[name] = score["value"]
    for entry in read_report(cell.report).scores.values():
        _know(measures, entry.name, _about(entry), "difflm_evaluators")
        if entry.value is not None:
            found[entry.name] = entry.value
    return found


def _about(entry: ScoreEntry) -> dict[str, Any]:
    return entry.model_dump(include={"title", "unit", "direction", "ideal"})


def _know(measures: dict[str, Measure], name: str, score: Mapping[str, Any], measured_by: str) -> None:
    known = measures.get(name)
    if known is None or (known.ideal is None and score["ideal"] is not None):
        about = {key: score[key] for key in ("title", "unit", "direction", "ideal")}
        measures[name] = Measure(name=name, measured_by=measured_by, **about)


def _costs(cell: Cell) -> dict[str, float]:
    """Return times, speed and memory of a job that ran to its end."""
    seconds = cell.facts.get("seconds", {})
    if cell.rows is None or not {"fitting", "sampling"} <= set(seconds):
        return {}
    return {
        "fitting_seconds": seconds["fitting"],
        "sampling_seconds": seconds["sampling"],
        "rows_per_second": cell.facts["rows"] / max(seconds["sampling"], 1e-3),
        "peak_mib": cell.facts["peak_mib"],
    }


def _rank(results: Sequence[MethodResult], measures: Mapping[str, Measure]) -> None:
    """Rank the means of each figure; equal ones share the mean of their ranks."""
    for name, measure in measures.items():
        far = {
            result.name: distance
            for result in results
            if name in result.means and (distance := measure.distance(result.means[name].mean)) is not None
        }
        for result in results:
            if result.name in far:
                mine = far[result.name]
                below = sum(other < mine for other in far.values())
                result.ranks[name] = below + (1 + sum(other == mine for other in far.values())) / 2


def benchmark_json(
    bench: Bench, results: Sequence[MethodResult], measures: Mapping[str, Measure], seeds: Sequence[int]
) -> dict[str, JSON]:
    """Return everything as plain JSON values."""
    table = bench.table
    facts: dict[str, Any] = {
        "benchmark_version": BENCHMARK_VERSION,
        "table": {
            "name": table.name,
            "about": table.about,
            "train_rows": table.train.num_rows,
            "test_rows": table.test.num_rows,
            "columns": {each.name: each.kind for each in table.schema.fields},
            "target": table.spec.target,
            "task": table.schema.task,
            "left_out": list(table.left_out),
            "hashes": dict(bench.hashes),
        },
        "scored": sum(cell.report is not None for result in results for cell in result.cells),
        "asked": {"rows": bench.rows, "minutes": bench.minutes, "seeds": list(seeds)},
        "machine": host_facts(),
        "figures": {
            name: {key: getattr(each, key) for key in ("title", "unit", "direction", "ideal", "measured_by")}
            for name, each in measures.items()
        },
        "methods": [_method_json(result) for result in results],
    }
    return facts


def _method_json(result: MethodResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "title": result.title,
        **{key: result.about.get(key) for key in ("source", "settings", "requirements", "version")},
        "cells": [
            {
                "seed": cell.seed,
                "reason": cell.reason,
                "figures": figures,
                "rows": cell.facts.get("rows"),
                "wall_seconds": cell.facts.get("wall_seconds"),
                "notes": list(cell.facts.get("notes", [])),
            }
            for cell, figures in zip(result.cells, result.figures, strict=True)
        ],
        "means": {
            name: {"mean": mean.mean, "standard_error": mean.standard_error, "seeds": len(mean.values)}
            for name, mean in result.means.items()
        },
        "ranks": dict(result.ranks),
        "mean_ranks": {label: result.mean_rank(names) for label, names in RANKED.items()},
    }


def benchmark_table(
    bench: Bench, results: Sequence[MethodResult], measures: Mapping[str, Measure], seeds: Sequence[int]
) -> ResultTable:
    """Lay it out: a column per method, a row per figure, the published protocol first."""
    shown = [
        name for name in (*PUBLISHED, *QUALITY, *PRIVACY, *OTHERS) if any(name in result.means for result in results)
    ]
    rows = [["", *(result.state for result in results)]]
    for label, names in RANKED.items():
        rows.append([f"mean rank, {label}", *(_rank_text(result.mean_rank(names)) for result in results)])
    for name in shown:
        measure = measures[name]
        heading = f"{measure.heading}, published protocol" if name.startswith(PROTOCOL) else measure.heading
        rows.append([heading, *(_cell_text(result, name, measure.unit) for result in results)])
    for name, label in COSTS.items():
        rows.append([label, *(_cell_text(result, name, "") for result in results)])
    return ResultTable(
        title=f"Benchmark of {bench.table.name}",
        columns=["", *(result.title for result in results)],
        rows=rows,
        notes=_notes(bench, results, measures),
        facts=benchmark_json(bench, results, measures, seeds),
    )


def _rank_text(rank: float | None) -> str:
    return "–" if rank is None else f"{rank:.1f}"


def _cell_text(result: MethodResult, name: str, unit: str) -> str:
    mean = result.means.get(name)
    if mean is None:
        return "–"
    error = "" if mean.standard_error is None else f" ± {mean.standard_error:.2g}"
    rank = result.ranks.get(name)
    place = "" if rank is None else f" {BEST}" if rank == 1 else f" ({rank:g})"
    return number_text(mean.mean, unit) + error + place


def _notes(bench: Bench, results: Sequence[MethodResult], measures: Mapping[str, Measure]) -> list[str]:
    table = bench.table
    protocol = [name for name in measures if name.startswith(PROTOCOL)]
    notes = [
        f"{table.name}: {table.train.num_rows:,} training and {table.test.num_rows:,} held-out rows ({table.about}).",
        f"Every method learned the same rows, made {bench.rows:,} and had {bench.minutes:g} minutes, then was killed.",
        "Whole numbers and decimals are rounded as in the training rows, whoever made them.",
        EXPLANATION,
    ]
    if any(result.name == REAL for result in results):
        notes.append(
            "Real rows: one half of the held-out rows, scored against the other half. They take no part in the ranks."
        )
    if protocol:
        measured = "; ".join(f"{measures[name].title}: {measures[name].measured_by}" for name in protocol)
        notes.append(f"Published protocol: {measured}.")
    else:
        notes.append("The published protocol is missing: it needs pip install 'difflm[protocol]'.")
    if table.left_out:
        notes.append(f"Left out, for not every method takes free text and dates: {', '.join(table.left_out)}.")
    for result in results:
        for cell in result.cells:
            notes += [f"{result.title}, seed {cell.seed}: {note}" for note in cell.facts.get("notes", [])]
    return notes
