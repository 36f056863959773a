"""Where a table is worst: differences by hand, in numbers and in words, and the order of the worst."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema
from difflm_evaluators.base import Evaluation
from difflm_evaluators.columns.columns import Column, Columns, read_columns
from difflm_evaluators.report.rows import difference_text, level_text
from difflm_evaluators.scores.breakdown import WORST, column_difference, evaluate_breakdown, pair_difference
from difflm_evaluators.scores.marginals import evaluate_marginals, shape_error
from difflm_evaluators.scores.pairs import evaluate_pairs


def _numbers(*values: float | None) -> Column:
    return Column(name="x", kind="numeric", numbers_N=np.array(values, dtype=float), labels_N=())


def _labels(*labels: str | None) -> Column:
    return Column(name="c", kind="category", numbers_N=np.zeros(0), labels_N=labels)


def _breakdown(synthetic: Columns, train: Columns, detection: Evaluation | None = None) -> tuple[Any, Any]:
    marginals, pairs = evaluate_marginals(synthetic, train, None), evaluate_pairs(synthetic, train, None)
    details = evaluate_breakdown(synthetic, train, marginals, pairs, detection).details
    return details["columns"], details["pairs"]


def test_the_category_with_the_largest_gap() -> None:
    found = column_difference(_labels("a", "a", "b", "c"), _labels("a", "b", "b", "b"))
    assert found == {"what": "value", "value": {"label": "b"}, "real": 0.25, "synthetic": 0.75}
    assert difference_text(found, "categorical") == "b: 25.0 % real, 75.0 % synthetic"
    found = column_difference(_labels("a", "a", "b", "b"), _labels("a", "b", None, None))
    assert found["value"] == {"missing": True}
    assert (found["real"], found["synthetic"]) == (0.0, 0.5)


def test_the_number_where_the_distributions_differ_most_is_where_the_statistic_is_taken() -> None:
    real, other = _numbers(1, 2, 3, 4), _numbers(2, 3, 3, 9)
    found = column_difference(real, other)
    assert found == {"what": "at most", "value": {"high": 1.0}, "real": 0.25, "synthetic": 0.0}
    random = np.random.default_rng(0)
    for _ in range(20):
        real, other = (_numbers(*random.integers(0, 9, 30).astype(float)) for _ in range(2))
        found = column_difference(real, other)
        (column,) = shape_error({"x": real}, {"x": other})[1]
        assert abs(found["real"] - found["synthetic"]) == pytest.approx(column.error)  # type: ignore[operator]


def test_missing_numbers_are_named_where_they_differ_more() -> None:
    found = column_difference(_numbers(1, 2, 3, 4), _numbers(1, 4, None, None))
    assert found == {"what": "value", "value": {"missing": True}, "real": 0.0, "synthetic": 0.5}
    assert difference_text(found, "decimal") == "missing: 0.0 % real, 50.0 % synthetic"
    assert column_difference(_numbers(1, 2), _numbers(None, None))["value"] == {"missing": True}


def test_a_pair_of_numbers_is_told_by_both_correlations() -> None:
    train = {"x": _numbers(1, 2, 3, 4), "y": _numbers(2, 4, 6, 8)}
    synthetic = {"x": _numbers(1, 2, 3, 4), "y": _numbers(8, 6, 4, 2)}
    found = pair_difference({"first": "x", "second": "y", "method": "correlation"}, synthetic, train)
    assert found == {"what": "correlation", "real": pytest.approx(1), "synthetic": pytest.approx(-1)}
    assert difference_text(found, "decimal", "decimal") == "r 1.000 real, -1.000 synthetic"


def test_any_other_pair_by_the_cell_that_differs_most() -> None:
    train = {"c": _labels("a", "a", "b", "b"), "x": _numbers(0, 10, 0, None)}
    synthetic = {"c": _labels("a", "b", "b", "b"), "x": _numbers(0, 10, 12, 50)}
    found = pair_difference({"first": "c", "second": "x", "method": "contingency"}, synthetic, train)
    assert found == {
        "what": "cell",
        "first": {"label": "b"},
        "second": {"low": 9.0, "high": None},
        "real": 0.0,
        "synthetic": 0.75,
    }
    assert difference_text(found, "categorical", "integer") == "b × > 9: 0.0 % real, 75.0 % synthetic"
    synthetic = {"c": _labels("b", "b", "b", "b"), "x": _numbers(None, None, None, None)}
    found = pair_difference({"first": "x", "second": "c", "method": "contingency"}, synthetic, train)
    assert (found["first"], found["second"]) == ({"missing": True}, {"label": "b"})
    assert (found["real"], found["synthetic"]) == (0.25, 1.0)


def test_the_worst_come_first_and_what_is_right_is_left_out() -> None:
    random = np.random.default_rng(0)
    even = np.linspace(0, 1, 200)
    table = pa.table({f"n{number:02d}": random.permutation(even) for number in range(14)})
    schema = infer_schema(table)
    shifted = table
    for number in range(12):
        name = f"n{number:02d}"
        shifted = shifted.set_column(number, name, pa.array(table.column(name).to_numpy() + 0.05 * number))
    train, synthetic = (read_columns(side, schema, "t") for side in (table, shifted))
    columns, pairs = _breakdown(synthetic, train)
    assert [column["name"] for column in columns] == [f"n{number:02d}" for number in range(11, 1, -1)]
    assert len(columns) == WORST
    assert all(pair["error"] > 0 for pair in pairs)
    assert _breakdown(train, train) == ([], [])


def test_each_column_has_its_part_in_the_detection(train: pa.Table, schema: RecordSchema) -> None:
    other = train.set_column(0, "age", pa.array([50] * 600))
    read = [read_columns(table, schema, "t") for table in (other, train)]
    detection = Evaluation(name="detection", scores=(), details={"gain_shares": {"age": 0.75}})
    columns, pairs = _breakdown(read[0], read[1], detection)
    assert columns[0]["name"] == "age"
    assert columns[0]["gain_share"] == 0.75
    assert {pair["first"] for pair in pairs} == {"age"}
    assert _breakdown(read[0], read[1])[0][0]["gain_share"] is None


def test_levels_in_words() -> None:
    assert level_text({"high": 1_234_567.0}, "integer") == "≤ 1.23457e+06"
    assert level_text({"low": 0.123456789, "high": 20_000.0}, "decimal") == "0.123457 to 20,000"
    assert level_text({"low": None, "high": None}, "decimal") == "all"
    assert level_text({"high": 86_400.0}, "datetime") == "≤ 1970-01-02"
    assert level_text({"high": -3600.0}, "datetime") == "≤ 1969-12-31 23:00"
    assert level_text({"label": "a\n b" + "x" * 50}, "categorical") == "a b" + "x" * 36 + "…"
    length: dict[str, Any] = {"what": "at most", "value": {"high": 12.0}, "real": 0.5, "synthetic": 0.25}
    assert difference_text(length, "text") == "≤ 12 characters: 50.0 % real, 25.0 % synthetic"
