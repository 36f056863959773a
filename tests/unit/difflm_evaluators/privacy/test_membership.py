"""The membership attack by hand, on copies, on independent rows, and where it cannot be made."""

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema
from difflm_evaluators.base import Evaluation
from difflm_evaluators.columns.columns import read_columns
from difflm_evaluators.privacy.membership import MembershipConfig, area, evaluate_membership

CONFIG = MembershipConfig(threads=1)


def _evaluate(
    synthetic: pa.Table,
    train: pa.Table,
    test: pa.Table | None,
    validation: pa.Table | None,
    schema: RecordSchema,
    config: MembershipConfig = CONFIG,
) -> Evaluation:
    tables = (synthetic, train, test, validation)
    columns = [read_columns(table, schema, "t") if table is not None else None for table in tables]
    return evaluate_membership(*columns, config)  # type: ignore[arg-type]


def _numbers(values: object) -> pa.Table:
    return pa.table({"x": pa.array(values, pa.float64())})


def _normal(rows: int, seed: int) -> pa.Table:
    return pa.table({name: np.random.default_rng([seed, place]).normal(size=rows) for place, name in enumerate("xyz")})


def test_scores_by_hand() -> None:
    train, test = _numbers(np.arange(0.0, 20, 2)), _numbers(np.arange(1.0, 20, 2))
    synthetic, reference = _numbers([0.5, 10.25, 18.0]), _numbers([3.0, 16.0])
    evaluation = _evaluate(synthetic, train, test, reference, infer_schema(train))
    members = [min(abs(x - s) for s in (0.5, 10.25, 18.0)) for x in range(0, 20, 2)]
    others = [min(abs(x - s) for s in (0.5, 10.25, 18.0)) for x in range(1, 20, 2)]
    plain = area(-np.array(members), -np.array(others))
    score = evaluation.score("mia_auc")
    assert score.value == pytest.approx(plain.value)
    assert score.standard_error == pytest.approx(plain.standard_error)
    assert score.interval == pytest.approx(plain.interval)
    nearer = [[min(abs(x - 3), abs(x - 16)) for x in range(start, 20, 2)] for start in (0, 1)]
    calibrated = area(*(np.array(r) - np.array(d) for r, d in zip(nearer, (members, others), strict=True)))
    assert evaluation.score("mia_calibrated_auc").value == pytest.approx(calibrated.value)
    assert "fewer than 100" in str(evaluation.score("mia_tpr").undefined_because)


def test_copies_of_the_training_rows_are_found_and_warned_of() -> None:
    train, test, validation = (_normal(rows, seed) for rows, seed in ((400, 0), (400, 1), (200, 2)))
    evaluation = _evaluate(train, train, test, validation, infer_schema(train))
    assert evaluation.score("mia_auc").value == 1.0
    assert evaluation.score("mia_tpr").value == 100.0
    calibrated = evaluation.score("mia_calibrated_auc").value
    assert calibrated is not None
    assert calibrated > 0.9
    warnings = [score.warning for score in evaluation.scores if score.warning is not None]
    assert len(warnings) == 1
    assert "ROC-AUC 1.000, with 95 % confidence at least 1.000" in warnings[0]


def test_calibration_finds_members_that_distance_alone_cannot() -> None:
    random = np.random.default_rng(0)
    # half of the records lie apart, far from everything, members or not; the synthetic rows are near the members
    crowd, apart = random.normal(0, 0.01, (3, 300)), random.uniform(1, 100, (3, 300))
    train, test, validation = (_numbers(np.concatenate([crowd[side], apart[side]])) for side in range(3))
    synthetic = _numbers(train["x"].to_numpy() + random.normal(0, 0.05, 600))
    evaluation = _evaluate(synthetic, train, test, validation, infer_schema(train))
    plain, calibrated = (evaluation.score(name).value for name in ("mia_auc", "mia_calibrated_auc"))
    assert plain is not None
    assert calibrated is not None
    assert calibrated > plain + 0.02 > 0.52


def test_rows_that_know_nothing_of_the_members_are_at_chance() -> None:
    train = _normal(500, 0)
    schema, covered = infer_schema(train), 0
    for seed in range(1, 41):
        evaluation = _evaluate(_normal(500, 3 * seed), train, _normal(500, 3 * seed + 1), None, schema)
        interval = evaluation.score("mia_auc").interval
        assert interval is not None
        covered += interval[0] <= 0.5 <= interval[1]
        assert all(score.warning is None for score in evaluation.scores)
        rate = evaluation.score("mia_tpr")
        assert rate.value == pytest.approx(1, abs=4)
        assert rate.baseline == pytest.approx(1, abs=4)
    assert covered >= 35


def test_every_score_has_half_the_test_split_beside_it(
    train: pa.Table, test: pa.Table, schema: RecordSchema, make_table: Callable[..., pa.Table]
) -> None:
    validation = make_table(100, 21, missing=True)
    evaluation = _evaluate(make_table(600, 20, missing=True), train, test, validation, schema)
    for score in evaluation.scores:
        assert score.baseline is not None
        assert score.baseline_label == "half the real test split"
        assert score.undefined_because is None
    assert evaluation.score("mia_auc").baseline == pytest.approx(0.5, abs=0.12)
    assert {name: rows for name, rows in evaluation.details.items() if name != "roc"} == {
        "rows_members": 600,
        "rows_outsiders": 300,
        "rows_synthetic": 600,
        "rows_released": 150,
        "rows_rest": 150,
        "rows_reference": 100,
    }
    json.dumps(evaluation.to_json(), allow_nan=False)


def test_rows_are_limited_by_a_seeded_sample(train: pa.Table, test: pa.Table, schema: RecordSchema) -> None:
    config = MembershipConfig(max_queries=50, max_rows=40, threads=1)
    first, again = (_evaluate(test, train, test, None, schema, config) for _ in range(2))
    assert first == again
    assert first.details["rows_members"] == first.details["rows_outsiders"] == 50
    assert first.details["rows_synthetic"] == 40
    other = MembershipConfig(max_queries=50, max_rows=40, threads=1, seed=1)
    assert _evaluate(test, train, test, None, schema, other).score("mia_auc") != first.score("mia_auc")


def test_what_cannot_be_attacked_says_why(train: pa.Table, test: pa.Table, schema: RecordSchema) -> None:
    for synthetic, members, outsiders, reason in (
        (test, train, None, "the test split is missing"),
        (test, train.slice(0, 9), test, "fewer than 10 rows"),
        (test, train, test.slice(0, 9), "fewer than 10 rows"),
    ):
        evaluation = _evaluate(synthetic, members, outsiders, None, schema)
        assert {score.value for score in evaluation.scores} == {None}
        assert all(reason in str(score.undefined_because) for score in evaluation.scores)
    text = pa.table({"t": [f"a long sentence, number {n}, {'x' * (n % 17)}" for n in range(300)]})
    evaluation = _evaluate(text, text, text, text, infer_schema(text))
    assert "free text" in str(evaluation.score("mia_auc").undefined_because)
    without = _evaluate(test, train, test, None, schema).score("mia_calibrated_auc")
    assert "no validation split" in str(without.undefined_because)


def test_constants_and_missing_values_everywhere_are_at_chance(train: pa.Table, schema: RecordSchema) -> None:
    constant = pa.table({"a": [1] * 120, "b": ["x"] * 120})
    evaluation = _evaluate(constant, constant, constant, constant, infer_schema(constant))
    assert [score.value for score in evaluation.scores] == [0.5, 0.5, pytest.approx(1.0)]
    gone = train.set_column(1, "income", pa.nulls(600, pa.float64()))
    json.dumps(_evaluate(gone, train, gone, gone, schema).to_json(), allow_nan=False)
