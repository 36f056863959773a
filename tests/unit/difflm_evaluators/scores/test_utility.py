"""Usefulness: exact scores, the prefix property it relies on, and tables that must score badly."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb
from sklearn.metrics import roc_auc_score

from difflm.errors import DataError
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema, SchemaConfig
from difflm_evaluators.base import Evaluation
from difflm_evaluators.columns.columns import read_columns
from difflm_evaluators.columns.features import FeatureEncoder
from difflm_evaluators.scores.boosting import (
    GAMMAS,
    MAX_DEPTHS,
    MIN_CHILD_WEIGHTS,
    TREES,
    Samples,
    Setup,
    binary_auc,
    choose_and_score,
    hold_out_ninth,
    score_predictions,
)
from difflm_evaluators.scores.utility import UtilityConfig, evaluate_utility

CONFIG = UtilityConfig(seeds=(0, 1), threads=1)


def _evaluate(
    synthetic: pa.Table, train: pa.Table, test: pa.Table | None, schema: RecordSchema, config: UtilityConfig = CONFIG
) -> Evaluation:
    columns = [read_columns(table, schema, "t") if table is not None else None for table in (synthetic, train, test)]
    return evaluate_utility(columns[0], columns[1], columns[2], schema, config)  # type: ignore[arg-type]


def test_auc_by_hand_and_against_scikit_learn() -> None:
    # pairs (positive, negative): 0.8 beats 0.1 and 0.5; 0.5 beats 0.1 and ties with 0.5: (1 + 1 + 1 + 0.5) / 4
    positive = np.array([True, True, False, False])
    assert binary_auc(positive, np.array([0.8, 0.5, 0.1, 0.5])) == pytest.approx(0.875)
    assert binary_auc(np.array([True, True]), np.array([0.1, 0.2])) is None
    random = np.random.default_rng(0)
    labels, ranking = random.integers(0, 2, 500) == 1, np.round(random.random(500), 1)
    assert binary_auc(labels, ranking) == pytest.approx(roc_auc_score(labels, ranking), abs=1e-12)


@pytest.mark.parametrize("beyond", ["synthetic", "train", "test"])
def test_a_target_that_float32_cannot_hold_leaves_usefulness_undefined(beyond: str) -> None:
    def table(scale: float) -> pa.Table:
        return pa.table({"x": [float(n % 7) for n in range(30)], "y": [scale * (1 + n / 8) for n in range(30)]})

    tables = {name: table(1e300 if name == beyond else 1.0) for name in ("synthetic", "train", "test")}
    schema = infer_schema(tables["train"], target="y")
    score = _evaluate(tables["synthetic"], tables["train"], tables["test"], schema).score("mle_rmse")
    assert score.undefined_because == "'y' has numbers beyond 3.4e+38, which XGBoost cannot hold"


def test_multi_class_auc_is_macro_one_versus_rest() -> None:
    random = np.random.default_rng(1)
    target, predicted = random.integers(0, 3, 300).astype(float), random.dirichlet([1, 1, 1], 300)
    setup = Setup(task="classification", classes=3, feature_types=("q",))
    expected = roc_auc_score(target, predicted, multi_class="ovr", average="macro")
    assert score_predictions(setup, target, predicted) == pytest.approx(expected, abs=1e-12)
    two = target < 2  # a class that does not occur is left out of the mean
    areas = [roc_auc_score(target[two] == number, predicted[two, number]) for number in (0, 1)]
    assert score_predictions(setup, target[two], predicted[two]) == pytest.approx(np.mean(areas), abs=1e-12)


def test_rmse_by_hand() -> None:
    setup = Setup(task="regression", classes=0, feature_types=("q",))
    assert score_predictions(setup, np.array([1.0, 2.0]), np.array([4.0, 6.0])) == pytest.approx(np.sqrt(12.5))


def test_the_held_out_ninth_is_drawn_within_classes() -> None:
    target = np.array([0.0] * 81 + [1.0] * 9 + [2.0])
    samples = Samples(features_ND=np.arange(91, dtype=np.float32)[:, None], target_N=target)
    setup = Setup(task="classification", classes=3, feature_types=("q",))
    fitting, held_out = hold_out_ninth(samples, setup, seed=0)
    assert np.bincount(held_out.target_N.astype(int)).tolist() == [9, 1]
    both = np.concatenate([fitting.features_ND[:, 0], held_out.features_ND[:, 0]])
    assert sorted(both.tolist()) == list(range(91))
    again, _ = hold_out_ninth(samples, setup, seed=0)
    other, _ = hold_out_ninth(samples, setup, seed=1)
    assert (again.features_ND == fitting.features_ND).all()
    assert (other.features_ND != fitting.features_ND).any()


def test_a_prefix_of_trees_is_the_smaller_model_and_the_grid_finds_what_36_fits_find() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(500, 4)).astype(np.float32)
    target = (features[:, 0] * features[:, 1] + random.normal(0, 0.5, 500) > 0).astype(float)
    setup = Setup(task="classification", classes=2, feature_types=("q",) * 4)
    samples = Samples(features_ND=features[:300], target_N=target[:300])
    test = Samples(features_ND=features[300:], target_N=target[300:])
    fitting, held_out = hold_out_ninth(samples, setup, seed=3)
    data, held_out_data = xgb.QuantileDMatrix(fitting.features_ND, fitting.target_N), xgb.DMatrix(held_out.features_ND)
    best: tuple[float, float] | None = None
    for depth, weight, gamma, trees in product(MAX_DEPTHS, MIN_CHILD_WEIGHTS, GAMMAS, TREES):
        booster = xgb.train(setup.parameters(depth=depth, weight=weight, gamma=gamma, seed=3), data, trees)
        chosen_by = binary_auc(held_out.target_N == 1, booster.predict(held_out_data).astype(np.float64))
        score = binary_auc(test.target_N == 1, booster.predict(xgb.DMatrix(test.features_ND)).astype(np.float64))
        assert chosen_by is not None
        assert score is not None
        if best is None or chosen_by > best[0]:
            best = (chosen_by, score)
    fitted = choose_and_score(samples, test, setup, seed=3)
    assert fitted is not None
    assert (fitted.held_out_score, fitted.score) == best


def test_features_are_numbers_one_hot_and_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    train = pa.table({"x": [1.5, None, 3.5], "c": ["a", "b", None], "many": ["p", "q", "r"], "y": ["u", "v", "u"]})
    schema = infer_schema(train, config=SchemaConfig(kinds=dict.fromkeys(("c", "many", "y"), "categorical")))
    monkeypatch.setattr("difflm_evaluators.columns.features.MAX_ONE_HOT", 3)
    columns = read_columns(train, schema, "t")
    encoder = FeatureEncoder.fit(columns, leave_out="y")
    assert encoder.feature_types == ("q",) * 7
    assert encoder.matrix(columns)[:, 1:4].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    monkeypatch.setattr("difflm_evaluators.columns.features.MAX_ONE_HOT", 2)
    encoder = FeatureEncoder.fit(columns, leave_out="y")
    assert encoder.feature_types == ("q", "c", "c")
    other = pa.table({"x": [9.0], "c": ["z"], "many": ["r"], "y": ["u"]})
    row = encoder.matrix(read_columns(other, schema, "t"))[0]
    assert row[0] == 9.0
    assert np.isnan(row[1])
    assert row[2] == 2.0


@pytest.mark.usefixtures("quick_grid")
def test_good_rows_teach_and_shuffled_ones_do_not(
    train: pa.Table, test: pa.Table, schema: RecordSchema, make_table: Callable[..., pa.Table]
) -> None:
    good = _evaluate(make_table(600, 5, missing=True), train, test, schema).score("mle_auc")
    order = np.random.default_rng(0).permutation(train.num_rows)
    shuffled = train.set_column(6, "label", train.column("label").take(order))
    bad = _evaluate(shuffled, train, test, schema).score("mle_auc")
    assert good.value is not None
    assert bad.value is not None
    assert good.baseline is not None
    assert good.value > 0.85
    assert good.value == pytest.approx(good.baseline, abs=0.05)
    assert 0.3 < bad.value < 0.7
    assert good.standard_error is not None


@pytest.mark.usefixtures("quick_grid")
def test_the_same_seeds_give_the_same_score(train: pa.Table, test: pa.Table, schema: RecordSchema) -> None:
    assert _evaluate(train, train, test, schema) == _evaluate(train, train, test, schema)
    single = _evaluate(train, train, test, schema, UtilityConfig(seeds=(0,), threads=1)).score("mle_auc")
    assert single.standard_error is None


@pytest.mark.usefixtures("quick_grid")
def test_regression_and_its_published_transform() -> None:
    random = np.random.default_rng(0)
    x = random.random(300)
    table = pa.table({"x": x, "y": np.round(np.exp(3 * x) - 1, 3)})
    schema = infer_schema(table, target="y")
    assert schema.task == "regression"
    plain = _evaluate(table, table, table, schema).score("mle_rmse")
    logged = _evaluate(
        table, table, table, schema, UtilityConfig(seeds=(0,), threads=1, regression_transform="log_clip")
    )
    assert plain.value is not None
    assert logged.score("mle_rmse").value is not None
    assert logged.score("mle_rmse").value != plain.value
    spread = float(np.std(np.log(np.clip(np.exp(3 * x) - 1, 1, 20_000))))
    assert (logged.score("mle_rmse").value or 9) < spread / 3


@pytest.mark.usefixtures("quick_grid")
def test_a_lacking_class_is_named_and_one_class_alone_is_undefined() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=300)
    label = np.where(x > 0.5, "high", np.where(x < -0.5, "low", "middle"))
    train = pa.table({"x": x, "label": label.tolist()})
    schema = infer_schema(train, target="label")
    two = train.filter(pa.array(label != "middle"))
    evaluation = _evaluate(two, train, train, schema)
    assert evaluation.details["classes_lacking"] == ["middle"]
    assert evaluation.score("mle_auc").value is not None
    one = _evaluate(train.filter(pa.array(label == "low")), train, train, schema).score("mle_auc")
    assert one.value is None
    assert "synthetic table has fewer than two of the classes" in (one.undefined_because or "")


def test_what_cannot_be_scored_says_why(train: pa.Table, test: pa.Table, schema: RecordSchema) -> None:
    assert "no real test split" in (_evaluate(train, train, None, schema).scores[0].undefined_because or "")
    untargeted = infer_schema(train)
    assert "names no target" in (_evaluate(train, train, test, untargeted).scores[0].undefined_because or "")
    lonely = train.select(["label"])
    reason = _evaluate(lonely, lonely, lonely, infer_schema(lonely, target="label")).scores[0].undefined_because
    assert "no feature column" in (reason or "")
    dotted = test.set_column(6, "label", pa.array([f"{value}." for value in test.column("label").to_pylist()]))
    assert "real test split has fewer than two" in (
        _evaluate(train, train, dotted, schema).scores[0].undefined_because or ""
    )
    pair = pa.concat_tables(
        [train.filter(pa.compute.equal(train.column("label"), v)).slice(0, 1) for v in ("yes", "no")]
    )
    assert "one class only" in (_evaluate(pair, train, test, schema).scores[0].undefined_because or "")


def test_a_regression_target_that_is_no_number_is_refused(
    train: pa.Table, test: pa.Table, schema: RecordSchema
) -> None:
    wrong = schema.model_copy(update={"task": "regression"})
    with pytest.raises(DataError, match="target column 'label' holds category values"):
        _evaluate(train, train, test, wrong)


@pytest.mark.usefixtures("quick_grid")
def test_models_side_by_side_give_the_same_scores(train: pa.Table, test: pa.Table, schema: RecordSchema) -> None:
    alone = _evaluate(test, train, test, schema, UtilityConfig(seeds=(0, 1), threads=1))
    assert _evaluate(test, train, test, schema, UtilityConfig(seeds=(0, 1), threads=3)) == alone
