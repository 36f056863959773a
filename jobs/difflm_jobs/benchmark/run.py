"""A benchmark from its first cell to its page: what is there is found again; the page is written after every cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difflm.artifacts import ArtifactStore, hash_file
from difflm.config import validate
from difflm.errors import ConfigError
from difflm_evaluators.evaluation import EvaluationConfig
from difflm_jobs.benchmark.cells import Bench, Cell, make_rows, score_rows
from difflm_jobs.benchmark.methods import REAL, Method
from difflm_jobs.benchmark.results import benchmark_table, collect
from difflm_jobs.benchmark.tables import BenchmarkTable
from difflm_jobs.inputs.places import refuse_others
from difflm_jobs.loading import over

if TYPE_CHECKING:
    from difflm_evaluators.report.comparison_report import ResultTable

STEM = "benchmark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be compared; `given` are rows that were made elsewhere, by name, a file for each seed."""

    methods: Sequence[Method]
    seeds: Sequence[int]
    rows: int | None
    minutes: float
    given: Mapping[str, Sequence[Path]]
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """Changed settings of our own scores."""
    protocol: bool = True


def run_benchmark(
    table: BenchmarkTable, wanted: Wanted, folder: Path, *, cache: Path, say: Callable[[str], None]
) -> ResultTable:
    """Run every cell that is not there yet, and write the table after each.

    Raises:
        ArtifactError: another process works in this folder.
        ConfigError: pages of something else are there.
        StorageError: it cannot be written.
    """
    for stem in (STEM, "compare"):
        refuse_others(folder, stem)
    store = ArtifactStore(folder)
    methods = {method.name: method for method in wanted.methods}
    cells: list[Cell] = []
    with store.exclusive():
        bench = Bench(
            table=table,
            store=store,
            folder=folder / "table",
            hashes=table.write(folder / "table"),
            rows=wanted.rows or table.train.num_rows,
            minutes=wanted.minutes,
            cache=cache,
            evaluation=_evaluation(table, wanted.evaluation),
            protocol=wanted.protocol and find_spec("sdmetrics") is not None,
            say=say,
        )
        for seed in wanted.seeds:
            for name, method in methods.items():
                made = make_rows(bench, method, seed)
                cells.append(_told(bench, score_rows(bench, made, real=name == REAL)))
                _write(bench, cells, methods, wanted, folder)
        for name, files in wanted.given.items():
            for seed, file in enumerate(files):
                cell = Cell(method=name, seed=seed, rows=file, identity=hash_file(file))
                cells.append(_told(bench, score_rows(bench, cell, real=False)))
        found = _write(bench, cells, methods, wanted, folder)
        _write_comparison(cells, folder)
    return found


def _told(bench: Bench, cell: Cell) -> Cell:
    if cell.reason is not None:
        bench.say(f"{cell.method}, seed {cell.seed}: {cell.reason}")
    return cell


def _write(
    bench: Bench, cells: Sequence[Cell], methods: Mapping[str, Method], wanted: Wanted, folder: Path
) -> ResultTable:
    from difflm_evaluators.report.comparison_report import write_result_table

    names = [*methods, *wanted.given]
    ordered = sorted(cells, key=lambda cell: names.index(cell.method))
    found = benchmark_table(bench, *collect(ordered, methods), wanted.seeds)
    write_result_table(found, folder, STEM)
    return found


def _write_comparison(cells: Sequence[Cell], folder: Path) -> None:
    """Put the reports of the first seed side by side, with their tests; real rows have other held-out rows."""
    from difflm_evaluators.report.comparison_report import compare_reports, write_comparison
    from difflm_evaluators.report.layout import read_report

    reports = {
        cell.method: read_report(cell.report)
        for cell in reversed(cells)
        if cell.report is not None and cell.method != REAL
    }
    if len(reports) > 1:
        write_comparison(compare_reports(dict(reversed(reports.items()))), folder)


def _evaluation(table: BenchmarkTable, changes: Mapping[str, Any]) -> EvaluationConfig:
    """Return the settings of our own scores: the defaults, without a map of the rows, under the changed ones."""
    usual = {"utility": {"regression_transform": table.spec.regression_transform}, "projection": None}
    return validate(EvaluationConfig, over(usual, changes), "--set evaluation")


def read_given(pairs: Sequence[str], methods: Sequence[str]) -> dict[str, list[Path]]:
    """Read what --rows says: NAME=FILE, several files of one name being seeds of one method.

    Raises:
        ConfigError: it is no such pair, the name is that of a method, or there is no such file.
    """
    found: dict[str, list[Path]] = {}
    for pair in pairs:
        name, separator, file = pair.partition("=")
        name, path = name.strip(), Path(file.strip())
        if not separator or not name or not file.strip():
            raise ConfigError(f"--rows {pair}: expected a name and a file, such as --rows TabDiff=rows.csv")
        if name in methods:
            raise ConfigError(f"--rows {pair}: {name!r} is among --methods; give the rows another name")
        if not path.is_file():
            raise ConfigError(f"--rows {pair}: {path}: no such file; check the path")
        found.setdefault(name, []).append(path)
    return found
