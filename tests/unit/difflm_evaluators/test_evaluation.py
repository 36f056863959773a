"""The whole evaluation: every score, in JSON, for good, bad and broken tables; never NaN, never a crash."""

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from difflm.errors import DataError
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema
from difflm_evaluators.evaluation import EvaluationConfig, RealSplits, evaluate_table
from difflm_evaluators.privacy.membership import MembershipConfig
from difflm_evaluators.privacy.privacy import PrivacyConfig
from difflm_evaluators.report.report import Report
from difflm_evaluators.scores.detection import DetectionConfig
from difflm_evaluators.scores.fidelity import FidelityConfig
from difflm_evaluators.scores.utility import UtilityConfig

CONFIG = EvaluationConfig(
    detection=DetectionConfig(seeds=(0,), threads=1),
    fidelity=FidelityConfig(threads=1),
    utility=UtilityConfig(seeds=(0,), threads=1),
    privacy=PrivacyConfig(threads=1),
    membership=MembershipConfig(threads=1),
    projection=None,
)
LIGHT = EvaluationConfig(
    detection=None,
    fidelity=None,
    utility=None,
    privacy=PrivacyConfig(threads=1),
    membership=None,
    attacks=None,
    projection=None,
)
ATTACKS = ("singling_out", "linkability", "attribute_inference")
NAMES = {
    "conforming_share",
    "shape_error",
    "trend_error",
    "category_coverage",
    "range_coverage",
    "entropy_ratio",
    "distinct_row_share",
    "c2st_auc",
    "c2st_accuracy",
    "alpha_precision",
    "beta_recall",
    "mle_auc",
    "mia_auc",
    "mia_calibrated_auc",
    "mia_tpr",
    "dcr_median",
    "dcr_share",
    "exact_copy_share",
    "nndr",
    "rare_cell_share",
    "rare_pair_share",
    *ATTACKS,
}


def _strict_json(report: Report) -> str:
    return json.dumps(report.to_json(), allow_nan=False)


def test_every_score_has_a_value_and_real_data_beside_it(
    train: pa.Table, test: pa.Table, schema: RecordSchema, make_table: Callable[..., pa.Table]
) -> None:
    steps: list[tuple[str, int, int]] = []
    splits = RealSplits(train=train, test=test, validation=test.slice(0, 10))
    fresh = make_table(500, 11, missing=True)
    report = evaluate_table(fresh, splits, schema, CONFIG, progress=lambda *step: steps.append(step))
    assert {score.name for score in report.scores} == NAMES
    for score in report.scores:
        assert score.value is not None, score
        assert score.baseline is not None or score.name in {"dcr_share", *ATTACKS}, score
    assert report.rows == {"train": 600, "validation": 10, "test": 300, "synthetic": 500}
    assert steps[0] == ("validity", 0, 12)
    assert steps[-1] == ("done", 12, 12)
    assert [name for name, _, _ in steps[:-1]] == list(report.seconds)
    loaded = json.loads(_strict_json(report))
    assert loaded["schema_version"] == 2
    assert [evaluation["name"] for evaluation in loaded["evaluations"]] == list(report.seconds)


def test_independent_columns_keep_shape_and_lose_trend(train: pa.Table, test: pa.Table, schema: RecordSchema) -> None:
    random = np.random.default_rng(0)
    apart = pa.table({name: train.column(name).take(random.permutation(600)) for name in train.column_names})
    report = evaluate_table(apart, RealSplits(train=train, test=test), schema, LIGHT)
    shape, pairs = report.score("shape_error"), report.evaluation("pairs")
    assert pairs is not None
    assert shape.value == pytest.approx(0.0, abs=1e-9)
    rows = pairs.details["pairs"]
    assert isinstance(rows, list)
    worst = max(rows, key=lambda pair: pair["error"])
    assert (worst["first"], worst["second"]) == ("age", "label")
    assert worst["error"] > 2 * worst["baseline"]


@pytest.mark.usefixtures("quick_grid")
def test_ten_rows_without_a_test_split_are_scored_or_say_why(train: pa.Table, schema: RecordSchema) -> None:
    ten = train.slice(0, 10)
    for synthetic, real in ((ten, train), (train, ten), (ten, ten), (train.slice(0, 1), ten)):
        report = evaluate_table(synthetic, RealSplits(train=real), schema, CONFIG)
        _strict_json(report)
        assert {score.name for score in report.scores} == NAMES
        for score in report.scores:
            assert (score.value is None) == (score.undefined_because is not None)


@pytest.mark.usefixtures("quick_grid")
def test_missing_everywhere_and_constants_are_scored(train: pa.Table, test: pa.Table, schema: RecordSchema) -> None:
    gone = train.set_column(1, "income", pa.nulls(600)).set_column(2, "city", pa.array([None] * 600, pa.string()))
    constant = train.set_column(0, "age", pa.array([30] * 600)).set_column(3, "member", pa.array(["TRUE"] * 600))
    for broken in (gone, constant):
        for synthetic, real in ((broken, train), (train, broken)):
            report = evaluate_table(synthetic, RealSplits(train=real, test=test), schema, CONFIG)
            _strict_json(report)


def test_one_class_is_undefined_for_usefulness_alone(train: pa.Table, test: pa.Table, schema: RecordSchema) -> None:
    one = train.filter(pa.compute.equal(train.column("label"), "yes"))
    report = evaluate_table(one, RealSplits(train=train, test=test, validation=test), schema, CONFIG)
    assert [score.name for score in report.scores if score.value is None] == ["mle_auc"]


def test_a_table_of_constants_and_one_of_text() -> None:
    for table in (
        pa.table({"a": [1, 1, 1], "b": ["x", "x", "x"]}),
        pa.table({"t": [f"sentence number {number} {'z' * (number % 9)}" for number in range(300)]}),
    ):
        report = evaluate_table(table, RealSplits(train=table, test=table), infer_schema(table), CONFIG)
        _strict_json(report)
        shape, trend = report.score("shape_error"), report.score("trend_error")
        assert shape.value == 0.0
        assert trend.value in (0.0, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.slice(0, 0), "synthetic table has no rows"),
        (lambda t: t.drop_columns(["city"]), "synthetic table lacks column 'city'"),
        (lambda t: t.append_column("zip", pa.array([1] * 600)), "synthetic table has unknown column 'zip'"),
        (lambda t: t.set_column(0, "age", pa.array(["old"] * 600)), "column 'age' should hold numbers"),
        (lambda t: t.set_column(4, "day", pa.array(["soon"] * 600)), "column 'day' has 'soon'"),
        (lambda t: t.set_column(2, "city", pa.array([[1]] * 600)), "column 'city' has type list"),
    ],
)
def test_tables_that_do_not_fit_are_refused_by_name(  # type: ignore[no-untyped-def]
    train: pa.Table, schema: RecordSchema, change, message
) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_table(change(train), RealSplits(train=train), schema, LIGHT)


def test_the_configuration_is_strict_but_reads_lists() -> None:
    config = EvaluationConfig.model_validate({"utility": {"seeds": [4, 5], "threads": 1}, "privacy": None})
    assert config.utility is not None
    assert config.utility.seeds == (4, 5)
    assert config.privacy is None
    wrong: list[dict[str, object]] = [
        {"utilty": None},
        {"utility": {"seeds": []}},
        {"privacy": {"threads": 0}},
        {"utility": {"seeds": ["a"]}},
    ]
    for values in wrong:
        with pytest.raises(ValidationError):
            EvaluationConfig.model_validate(values)
    left_out = EvaluationConfig(
        detection=None, fidelity=None, utility=None, privacy=None, membership=None, projection=None
    )
    assert EvaluationConfig.model_validate_json(left_out.model_dump_json()) == left_out
