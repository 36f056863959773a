"""Privacy scores by hand, and tables that must look bad."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema
from difflm_evaluators.base import Evaluation
from difflm_evaluators.columns.columns import read_columns
from difflm_evaluators.columns.row_keys import KnownRows
from difflm_evaluators.privacy.distances import distance_ratios
from difflm_evaluators.privacy.privacy import PrivacyConfig, evaluate_privacy

CONFIG = PrivacyConfig(threads=1)


def _evaluate(
    synthetic: pa.Table, train: pa.Table, test: pa.Table | None, schema: RecordSchema, config: PrivacyConfig = CONFIG
) -> Evaluation:
    columns = [read_columns(table, schema, "t") if table is not None else None for table in (synthetic, train, test)]
    return evaluate_privacy(columns[0], columns[1], columns[2], schema, config)  # type: ignore[arg-type]


def _numbers(*values: float) -> pa.Table:
    return pa.table({"x": pa.array(values, pa.float64())})


def test_scores_by_hand() -> None:
    train, holdout = _numbers(0.0, 2.5, 10.0), _numbers(5.0, 7.5, 9.5)
    schema = infer_schema(train)
    synthetic = _numbers(0.0, 1.0, 6.0, 8.75)
    evaluation = _evaluate(synthetic, train, holdout, schema)
    # nearest training rows: 0, 1, 3.5 (2.5), 1.25 (10); of a range of 10
    assert evaluation.score("dcr_median").value == pytest.approx(0.1125, abs=1e-6)
    # holdout: 5 -> 2.5, 7.5 -> 2.5, 9.5 -> 0.5
    assert evaluation.score("dcr_median").baseline == pytest.approx(0.25, abs=1e-6)
    # distances to the holdout: 5, 4, 1, 0.75: two of four rows are closer to train
    assert evaluation.score("dcr_share").value == 0.5
    # second nearest: 2.5, 1.5, 4 (10), 6.25 (2.5)
    ratios = [0.0, 1 / 1.5, 3.5 / 4, 1.25 / 6.25]
    assert evaluation.score("nndr").value == pytest.approx(np.mean(ratios), abs=1e-6)
    assert evaluation.score("exact_copy_share").value == 25.0
    assert evaluation.score("exact_copy_share").baseline == 0.0
    assert evaluation.details["exact_copies"] == 1


def test_more_copies_than_real_rows_have_are_warned_of() -> None:
    train, test = _numbers(*range(0, 60, 2)), _numbers(*range(1, 40, 2), 2.0)
    schema = infer_schema(train)
    copying = _evaluate(train, train, test, schema).score("exact_copy_share")
    assert copying.warning is not None
    assert copying.warning.startswith("100.0 % of the synthetic rows are copies of training rows, of the real")
    fresh = _evaluate(_numbers(*range(1, 40, 2), 4.0, 6.0), train, test, schema).score("exact_copy_share")
    assert fresh.value > fresh.baseline > 0
    assert fresh.warning is None
    assert _evaluate(train, train, None, schema).score("exact_copy_share").warning is None


def test_ties_count_one_half() -> None:
    train, holdout = _numbers(0.0, 10.0), _numbers(2.0, 8.0)
    evaluation = _evaluate(_numbers(1.0, 1.0, 0.1, 9.0), train, holdout, infer_schema(train))
    assert evaluation.score("dcr_share").value == pytest.approx((0.5 + 0.5 + 1 + 0.5) / 4)


def test_two_equal_neighbours_have_ratio_one() -> None:
    assert distance_ratios(np.array([[0.0, 0.0], [0.0, 2.0], [1.0, 2.0]], dtype=np.float32)).tolist() == [1.0, 0.0, 0.5]


def test_a_copying_generator_looks_bad_and_fresh_rows_do_not(
    train: pa.Table, test: pa.Table, schema: RecordSchema, make_table: Callable[..., pa.Table]
) -> None:
    copied = _evaluate(train.slice(0, 300), train, test, schema)
    fresh = _evaluate(make_table(300, 7, missing=True), train, test, schema)
    assert copied.score("exact_copy_share").value == 100.0
    assert copied.score("dcr_median").value == pytest.approx(0, abs=1e-5)
    share = copied.score("dcr_share").value
    assert share is not None
    assert share > 0.7  # the train side is subsampled to the size of the test split, so half the originals are away
    assert fresh.score("exact_copy_share").value == 0.0
    assert fresh.score("dcr_share").value == pytest.approx(0.5, abs=0.12)
    assert fresh.score("dcr_median").value == pytest.approx(fresh.score("dcr_median").baseline, rel=0.2)


def test_copies_compare_numbers_as_printed_and_missing_equal() -> None:
    train = pa.table({"x": [1.25, 2.5, None, 4.75], "c": ["a", None, "b", "a"], "t": ["one", "two", "three", "four"]})
    schema = infer_schema(train)
    table = pa.table(
        {"x": [1.250000001, 2.5, None, 4.75], "c": ["a", None, "b", "a"], "t": ["one", "two", "three", "other"]}
    )
    known = KnownRows(read_columns(train, schema, "t"), schema)
    assert known.holds(read_columns(table, schema, "t")).tolist() == [True, True, True, False]


def test_without_a_holdout_the_share_is_undefined_and_one_training_row_has_no_second() -> None:
    train = _numbers(1.0)
    schema = infer_schema(_numbers(1.0, 2.0))
    evaluation = _evaluate(_numbers(1.0, 2.0), train, None, schema)
    assert evaluation.score("dcr_share").value is None
    assert "holdout" in (evaluation.score("dcr_share").undefined_because or "")
    assert evaluation.score("nndr").value is None
    assert evaluation.score("dcr_median").baseline is None


def test_text_alone_has_no_distance_but_copies() -> None:
    texts = [f"a long and rather free sentence, number {number}, {'x' * (number % 17)}" for number in range(200)]
    train = pa.table({"t": texts})
    schema = infer_schema(train)
    assert schema.field("t").kind == "text"
    evaluation = _evaluate(pa.table({"t": [*texts[:3], "new"]}), train, train, schema)
    assert evaluation.score("exact_copy_share").value == 75.0
    assert evaluation.score("dcr_median").value is None


def test_queries_are_limited_by_a_seeded_sample(train: pa.Table, test: pa.Table, schema: RecordSchema) -> None:
    config = PrivacyConfig(threads=1, max_queries=40)
    first, again = (_evaluate(test, train, test, schema, config) for _ in range(2))
    assert first == again
    assert first.details["queried_synthetic"] == 40
    other = _evaluate(test, train, test, schema, PrivacyConfig(threads=1, max_queries=40, seed=1))
    assert other.score("dcr_median") != first.score("dcr_median")


def test_histograms_are_shares_on_common_bins(train: pa.Table, test: pa.Table, schema: RecordSchema) -> None:
    dcr = _evaluate(test, train, test, schema).details["dcr"]
    assert isinstance(dcr, dict)
    assert sum(dcr["synthetic"]) == pytest.approx(1)
    assert dcr["synthetic"] == dcr["test"]
    assert len(dcr["edges"]) == len(dcr["test"]) + 1
