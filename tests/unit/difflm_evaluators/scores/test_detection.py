"""Detection: tables whose answer is known, what it names, and tables it cannot judge."""

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from scipy.stats import norm

from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema
from difflm_evaluators.base import Evaluation
from difflm_evaluators.columns.columns import read_columns
from difflm_evaluators.scores import detection as module
from difflm_evaluators.scores.detection import DetectionConfig, evaluate_detection

CONFIG = DetectionConfig(seeds=(0,), threads=1)


def _evaluate(
    synthetic: pa.Table, train: pa.Table, test: pa.Table | None, schema: RecordSchema, config: DetectionConfig = CONFIG
) -> Evaluation:
    columns = [read_columns(table, schema, "t") if table is not None else None for table in (synthetic, train, test)]
    return evaluate_detection(columns[0], columns[1], columns[2], config)  # type: ignore[arg-type]


def _value(evaluation: Evaluation, name: str) -> float:
    value = evaluation.score(name).value
    assert value is not None
    return value


def _normal(rows: int, seed: int, shift: float = 0.0) -> pa.Table:
    return pa.table({"x": np.random.default_rng(seed).normal(shift, 1, rows)})


def test_rows_of_one_distribution_are_a_coin(
    train: pa.Table, test: pa.Table, schema: RecordSchema, make_table: Callable[..., pa.Table]
) -> None:
    evaluation = _evaluate(make_table(600, 7, missing=True), train, test, schema)
    for name in ("c2st_auc", "c2st_accuracy"):
        score = evaluation.score(name)
        assert score.standard_error is not None
        assert _value(evaluation, name) == pytest.approx(0.5, abs=4 * score.standard_error)
        assert score.baseline == pytest.approx(0.5, abs=0.1)
    assert evaluation.details["rows_each"] == 600
    assert evaluation.details["rows_each_baseline"] == 300
    json.dumps(evaluation.to_json(), allow_nan=False)


def test_rows_that_share_no_value_are_always_told_apart_and_the_column_is_named(
    train: pa.Table, schema: RecordSchema
) -> None:
    other = train.set_column(1, "income", pa.array(np.random.default_rng(0).normal(1e6, 10, 600)))
    evaluation = _evaluate(other, train, None, schema)
    assert _value(evaluation, "c2st_auc") == 1.0
    assert _value(evaluation, "c2st_accuracy") > 0.99
    assert evaluation.score("c2st_auc").baseline is None
    shares = evaluation.details["gain_shares"]
    assert isinstance(shares, dict)
    assert sum(shares.values()) == pytest.approx(1)
    assert next(iter(shares)) == "income"
    assert shares["income"] > 0.99


def test_a_shifted_normal_is_found_about_as_often_as_can_be() -> None:
    train = _normal(3000, 0)
    evaluation = _evaluate(_normal(3000, 1, shift=1.0), train, None, infer_schema(train))
    best = norm.cdf(1 / np.sqrt(2))  # the ROC-AUC of the likelihood ratio
    assert best - 0.05 < _value(evaluation, "c2st_auc") < best + 0.02
    best = norm.cdf(0.5)
    assert best - 0.05 < _value(evaluation, "c2st_accuracy") < best + 0.02


def test_a_broken_relation_is_found_though_every_column_is_right() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=1000)
    train = pa.table({"x": x, "y": x + 0.3 * random.normal(size=1000)})
    apart = train.set_column(1, "y", train.column("y").take(pa.array(random.permutation(1000))))
    assert _value(_evaluate(apart, train, None, infer_schema(train)), "c2st_auc") > 0.8


def test_copies_fall_below_a_coin() -> None:
    train = _normal(1000, 0)
    copies = _evaluate(train, train, None, infer_schema(train))
    score = copies.score("c2st_auc")
    assert score.standard_error is not None
    assert _value(copies, "c2st_auc") < 0.5 - 4 * score.standard_error


def test_rows_are_limited_by_a_seeded_sample_and_by_memory(
    train: pa.Table, test: pa.Table, schema: RecordSchema, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DetectionConfig(seeds=(0, 3), max_rows=100, threads=2)
    first, again = (_evaluate(test, train, test, schema, config) for _ in range(2))
    assert first == again
    assert first.details["rows_each"] == 100
    assert len(first.details["synthetic_runs"]) == 2  # type: ignore[arg-type]
    monkeypatch.setattr(module, "MAX_CELLS", 20 * 40)
    features = first.details["features"]
    assert _evaluate(test, train, test, schema).details["rows_each"] == 800 // (2 * features)  # type: ignore[operator]


def test_what_cannot_be_judged_says_why_and_small_or_odd_tables_can(train: pa.Table, schema: RecordSchema) -> None:
    few = _evaluate(train.slice(0, 9), train, train, schema)
    assert few.score("c2st_auc").undefined_because == "9 rows of each table are too few for 5 folds of two; give 10"
    text = pa.table({"t": [f"a long sentence, number {n}, {'x' * (n % 17)}" for n in range(300)]})
    assert "free text" in str(_evaluate(text, text, text, infer_schema(text)).score("c2st_auc").undefined_because)
    assert _evaluate(train.slice(0, 10), train, train.slice(0, 3), schema).score("c2st_accuracy").baseline is None
    constant = pa.table({"a": [1] * 20, "b": ["x"] * 20})
    same = _evaluate(constant, constant, constant, infer_schema(constant))
    assert _value(same, "c2st_auc") == _value(same, "c2st_accuracy") == 0.5
    assert same.details["gain_shares"] == {}
    gone = train.set_column(1, "income", pa.nulls(600, pa.float64()))
    assert _value(_evaluate(gone, train, None, schema), "c2st_auc") > 0.9
    huge = pa.table({"x": [1e300, -1e300, *np.linspace(0, 1, 28)]})
    _evaluate(huge, huge, huge, infer_schema(huge))


def test_the_configuration_refuses_what_cannot_be_run() -> None:
    for wrong in ({"seeds": []}, {"seeds": [-1]}, {"folds": 1}, {"max_rows": 9}, {"rows": 3}):
        with pytest.raises(ValidationError):
            DetectionConfig.model_validate(wrong)
