"""Means, ranks and the two forms of a benchmark's result."""

import json
from dataclasses import replace
from typing import Any

import pytest

from difflm_evaluators.report.comparison_report import result_html
from difflm_jobs.benchmark.cells import Bench, Cell
from difflm_jobs.benchmark.methods import read_methods
from difflm_jobs.benchmark.results import Measure, MethodResult, _rank, benchmark_json, benchmark_table, collect
from difflm_jobs.studies.ablation import Mean


def _measure(name: str, direction: str, ideal: float | None = None) -> Measure:
    return Measure(name=name, title=name, unit="%", direction=direction, ideal=ideal, measured_by="us")


def _result(name: str, **means: float) -> MethodResult:
    found = MethodResult(name=name, title=name, about={})
    found.means = {key: Mean.of([value]) for key, value in means.items()}
    return found


def test_ranks_follow_the_direction_and_equal_ones_share_theirs() -> None:
    results = [
        _result("a", shape_error=1.0, mle_auc=0.9, dcr_share=0.4),
        _result("b", shape_error=1.0, mle_auc=0.8, dcr_share=0.55),
        _result("c", shape_error=2.0, dcr_share=0.7),
        _result("d"),
    ]
    measures = {
        "shape_error": _measure("shape_error", "lower"),
        "mle_auc": _measure("mle_auc", "higher"),
        "dcr_share": _measure("dcr_share", "target", 0.5),
        "nndr": _measure("nndr", "target"),
    }
    _rank(results, measures)
    assert [result.ranks.get("shape_error") for result in results] == [1.5, 1.5, 3.0, None]
    assert [result.ranks.get("mle_auc") for result in results] == [1.0, 2.0, None, None]
    assert [result.ranks.get("dcr_share") for result in results] == [2.0, 1.0, 3.0, None]
    assert results[0].mean_rank(["shape_error", "mle_auc", "nndr"]) == 1.25
    assert results[3].mean_rank(["shape_error"]) is None


@pytest.fixture
def cells() -> list[Cell]:
    facts: dict[str, Any] = {
        "seconds": {"fitting": 2.0, "sampling": 1.0},
        "peak_mib": 99.0,
        "notes": ["9 of 10 epochs"],
    }
    return [
        Cell(method="smote", seed=0, reason="killed after 1 minutes, while fitting", facts={"wall_seconds": 60.0}),
        Cell(method="smote", seed=1, reason="failed"),
        Cell(method="cart", seed=0, facts=facts),
        Cell(method="cart", seed=1, reason="failed while fitting: MemoryError"),
    ]


def test_cells_without_rows_say_why(bench: Bench, cells: list[Cell]) -> None:
    methods = {method.name: method for method in read_methods(["smote", "cart"], overrides=())}
    results, measures = collect(cells, methods)
    assert [result.state for result in results] == [
        "killed after 1 minutes, while fitting",
        "1 of 2 seeds; failed while fitting: MemoryError",
    ]
    table = benchmark_table(replace(bench, rows=7), results, measures, [0, 1])
    assert table.columns == ["", "SMOTE", "CART"]
    assert table.rows[0][1] == "killed after 1 minutes, while fitting"
    assert "CART, seed 0: 9 of 10 epochs" in table.notes
    assert "killed after 1 minutes" in result_html(table)
    facts = json.loads(json.dumps(benchmark_json(bench, results, measures, [0, 1]), allow_nan=False))
    assert facts["benchmark_version"] == 1
    assert set(facts) == {"benchmark_version", "table", "asked", "machine", "scored", "figures", "methods"}
    smote, cart = facts["methods"]
    assert smote["settings"] == {"neighbours": 5}
    assert smote["requirements"]
    assert smote["cells"][0] == {
        "seed": 0,
        "reason": "killed after 1 minutes, while fitting",
        "figures": {},
        "rows": None,
        "wall_seconds": 60.0,
        "notes": [],
    }
    assert cart["cells"][0]["notes"] == ["9 of 10 epochs"]
