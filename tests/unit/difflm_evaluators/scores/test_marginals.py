"""Shape error against hand-computed answers and against SDMetrics."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sdmetrics.single_column import KSComplement, TVComplement

from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema
from difflm_evaluators.columns.columns import Column, Columns, read_columns
from difflm_evaluators.scores.marginals import ColumnError, evaluate_marginals, shape_error


def _numeric(values: list[float | None]) -> Column:
    numbers = np.array([math.nan if value is None else value for value in values], dtype=float)
    return Column(name="x", kind="numeric", numbers_N=numbers, labels_N=())


def _category(values: list[str | None]) -> Column:
    return Column(name="c", kind="category", numbers_N=np.zeros(0), labels_N=tuple(values))


def column_error(real: Column, other: Column) -> ColumnError:
    return shape_error({"x": real}, {"x": other})[1][0]


def kolmogorov_smirnov(real: np.ndarray, other: np.ndarray) -> float:
    return column_error(_numeric(real.tolist()), _numeric(other.tolist())).error


def picture(real: Column, other: Column) -> dict[str, Any]:
    columns: Any = evaluate_marginals({"x": other}, {"x": real}, None).details["columns"]
    return dict(columns[0]["picture"])


def test_kolmogorov_smirnov_by_hand() -> None:
    # below 3 the real table has all of its rows, the other one has 1 of 4
    assert kolmogorov_smirnov(np.array([1.0, 2.0]), np.array([2.0, 3.0, 4.0, 5.0])) == 0.75
    assert kolmogorov_smirnov(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 0.0
    assert kolmogorov_smirnov(np.array([1.0]), np.array([2.0])) == 1.0


def test_total_variation_by_hand_with_missing_as_a_category() -> None:
    # a: 1/2 against 1/4, b: 1/4 against 1/4, missing: 1/4 against 0, c: 0 against 1/2
    error = column_error(_category(["a", "a", "b", None]), _category(["a", "b", "c", "c"]))
    assert error.error == pytest.approx((0.25 + 0.0 + 0.25 + 0.5) / 2)


def test_missing_numbers_count_where_their_share_differs_more() -> None:
    real = _numeric([1.0, 2.0, 3.0, 4.0])
    assert column_error(real, _numeric([1.0, 2.0, 3.0, 4.0, None, None, None, None])).error == 0.5
    assert column_error(real, _numeric([None, None])).error == 1.0
    assert column_error(_numeric([1.0, None]), _numeric([5.0, None])).error == 1.0
    assert column_error(_numeric([None]), _numeric([None])).error == 0.0


def test_rho_is_the_mean_over_columns_in_percent() -> None:
    real: Columns = {"x": _numeric([1.0, 2.0]), "c": _category(["a", "b"])}
    other: Columns = {"x": _numeric([1.0, 2.0]), "c": _category(["a", "a"])}
    value, errors = shape_error(real, other)
    assert value == pytest.approx(25.0)
    assert [column.error for column in errors] == [0.0, 0.5]


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_sdmetrics_on_random_columns(seed: int) -> None:
    random = np.random.default_rng(seed)
    real, other = random.normal(0, 3, 400), random.normal(1, 2, 300)
    assert 1 - KSComplement.compute(real, other) == pytest.approx(kolmogorov_smirnov(real, other), abs=1e-9)
    gaps = real.copy()
    gaps[:80] = math.nan
    other_gaps = other.copy()
    other_gaps[:60] = math.nan  # a fifth of both: SDMetrics ignores missing values, and so must equal shares
    ours = column_error(_numeric(gaps.tolist()), _numeric(other_gaps.tolist())).error
    assert 1 - KSComplement.compute(gaps, other_gaps) == pytest.approx(ours, abs=1e-9)
    # SDMetrics puts 1e-6 where a category is absent, so the figures can only be equal where none is
    for others, tolerance in (("abcd", 1e-9), ("cdef", 1e-5)):
        words, other_words = random.choice(list("abcd"), 400), random.choice(list(others), 300)
        ours = column_error(_category(words.tolist()), _category(other_words.tolist())).error
        theirs = 1 - TVComplement.compute(pd.Series(words), pd.Series(other_words))
        assert ours == pytest.approx(theirs, abs=tolerance)


def test_it_agrees_with_sdmetrics_on_adult_halves(real_data: Callable[[str], Path]) -> None:
    frame = pd.read_csv(real_data("adult/train.csv.gz"))
    halves = [frame.iloc[::2].reset_index(drop=True), frame.iloc[1::2].reset_index(drop=True)]
    tables = [pa.Table.from_pandas(half, preserve_index=False) for half in halves]
    schema = infer_schema(tables[0])
    _, errors = shape_error(*(read_columns(table, schema, "half") for table in tables))
    assert len(errors) == 15
    for column in errors:
        metric = KSComplement if pd.api.types.is_numeric_dtype(frame[column.name]) else TVComplement
        theirs = 1 - metric.compute(halves[0][column.name], halves[1][column.name])
        assert column.error == pytest.approx(theirs, abs=1e-9), column.name


def test_text_is_compared_by_its_length() -> None:
    real = Column(name="t", kind="text", numbers_N=np.array([3.0, 5.0]), labels_N=("abc", "abcde"))
    same_lengths = Column(name="t", kind="text", numbers_N=np.array([3.0, 5.0]), labels_N=("xyz", "vwxyz"))
    longer = Column(name="t", kind="text", numbers_N=np.array([9.0, 9.0]), labels_N=("a" * 9, "b" * 9))
    assert column_error(real, same_lengths).error == 0.0
    assert column_error(real, longer).error == 1.0


def test_the_evaluation_has_the_baseline_and_pictures_that_add_up(
    train: pa.Table, test: pa.Table, schema: RecordSchema, make_table: Callable[..., pa.Table]
) -> None:
    tables = [read_columns(t, schema, "t") for t in (make_table(400, 3, missing=True), train, test)]
    evaluation = evaluate_marginals(*tables)
    score = evaluation.score("shape_error")
    assert score.value is not None
    assert 0 < score.value < 15
    assert score.baseline == pytest.approx(shape_error(tables[1], tables[2])[0])
    for name, column in tables[1].items():
        drawn = picture(column, tables[0][name])
        if drawn["kind"] == "bars":
            assert sum(bar["real"] for bar in drawn["bars"]) == pytest.approx(1)  # type: ignore[union-attr, index, call-overload, misc]
        else:
            missing = column.missing_N.mean()
            assert sum(drawn["real"]) == pytest.approx(1 - missing)  # type: ignore[arg-type]
            there = 1 - tables[0][name].missing_N.mean()
            assert sum(drawn["synthetic"]) + drawn["outside"] == pytest.approx(there)  # type: ignore[arg-type, operator]


def test_wild_numbers_have_a_picture_and_an_error() -> None:
    real, other = _numeric([-1.7e308, 0.0, 1.7e308]), _numeric([1e-300, 2e-300, 1e308])
    assert 0 < column_error(real, other).error <= 1
    edges = picture(real, other)["edges"]
    assert np.isfinite(np.array(edges, dtype=float)).all()
