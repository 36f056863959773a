"""An ablation: a grid of changes to one experiment, each run with several seeds, and the scores of every cell.

The table of an ablation: a row per cell, with printed figures beside those of this run.
"""

from __future__ import annotations

import importlib.resources
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from difflm.config import Config, load_yaml, parse_yaml, validate
from difflm.errors import ConfigError, RunError
from difflm.telemetry import JSON
from difflm_evaluators.report.comparison_report import ResultTable, mean_text
from difflm_jobs.loading import load_experiment

if TYPE_CHECKING:
    from difflm_evaluators.report.layout import ScoreEntry
    from difflm_jobs.config import ExperimentConfig

SCORES = ("shape_error", "trend_error", "mle_auc", "mle_rmse", "c2st_auc")

Scores = Mapping[str, "ScoreEntry"]
Runner = Callable[["ExperimentConfig"], Scores]
"""Runs one experiment to its end, or finds it finished, and gives the scores of its report."""


class Cell(Config):
    """One cell of a grid: what is changed in it, and what somebody printed for the same change."""

    name: str = Field(min_length=1)
    changes: dict[str, Any] = Field(default={}, alias="set", description="dotted keys with their values")
    published: dict[str, float] = Field(default={}, description="printed figures by the names of scores")


class Grid(Config):
    """The cells and seeds of an ablation. `vary` adds the combinations of all values of its keys."""

    cells: tuple[Cell, ...] = ()
    vary: dict[str, tuple[Any, ...]] = Field(default={}, description="dotted keys with all values of each")
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    scores: tuple[str, ...] = Field(default=SCORES, min_length=1, description="of the report, as far as it has them")
    published_of: str | None = Field(default=None, description="name of the experiment that printed figures are about")
    source: str | None = Field(default=None, description="where they were printed")

    @model_validator(mode="after")
    def _cells_differ(self) -> Self:
        names = [cell.name for cell in self.all_cells()]
        if not names:
            raise ValueError("the grid has no cell; give cells or vary")
        if len(set(names)) < len(names):
            raise ValueError(f"two cells are called {max(names, key=names.count)!r}; give each a name of its own")
        return self

    def all_cells(self) -> list[Cell]:
        """List the cells that are named, then the combinations."""
        found = list(self.cells)
        if self.vary:
            for values in itertools.product(*self.vary.values()):
                changes = dict(zip(self.vary, values, strict=True))
                name = ", ".join(f"{key} {value}" for key, value in changes.items())
                found.append(Cell(name=name, set=changes))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A score of a cell: the mean over seeds, its standard error (None for one seed) and the single values."""

    mean: float
    standard_error: float | None
    values: Sequence[float]

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
        return cls(mean=fmean(values), standard_error=error, values=values)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """What became of a cell: its scores, those of real data in its place, and why seeds failed."""

    cell: Cell
    scores: Mapping[str, Mean]
    real: Mapping[str, Mean]
    entries: Scores
    failures: Mapping[int, str]

    def to_json(self) -> dict[str, JSON]:
        scores: dict[str, JSON] = {
            name: {"mean": found.mean, "standard_error": found.standard_error, "values": list(found.values)}
            for name, found in self.scores.items()
        }
        failures: dict[str, JSON] = {str(seed): reason for seed, reason in self.failures.items()}
        changes: dict[str, JSON] = dict(self.cell.changes)
        published: dict[str, JSON] = dict(self.cell.published)
        return {
            "name": self.cell.name,
            "set": changes,
            "scores": scores,
            "published": published,
            "failures": failures,
        }


def grid_names() -> list[str]:
    """List the grids that ship with the platform."""
    folder = importlib.resources.files("difflm_jobs") / "grids"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_grid(given: str | None, *, vary: Sequence[str] = (), seeds: Sequence[int] = ()) -> Grid:
    """Load a grid of a YAML file or a name, with more keys to vary (`A.B=[V, V]`) and other seeds.

    Raises:
        ConfigError: nothing is called so, or something in it cannot be used.
    """
    data: dict[str, Any] = {}
    source = "--vary"
    if given in grid_names():
        source = f"grid {given}"
        data = parse_yaml((importlib.resources.files("difflm_jobs") / "grids" / f"{given}.yaml").read_text(), source)
    elif given is not None:
        if not Path(given).is_file():
            raise ConfigError(f"--grid {given}: no such file; grids that ship are {', '.join(grid_names())}")
        data, source = load_yaml(Path(given)), given
    more = dict(_axis(text) for text in vary)
    merged = {**data, "vary": {**data.get("vary", {}), **more}} if more else data
    return validate(Grid, {**merged, "seeds": list(seeds)} if seeds else merged, source)


def _axis(text: str) -> tuple[str, list[Any]]:
    key, separator, value = text.partition("=")
    values = parse_yaml(value, f"--vary {text}") if separator else None
    if not key.strip() or not isinstance(values, list) or not values:
        raise ConfigError(f"--vary {text}: expected a dotted key and a list, such as 'prior.kind=[gmm, gaussian]'")
    return key.strip(), values


def cell_experiments(
    given: str, grid: Grid, *, overrides: Sequence[str], target: str | None, name: str | None
) -> dict[tuple[str, int], ExperimentConfig]:
    """Configure every cell and seed; all of them share one folder, so that equal stages run once.

    Raises:
        ConfigError: a change is no key, or its value cannot be used.
    """
    base = load_experiment(given, overrides=overrides, target=target)
    folder = name or f"{base.name}-ablation"
    experiments: dict[tuple[str, int], ExperimentConfig] = {}
    for cell in grid.all_cells():
        changes = [f"{key}={json.dumps(value)}" for key, value in cell.changes.items()]
        for seed in grid.seeds:
            experiments[cell.name, seed] = load_experiment(
                given, overrides=[*overrides, *changes, f"seed={seed}"], target=target, name=folder
            )
    return experiments


def spent_together(experiments: Mapping[tuple[str, int], ExperimentConfig]) -> str | None:
    """Say what several private runs of the same rows spend together; None where there are not several."""
    spent = [experiment.privacy.epsilon for experiment in experiments.values() if experiment.privacy is not None]
    if len(spent) < 2:
        return None
    return (
        f"{len(spent)} private runs learn the same rows, and what they spend adds up to an epsilon of {sum(spent):g}: "
        "do not publish more than one of them"
    )


def run_grid(
    grid: Grid,
    experiments: Mapping[tuple[str, int], ExperimentConfig],
    runner: Runner,
    *,
    say: Callable[[str], None],
) -> list[CellResult]:
    """Run every cell with every seed, cell after cell. A run that fails costs its own place in the table only."""
    results: list[CellResult] = []
    for cell in grid.all_cells():
        found: list[Scores] = []
        failures: dict[int, str] = {}
        for seed in grid.seeds:
            say(f"cell {cell.name!r}, seed {seed}")
            try:
                found.append(runner(experiments[cell.name, seed]))
            except RunError as error:
                failures[seed] = str(error)
                say(f"cell {cell.name!r}, seed {seed} failed: {error}")
        results.append(_result(cell, grid.scores, found, failures))
    return results


def _result(cell: Cell, names: Sequence[str], found: Sequence[Scores], failures: Mapping[int, str]) -> CellResult:
    scores: dict[str, Mean] = {}
    real: dict[str, Mean] = {}
    for name in names:
        entries = [run[name] for run in found if name in run]
        values = [entry.value for entry in entries if entry.value is not None]
        baselines = [entry.baseline for entry in entries if entry.baseline is not None]
        if values:
            scores[name] = Mean.of(values)
        if baselines:
            real[name] = Mean.of(baselines)
    entries_of_last = found[-1] if found else {}
    return CellResult(cell=cell, scores=scores, real=real, entries=entries_of_last, failures=failures)


EXPLANATION = (
    "± is the standard error of the mean over seeds; every seed splits, trains and draws anew. "
    "Without it there was one seed."
)


def ablation_table(grid: Grid, results: Sequence[CellResult], *, experiment: str) -> ResultTable:
    """Make the table of an experiment's grid; printed figures stand in it where they are about that experiment."""
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
