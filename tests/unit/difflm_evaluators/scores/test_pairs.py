"""Trend error against hand-computed answers and against SDMetrics."""

import math
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sdmetrics.column_pairs import ContingencySimilarity, CorrelationSimilarity

from difflm.records.kinds.inference import infer_schema
from difflm_evaluators.columns.coding import fit_coder
from difflm_evaluators.columns.columns import Column, Columns, read_columns
from difflm_evaluators.columns.contingency import CellCounts
from difflm_evaluators.columns.moments import PairMoments
from difflm_evaluators.scores.pairs import PairError, StreamingPairs, evaluate_pairs, mean_error


def _numeric(name: str, values: list[float]) -> Column:
    return Column(name=name, kind="numeric", numbers_N=np.array(values, dtype=float), labels_N=())


def _category(name: str, values: list[str | None]) -> Column:
    return Column(name=name, kind="category", numbers_N=np.zeros(0), labels_N=tuple(values))


def _columns(*columns: Column) -> Columns:
    return {column.name: column for column in columns}


def trend_error(real: Columns, other: Columns) -> tuple[float | None, tuple[PairError, ...]]:
    streaming = StreamingPairs.fit(real, None)
    streaming.update(other)
    return mean_error(streaming.errors()), streaming.errors()


def pearson(first: np.ndarray, second: np.ndarray) -> float | None:
    return PairMoments.of(np.stack([first, second], axis=1)).correlation(0, 1)


def test_pearson_by_hand() -> None:
    assert pearson(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])) == pytest.approx(1.0)
    # deviations (-1, 0, 1) and (1, -2, 1): their product is 0
    assert pearson(np.array([1.0, 2.0, 3.0]), np.array([3.0, 0.0, 3.0])) == pytest.approx(0.0)
    # deviations (-1, 0, 1) and (-1, 1, 0): 1 / 2
    assert pearson(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])) == pytest.approx(0.5)
    assert pearson(np.array([1e300, 2e300, 3e300]), np.array([1.0, 3.0, 2.0])) == pytest.approx(0.5)
    assert pearson(np.array([1e-300, 2e-300, 3e-300]), np.array([1.0, 3.0, 2.0])) == pytest.approx(0.5)


def test_pearson_is_undefined_for_a_constant_and_under_two_shared_rows() -> None:
    assert pearson(np.array([1.0, 1.0]), np.array([1.0, 2.0])) is None
    assert pearson(np.array([1.0, math.nan]), np.array([math.nan, 2.0])) is None
    assert pearson(np.array([1.0, 2.0, math.nan]), np.array([5.0, 6.0, -9.0])) == pytest.approx(1.0)


def test_a_numeric_pair_by_hand() -> None:
    real = _columns(_numeric("a", [1, 2, 3]), _numeric("b", [1, 2, 3]))
    other = _columns(_numeric("a", [1, 2, 3]), _numeric("b", [3, 2, 1]))
    value, errors = trend_error(real, other)
    assert value == pytest.approx(100.0)  # r is 1 in one and -1 in the other
    assert errors[0].method == "correlation"


def test_a_pair_with_a_category_by_hand() -> None:
    # real: (low, u) 1/2, (high, v) 1/2; other: (low, v) 1/2, (high, v) 1/2
    real = _columns(_numeric("a", [0, 0, 10, 10]), _category("c", ["u", "u", "v", "v"]))
    other = _columns(_numeric("a", [0, 10]), _category("c", ["v", "v"]))
    value, _ = trend_error(real, other)
    assert value == pytest.approx(50.0)


def test_bins_are_those_of_the_real_range_with_open_ends_and_one_for_missing() -> None:
    coder = fit_coder(_numeric("a", [0.0, 10.0]))
    assert coder.code(_numeric("a", [-5.0, 0.5, 1.0, 9.9, 25.0, math.nan])).tolist() == [1, 1, 2, 10, 10, 11]
    assert (coder.missing, coder.size) == (11, 12)


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_sdmetrics_on_random_pairs(seed: int) -> None:
    random = np.random.default_rng(seed)
    frames = []
    for rows, slope in ((500, 1.0), (300, 0.2)):
        a = random.normal(0, 2, rows)
        b = slope * a + random.normal(0, 1, rows)
        a[random.random(rows) < 0.1] = math.nan
        frames.append(pd.DataFrame({"a": a, "b": b, "c": random.choice(list("xyz"), rows)}))
    real, other = (
        _columns(
            _numeric("a", frame["a"].tolist()), _numeric("b", frame["b"].tolist()), _category("c", frame["c"].tolist())
        )
        for frame in frames
    )
    _, errors = trend_error(real, other)
    for pair in errors:
        assert pair.error == pytest.approx(_theirs(frames[0], frames[1], pair.first, pair.second), abs=1e-9)


def _theirs(real: pd.DataFrame, other: pd.DataFrame, first: str, second: str) -> float:
    names = [first, second]
    numeric = [name for name in names if pd.api.types.is_numeric_dtype(real[name])]
    real_pair, other_pair = real[names].copy(), other[names].copy()
    if len(numeric) == 2:
        return float(1 - CorrelationSimilarity.compute(real_pair, other_pair, real_correlation_threshold=0))
    score = ContingencySimilarity.compute(
        real_pair,
        other_pair,
        continuous_column_names=numeric or None,
        num_discrete_bins=10,
        real_association_threshold=0,
    )
    return float(1 - score)


@pytest.mark.filterwarnings("ignore")  # pandas complains about SDMetrics' own assignments
def test_it_agrees_with_sdmetrics_on_adult_halves(real_data: Callable[[str], Path]) -> None:
    names = ["age", "workclass", "education-num", "sex", "capital-gain", "hours-per-week", "income"]
    frame = pd.read_csv(real_data("adult/train.csv.gz"), usecols=names)[names]
    halves = [frame.iloc[::2].reset_index(drop=True), frame.iloc[1::2].reset_index(drop=True)]
    tables = [pa.Table.from_pandas(half, preserve_index=False) for half in halves]
    schema = infer_schema(tables[0])
    _, errors = trend_error(*(read_columns(table, schema, "half") for table in tables))
    assert len(errors) == len(list(combinations(names, 2)))
    for pair in errors:
        assert pair.error == pytest.approx(_theirs(halves[0], halves[1], pair.first, pair.second), abs=1e-9), pair


def test_a_real_constant_is_undefined_and_named_but_a_synthetic_one_is_not_spared() -> None:
    constant = _columns(_numeric("a", [1, 1, 1]), _numeric("b", [1, 2, 3]))
    varied = _columns(_numeric("a", [1, 2, 3]), _numeric("b", [1, 2, 3]))
    value, errors = trend_error(constant, varied)
    assert value is None
    assert errors[0].undefined_because is not None
    score = evaluate_pairs(varied, constant, None).score("trend_error")
    assert score.value is None
    assert score.undefined_because is not None
    value, _ = trend_error(varied, constant)
    assert value == pytest.approx(100 * 2 / 3)  # one of three cells of the real table is met


def test_cells_are_not_allocated_for_the_product_of_categories() -> None:
    labels: list[str | None] = [str(number) for number in range(20_000)]
    real = _columns(_category("a", labels), _category("b", labels))
    assert trend_error(real, real)[0] == 0.0
    assert trend_error(real, _columns(_category("a", labels), _category("b", labels[::-1])))[0] == pytest.approx(100.0)


def test_many_cells_and_few_give_the_same_distance() -> None:
    random = np.random.default_rng(0)
    real_N, other_N = random.integers(0, 40, 300), random.integers(10, 60, 500)
    dense, sparse = CellCounts.fit(real_N, size=60), CellCounts.fit(real_N, size=2**40)
    assert sparse.kept_C is not None
    distances = []
    for real in (dense, sparse):
        other = real.empty()
        other.update(other_N)
        distances.append(real.distance(other))
    by_hand = np.abs(np.bincount(real_N, minlength=60) / 300 - np.bincount(other_N, minlength=60) / 500).sum() / 2
    assert distances == pytest.approx([by_hand, by_hand])


def test_text_takes_no_part() -> None:
    text = Column(name="t", kind="text", numbers_N=np.array([1.0, 2.0]), labels_N=("a", "bb"))
    evaluation = evaluate_pairs({"t": text}, {"t": text}, None)
    assert evaluation.score("trend_error").value is None
    assert evaluation.details["columns_left_out"] == ["t"]
