"""The published protocol on tables with known answers, and what it makes of bad ones."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from difflm.errors import ConfigError, DataError
from difflm_evaluators.protocol import DATASETS, ProtocolConfig, ProtocolResult, ProtocolSpec, evaluate_protocol
from difflm_evaluators.protocol.protocol import read_published
from difflm_evaluators.protocol.writing import figure_rows, notes, write_protocol

SPEC = ProtocolSpec(target="y", task="classification", categorical=("code", "city", "y"), numeric=("x", "z"))
LIGHT = ProtocolConfig(utility_seeds=(0,), threads=1)


def table(rows: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    x_N = random.normal(0, 1, rows).round(3)
    y_N = (x_N + random.normal(0, 1, rows) > 0).astype(int)
    return pa.table(
        {
            "x": [str(value) for value in x_N],
            "code": [str(value) for value in random.integers(0, 3, rows)],
            "z": [str(value) for value in random.integers(0, 1000, rows)],
            "city": random.choice(["Oslo", "Rome"], rows).tolist(),
            "y": [str(value) for value in y_N],
        }
    )


def replaced(given: pa.Table, name: str, values: list[str]) -> pa.Table:
    return given.set_column(given.column_names.index(name), name, pa.array(values))


TRAIN, TEST = table(300, 1), table(150, 2)


def scored(synthetic: pa.Table, spec: ProtocolSpec = SPEC) -> ProtocolResult:
    return evaluate_protocol(synthetic, TRAIN, TEST, spec, LIGHT)


def value(result: ProtocolResult, name: str) -> float:
    found = result.figure(name).score.value
    assert found is not None
    return found


@pytest.fixture(scope="module")
def copied() -> ProtocolResult:
    return scored(TRAIN)


def test_training_rows_in_the_synthetic_place_are_perfect_but_for_privacy(copied: ProtocolResult) -> None:
    assert value(copied, "shape_error") == pytest.approx(0, abs=1e-9)
    assert value(copied, "trend_error") == pytest.approx(0, abs=1e-9)
    assert value(copied, "c2st_logistic") == pytest.approx(0.5, abs=0.05)
    assert value(copied, "c2st_xgboost") == pytest.approx(0.5, abs=0.05)
    assert value(copied, "alpha_precision") == pytest.approx(100, abs=3)
    assert value(copied, "beta_recall") == pytest.approx(100, abs=3)
    assert value(copied, "dcr_share") > 0.65  # half of them are in the sample that is as large as the holdout
    assert value(copied, "mle_auc") == copied.figure("mle_auc").score.baseline


def test_every_figure_says_what_measured_it_and_has_a_baseline(copied: ProtocolResult) -> None:
    assert all(figure.measured_by for figure in copied.figures)
    for figure in copied.figures:
        assert figure.score.baseline is not None
        assert figure.score.baseline_label
    assert "XGBClassifier" in copied.figure("c2st_xgboost").measured_by
    assert "LogisticDetection" in copied.figure("c2st_logistic").measured_by
    assert copied.figure("dcr_share").score.baseline == pytest.approx(0.5, abs=0.2)
    assert copied.kinds == {"x": "numeric", "z": "numeric", "code": "category", "city": "category", "y": "category"}
    assert set(copied.versions) == {"sdmetrics", "xgboost", "scikit-learn"}


def test_the_same_seed_gives_the_same_figures(copied: ProtocolResult) -> None:
    np.random.seed(99)  # SDMetrics draws its folds from numpy's global generator
    before = np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    again = scored(TRAIN)
    assert [f.score for f in again.figures] == [f.score for f in copied.figures]
    assert np.random.get_state()[1].tolist() == before  # type: ignore[union-attr]


def test_a_shifted_column_is_caught() -> None:
    shifted = replaced(TRAIN, "x", [str(float(text) + 100) for text in TRAIN.column("x").to_pylist()])
    result = scored(shifted)
    assert value(result, "shape_error") == pytest.approx(100 / 5)  # one column of five is wholly elsewhere
    assert value(result, "c2st_xgboost") > 0.99
    assert value(result, "c2st_logistic") > 0.99
    assert result.figure("c2st_xgboost").score.baseline == pytest.approx(0.5, abs=0.06)


def test_one_extreme_number_moves_the_bins_of_the_published_trend_and_not_of_the_other() -> None:
    far = replaced(TRAIN, "x", ["1000", *TRAIN.column("x").to_pylist()[1:]])
    result = scored(far)
    assert value(result, "trend_error") > 20  # nearly all numbers are in one bin of that table's own range
    assert value(result, "trend_error_training_bins") < 10


def test_chance_is_what_training_rows_drawn_again_have(copied: ProtocolResult) -> None:
    chances = {figure.score.name: figure.chance for figure in copied.figures if figure.chance is not None}
    assert set(chances) == {"shape_error", "trend_error", "trend_error_training_bins"}
    again = np.random.default_rng(0).integers(0, TRAIN.num_rows, TRAIN.num_rows)
    drawn = scored(TRAIN.take(again))
    assert {name: value(drawn, name) for name in chances} == pytest.approx(chances)
    assert chances["shape_error"] > 0.5
    assert any(line.startswith("chance: ") for line in notes(copied))


def test_codes_are_scored_by_total_variation_and_not_as_numbers() -> None:
    real = replaced(TRAIN, "code", ["1", "3"] * 150)
    other = replaced(real, "code", ["2"] * 300)
    as_code = evaluate_protocol(other, real, replaced(TEST, "code", ["1", "3"] * 75), SPEC, LIGHT)
    number = ProtocolSpec(target="y", task="classification", categorical=("city", "y"), numeric=("x", "z", "code"))
    as_number = evaluate_protocol(other, real, replaced(TEST, "code", ["1", "3"] * 75), number, LIGHT)
    assert value(as_code, "shape_error") == pytest.approx(100 / 5)
    assert value(as_number, "shape_error") == pytest.approx(50 / 5)  # the Kolmogorov-Smirnov statistic is smaller


def test_whole_numbers_written_with_a_point_are_the_same_categories(copied: ProtocolResult) -> None:
    dotted = replaced(TRAIN, "code", [f"{text}.0" for text in TRAIN.column("code").to_pylist()])
    assert [f.score for f in scored(dotted).figures] == [f.score for f in copied.figures]


def test_an_unknown_category_leaves_detection_undefined_and_says_where() -> None:
    cities = TRAIN.column("city").to_pylist()
    cities[4] = "Wien"
    result = scored(replaced(TRAIN, "city", cities))
    for name in ("c2st_logistic", "c2st_xgboost"):
        score = result.figure(name).score
        assert score.value is None
        assert score.undefined_because is not None
        assert "column 'city' holds 'Wien' (record 5), which no training row has" in score.undefined_because
        assert score.baseline is not None
    assert value(result, "shape_error") == pytest.approx(100 / 300 / 5)


def test_an_unknown_category_of_the_held_out_rows_leaves_the_baseline_out() -> None:
    test = replaced(TEST, "city", ["Wien"] * 150)
    result = evaluate_protocol(TRAIN, TRAIN, test, SPEC, LIGHT)
    assert result.figure("c2st_xgboost").score.baseline is None
    assert any("baseline of C2ST, XGBoost undefined" in line for line in result.left_out)


def test_missing_columns_and_empty_tables_are_errors_naming_them() -> None:
    with pytest.raises(DataError, match=r"synthetic table has no column 'city'; did you mean 'cty'\?"):
        scored(TRAIN.rename_columns(["x", "code", "z", "cty", "y"]))
    with pytest.raises(DataError, match="real test table has no column 'z'"):
        evaluate_protocol(TRAIN, TRAIN, TEST.drop_columns(["z"]), SPEC, LIGHT)
    with pytest.raises(DataError, match="synthetic table has 0 rows"):
        scored(TRAIN.slice(0, 0))


def test_without_sdmetrics_the_error_has_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "sdmetrics"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sdmetrics", None)
    with pytest.raises(ConfigError, match=r"pip install 'difflm\[protocol\]'"):
        scored(TRAIN)


def test_printed_figures_stand_beside_the_same_table_and_measure_only(copied: ProtocolResult) -> None:
    published = read_published()
    assert set(published["figures"]) == set(DATASETS)
    for name, rows in published["figures"].items():
        assert {"shape_error", "c2st_xgboost", "beta_recall"} < set(rows)
        assert ("mle_rmse" in rows) == (name == "beijing")
        assert all(set(row) == set(published["methods"]) for row in rows.values())
    assert not any(figure.printed for figure in copied.figures)
    assert copied.source is None
    named = ProtocolSpec(**{**{f: getattr(SPEC, f) for f in SPEC.__slots__}, "name": "magic"})
    result = scored(TRAIN, named)
    assert {one.method: one.value for one in result.figure("c2st_xgboost").printed}["TabPC"] == 0.5699
    assert not result.figure("dcr_share").printed
    assert "another protocol" in (result.figure("dcr_share").unprinted or "")
    assert any("TabPC paper" in line for line in notes(result))
    assert figure_rows(result)[0] == ["score", "synthetic", "real data", "chance", "TabSyn", "TabDiff", "TabPC"]


def test_both_files_hold_figures_detectors_versions_and_kinds(copied: ProtocolResult, tmp_path: Path) -> None:
    write_protocol(copied, tmp_path / "out", about={"real tables": "made up"})
    told = json.loads((tmp_path / "out" / "protocol.json").read_bytes())
    assert told["figures"][0]["measured_by"] == "SDMetrics QualityReport, all rows, all pairs"
    assert told["config"] == {"seed": 0, "utility_seeds": [0], "threads": 1}
    assert told["kinds"]["code"] == "category"
    text = (tmp_path / "out" / "protocol.md").read_text(encoding="utf-8")
    assert "| Shape error % | 0.00 |" in text
    assert "real tables: made up" in text
