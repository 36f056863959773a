"""Diversity by hand, against SDMetrics, and for tables that must look poor."""

from collections.abc import Callable
from math import comb

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sdmetrics.single_column import CategoryCoverage, RangeCoverage

from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema
from difflm_evaluators.base import Evaluation
from difflm_evaluators.columns.columns import read_columns
from difflm_evaluators.columns.value_counts import DistinctRows
from difflm_evaluators.scores.diversity import evaluate_diversity, rarefied

TRAIN = pa.table({"x": [0.5, 1.25, 2.0, 4.5] * 3, "c": ["a", "b", "c", "d"] * 3})


def _evaluate(synthetic: pa.Table, train: pa.Table, test: pa.Table | None, schema: RecordSchema) -> Evaluation:
    columns = [read_columns(table, schema, "t") if table is not None else None for table in (synthetic, train, test)]
    return evaluate_diversity(columns[0], columns[1], columns[2], schema)  # type: ignore[arg-type]


def test_scores_by_hand() -> None:
    synthetic = pa.table({"x": [1.5, 1.5, 2.5, 9.0], "c": ["a", "a", "b", "unknown"]})
    evaluation = _evaluate(synthetic, TRAIN, TRAIN.slice(0, 2), infer_schema(TRAIN))
    # two of four categories; a quarter of the range is missing below, nothing above
    assert evaluation.score("category_coverage").value == pytest.approx(50.0)
    assert evaluation.score("category_coverage").baseline == pytest.approx(50.0)
    assert evaluation.score("range_coverage").value == pytest.approx(75.0)
    # c: shares 1/2, 1/4, 1/4 over four quarters; x in bins of 0.4: shares 1/2 (bin 3), 1/4 (bin 5 and 10 each)
    entropy = (0.5 * np.log(2) + 0.5 * np.log(4)) / np.log(4)
    assert evaluation.score("entropy_ratio").value == pytest.approx(entropy)
    assert evaluation.score("distinct_row_share").value == pytest.approx(75.0)
    # four of twelve rows, three of each kind: a kind is absent with chance C(9, 4) / C(12, 4)
    expected = 4 * (1 - comb(9, 4) / comb(12, 4))
    assert evaluation.score("distinct_row_share").baseline == pytest.approx(100 * expected / 4)
    assert evaluation.score("distinct_row_share").baseline_label == "4 real training rows"


def test_one_thing_only_is_not_diverse_and_fresh_rows_are(
    train: pa.Table, test: pa.Table, schema: RecordSchema, make_table: Callable[..., pa.Table]
) -> None:
    poor = _evaluate(pa.concat_tables([train.slice(0, 1)] * 300), train, test, schema)
    assert poor.score("entropy_ratio").value == 0.0
    assert poor.score("range_coverage").value == 0.0
    assert poor.score("distinct_row_share").value == pytest.approx(100 / 300)
    fresh = _evaluate(make_table(300, 8, missing=True), train, test, schema)
    for score in fresh.scores:
        assert score.value == pytest.approx(score.baseline, rel=0.1), score.name


@pytest.mark.parametrize("seed", range(3))
def test_coverage_agrees_with_sdmetrics(seed: int) -> None:
    random = np.random.default_rng(seed)
    frames = [
        pd.DataFrame({"x": random.normal(0, spread, rows), "c": random.choice(list("abcdefgh"), rows)})
        for rows, spread in ((200, 2.0), (5, 1.0))
    ]
    tables = [pa.Table.from_pandas(frame, preserve_index=False) for frame in frames]
    evaluation = _evaluate(tables[1], tables[0], None, infer_schema(tables[0]))
    for name, metric in (("category_coverage", CategoryCoverage), ("range_coverage", RangeCoverage)):
        column = "c" if name == "category_coverage" else "x"
        theirs = metric.compute(frames[0][column], frames[1][column])
        assert evaluation.score(name).value == pytest.approx(100 * theirs, abs=1e-9)


def test_what_is_not_there_is_undefined() -> None:
    constant = pa.table({"x": [3, 3, 3]})
    evaluation = _evaluate(constant, constant, None, infer_schema(constant))
    assert evaluation.score("range_coverage").undefined_because == "no numeric column varies in the real table"
    assert evaluation.score("entropy_ratio").value is None
    numbers = pa.table({"x": [1.5, 2.0, 7.25]})
    evaluation = _evaluate(pa.table({"x": pa.nulls(4, pa.float64())}), numbers, None, infer_schema(numbers))
    assert evaluation.score("category_coverage").value is None
    assert evaluation.score("range_coverage").value == 0.0


def test_rarefaction_of_a_sketch_is_near_that_of_all_rows() -> None:
    random = np.random.default_rng(0)
    rows_N = random.integers(0, 2**64, 5000, dtype=np.uint64)[random.integers(0, 5000, 12_000)]
    exact, sketch = DistinctRows.empty(), DistinctRows.empty(most=800)
    for counts in (exact, sketch):
        counts.update(rows_N)
    drawn = [len(set(random.choice(rows_N, 3000, replace=False).tolist())) for _ in range(20)]
    assert rarefied(exact, of=12_000, rows=3000) == pytest.approx(np.mean(drawn), rel=0.01)
    assert rarefied(sketch, of=12_000, rows=3000) == pytest.approx(np.mean(drawn), rel=0.12)
    assert rarefied(exact, of=12_000, rows=12_000) == exact.distinct
