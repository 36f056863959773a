"""alpha-precision and beta-recall against their definition, and on tables whose answer is known."""

import json
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema
from difflm_evaluators.base import Evaluation
from difflm_evaluators.columns.columns import read_columns
from difflm_evaluators.scores import fidelity as module
from difflm_evaluators.scores.fidelity import LEVELS_K, FidelityConfig, closeness, evaluate_fidelity, support_curves

Points = npt.NDArray[np.float64]
CONFIG = FidelityConfig(threads=1)


def _evaluate(
    synthetic: pa.Table, train: pa.Table, test: pa.Table | None, schema: RecordSchema, config: FidelityConfig = CONFIG
) -> Evaluation:
    columns = [read_columns(table, schema, "t") if table is not None else None for table in (synthetic, train, test)]
    return evaluate_fidelity(columns[0], columns[1], columns[2], config)  # type: ignore[arg-type]


def _by_definition(real: Points, synthetic: Points) -> tuple[list[float], list[float]]:
    """P and R as the module's docstring writes them, row by row."""
    rows = range(len(real))
    centre, other_centre = real.mean(axis=0), synthetic.mean(axis=0)
    radii = [float(np.linalg.norm(x - centre)) for x in real]
    nearest = [min(rows, key=lambda j: float(np.linalg.norm(real[i] - synthetic[j]))) for i in rows]
    near = [
        np.linalg.norm(real[i] - synthetic[nearest[i]])
        <= min(np.linalg.norm(real[i] - real[j]) for j in rows if j != i)
        for i in rows
    ]
    outwards = [float(np.linalg.norm(synthetic[j] - other_centre)) for j in nearest]
    precision, recall = [], []
    for level in LEVELS_K:
        inside, edge = np.quantile(radii, level), np.quantile(outwards, level)
        precision.append(float(np.mean([np.linalg.norm(s - centre) <= inside for s in synthetic])))
        recall.append(float(np.mean([near[i] and outwards[i] <= edge for i in rows])))
    return precision, recall


def test_curves_are_the_definition() -> None:
    random = np.random.default_rng(0)
    for dimensions, shift in ((1, 0.0), (3, 0.4), (20, 0.2)):
        real = random.normal(size=(40, dimensions))
        synthetic = random.normal(size=(40, dimensions)) * 0.8 + shift
        synthetic[:5] = real[:5]
        found = support_curves(real, synthetic)
        precision, recall = _by_definition(real, synthetic)
        assert found.precision_K.tolist() == pytest.approx(precision)
        assert found.recall_K.tolist() == pytest.approx(recall)


def test_copies_reach_100_and_rows_far_away_nothing() -> None:
    real = np.random.default_rng(0).normal(size=(500, 3))
    copies, far = support_curves(real, real), support_curves(real, real + 100)
    assert closeness(copies.precision_K) == pytest.approx(100, abs=0.5)
    assert closeness(copies.recall_K) == pytest.approx(100, abs=0.5)
    assert closeness(far.precision_K) == closeness(far.recall_K) == 0.0


def test_half_in_place_and_half_far_away_is_half() -> None:
    real = np.random.default_rng(0).normal(size=(1000, 2))
    synthetic = real.copy()
    synthetic[::2] += 1000
    assert closeness(support_curves(real, synthetic).precision_K) == pytest.approx(50, abs=2)


def test_rows_that_collapse_to_the_middle_are_neither_typical_nor_a_cover() -> None:
    real = np.random.default_rng(0).normal(size=(1000, 4))
    collapsed = support_curves(real, np.zeros_like(real) + 1e-3 * real)
    assert closeness(collapsed.precision_K) < 5
    assert closeness(collapsed.recall_K) < 5


def test_equal_points_are_at_distance_0_however_far_out_they_lie() -> None:
    real = np.repeat(np.arange(40.0)[:, None] + 1e7, 2, axis=0) * np.ones(20)
    found = support_curves(real, real)
    assert found.recall_K[-1] == 1.0


@given(st.lists(st.floats(0, 1), min_size=len(LEVELS_K), max_size=len(LEVELS_K)))
def test_closeness_is_a_percentage_of_any_rising_curve(values: list[float]) -> None:
    assert 0 <= closeness(np.sort(values)) <= 100
    assert closeness(LEVELS_K) == 100


def test_fresh_rows_score_like_the_test_split(
    train: pa.Table, test: pa.Table, schema: RecordSchema, make_table: Callable[..., pa.Table]
) -> None:
    evaluation = _evaluate(make_table(600, 9, missing=True), train, test, schema)
    precision, recall = evaluation.score("alpha_precision"), evaluation.score("beta_recall")
    assert precision.value == pytest.approx(100 - 89 / np.sqrt(600), abs=3)
    assert recall.value == pytest.approx(50, abs=4)
    assert precision.baseline == pytest.approx(100 - 89 / np.sqrt(300), abs=4)
    assert recall.baseline == pytest.approx(50, abs=6)
    assert evaluation.details["rows_each"] == 600
    assert evaluation.details["rows_each_baseline"] == 300
    json.dumps(evaluation.to_json(), allow_nan=False)


def test_noise_costs_what_the_docstring_says() -> None:
    random = np.random.default_rng(0)
    found = [support_curves(random.normal(size=(400, 3)), random.normal(size=(400, 3))) for _ in range(40)]
    assert np.mean([closeness(curves.precision_K) for curves in found]) == pytest.approx(100 - 89 / 20, abs=0.8)
    assert np.mean([closeness(curves.recall_K) for curves in found]) == pytest.approx(50, abs=1)


def test_large_tables_are_cut_into_disjoint_seeded_and_limited_parts(
    train: pa.Table, test: pa.Table, schema: RecordSchema, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = _evaluate(train, train, None, schema)
    assert copied.score("beta_recall").value == pytest.approx(100, abs=1)
    assert copied.score("beta_recall").standard_error is None
    monkeypatch.setattr(module, "SMALLEST_PART", 60)
    thirds = _evaluate(train, train, None, schema)
    assert thirds.details["rows_each"] == 200
    error = thirds.score("beta_recall").standard_error
    assert error is not None
    assert error > 0
    limited = FidelityConfig(max_rows=60, parts=4, threads=1)
    first, again = (_evaluate(test, train, test, schema, limited) for _ in range(2))
    assert first == again
    assert first.details["rows_each"] == 60
    assert len(first.details["synthetic_parts"]) == 4  # type: ignore[arg-type]
    other = FidelityConfig(max_rows=60, parts=4, seed=1, threads=1)
    assert _evaluate(test, train, test, schema, other).score("beta_recall") != first.score("beta_recall")


def test_what_has_no_place_says_why_and_odd_tables_have_one(train: pa.Table, schema: RecordSchema) -> None:
    text = pa.table({"t": [f"a long sentence, number {n}, {'x' * (n % 17)}" for n in range(300)]})
    assert "free text" in str(_evaluate(text, text, text, infer_schema(text)).score("beta_recall").undefined_because)
    single = _evaluate(train.slice(0, 1), train, train, schema)
    assert "single row" in str(single.score("alpha_precision").undefined_because)
    ten = _evaluate(train.slice(0, 10), train, train.slice(0, 1), schema)
    assert ten.score("alpha_precision").value is not None
    assert ten.score("alpha_precision").baseline is None
    constant = pa.table({"a": [1] * 20, "b": ["x"] * 20})
    same = _evaluate(constant, constant, None, infer_schema(constant))
    json.dumps(same.to_json(), allow_nan=False)
