"""The table of an ablation: a row per cell, with printed figures beside those of this run."""

from __future__ import annotations

from collections.abc import Sequence

from difflm.telemetry import JSON
from difflm_evaluators.result_table import ResultTable, mean_text
from difflm_jobs.ablation import CellResult, Grid

EXPLANATION = (
    "± is the standard error of the mean over seeds; every seed splits, trains and draws anew. "
    "Without it there was one seed."
)


def ablation_table(grid: Grid, results: Sequence[CellResult], *, experiment: str) -> ResultTable:
    """The table of an experiment's grid; printed figures stand in it where they are about that experiment."""
    names = [name for name in grid.scores if any(name in result.scores for result in results)]
    printed = [
        name for name in names if grid.published_of == experiment and any(name in r.cell.published for r in results)
    ]
    rows = [[_label(result), *_means(result, names), *_printed(result, printed)] for result in results]
    if any(result.real for result in results):
        rows.append(["real data in its place", *_real(results, names), *("–" for _ in printed)])
    notes = [EXPLANATION]
    if printed:
        notes.append(f"Printed figures: {grid.source}.")
    notes += [
        f"{result.cell.name}, seed {seed} failed: {reason}"
        for result in results
        for seed, reason in result.failures.items()
    ]
    cells: list[JSON] = [result.to_json() for result in results]
    return ResultTable(
        title=f"Ablation of {experiment}",
        columns=["cell", *(_heading(name, results) for name in names), *(f"{name}, printed" for name in printed)],
        rows=rows,
        notes=notes,
        facts={
            "experiment": experiment,
            "seeds": list(grid.seeds),
            "cells": cells,
            "published_source": grid.source if printed else None,
        },
    )


def _label(result: CellResult) -> str:
    failed = f" ({len(result.failures)} failed)" if result.failures else ""
    return result.cell.name + failed


def _heading(name: str, results: Sequence[CellResult]) -> str:
    entry = next(result.entries[name] for result in results if name in result.entries)
    unit = f" {entry.unit}" if entry.unit else ""
    better = "" if entry.direction == "target" else f" ({entry.direction} is better)"
    return f"{entry.title}{unit}{better}"


def _means(result: CellResult, names: Sequence[str]) -> list[str]:
    found = [result.scores.get(name) for name in names]
    return ["–" if mean is None else mean_text(mean.mean, mean.standard_error) for mean in found]


def _printed(result: CellResult, names: Sequence[str]) -> list[str]:
    return [f"{result.cell.published[name]:g}" if name in result.cell.published else "–" for name in names]


def _real(results: Sequence[CellResult], names: Sequence[str]) -> list[str]:
    first = next(result for result in results if result.real)
    return _means(CellResult(cell=first.cell, scores=first.real, real={}, entries={}, failures={}), names)
