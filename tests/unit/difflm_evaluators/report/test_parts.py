"""What the report shows besides scores: associations, the map of rows, nearest rows, privacy in words, a judge."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from difflm.errors import DataError
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema
from difflm_evaluators.base import Evaluation, Score
from difflm_evaluators.columns.columns import read_columns
from difflm_evaluators.evaluation import EvaluationConfig, RealSplits, evaluate_table
from difflm_evaluators.judge.report import read_judgement
from difflm_evaluators.privacy.membership import curve_points
from difflm_evaluators.privacy.privacy import PrivacyConfig
from difflm_evaluators.report.html import published_table
from difflm_evaluators.report.layout import PublishedEntry, ReportContext
from difflm_evaluators.report.privacy import privacy_findings
from difflm_evaluators.report.report import Report, write_report
from difflm_evaluators.scores.breakdown import cramers_v, evaluate_associations
from difflm_evaluators.scores.projection import Latents, ProjectionConfig, evaluate_projection, project

LIGHT = EvaluationConfig(
    detection=None, fidelity=None, utility=None, privacy=None, membership=None, attacks=None, projection=None
)


def test_cramers_v_by_hand() -> None:
    # cells 30, 10 / 10, 30: chi^2 / N = (2 * 30^2 + 2 * 10^2) / 40^2 - 1 = 1/4, so V is 1/2
    first = np.repeat([0, 0, 1, 1], [30, 10, 10, 30])
    second = np.repeat([0, 1, 0, 1], [30, 10, 10, 30])
    assert cramers_v(first, second) == pytest.approx(0.5)
    assert cramers_v(first, 7 - first) == pytest.approx(1.0)
    assert cramers_v(first, np.zeros(80, dtype=np.int64)) is None


def test_associations_of_numbers_and_categories() -> None:
    table = pa.table({"a": [1, 2, 3, 4], "b": [8, 6, 4, 2], "c": ["x", "x", "y", "y"], "k": [1, 1, 1, 1]})
    schema = infer_schema(table)
    columns = read_columns(table, schema, "real")
    details = evaluate_associations(columns, columns).details
    places = {name: place for place, name in enumerate(details["columns"])}  # type: ignore[arg-type]
    real = np.array(details["real"], dtype=float)
    assert real[places["a"], places["b"]] == -1
    assert real[places["a"], places["c"]] == 1
    assert np.isnan(real[places["a"], places["k"]])
    assert details["real"] == details["synthetic"]


def test_separate_heaps_stay_separate_on_the_map() -> None:
    heaps_ND = np.concatenate([np.random.default_rng(0).normal(place, 0.1, (40, 5)) for place in (0, 10)])
    plane_N2 = project(heaps_ND, ProjectionConfig(perplexity=10))
    assert plane_N2.shape == (80, 2)
    first, second = plane_N2[:40], plane_N2[40:]
    apart = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
    assert apart > 2 * max(first.std(), second.std())
    assert project(np.ones((12, 3)), ProjectionConfig()).shape == (12, 2)


def test_the_map_takes_latents_where_there_are_some(train: pa.Table, test: pa.Table, schema: RecordSchema) -> None:
    columns = [read_columns(table, schema, "t") for table in (test, train)]
    config = ProjectionConfig(max_points=40)
    rows = evaluate_projection(columns[0], columns[1], "label", None, config)
    assert rows.details["space"] == "rows"
    assert rows.details["groups"] == ["no", "yes"] or rows.details["groups"] == ["yes", "no"]
    random = np.random.default_rng(0)
    latents = Latents(
        real_rows_M=np.array([3, 5, *range(100, 130)]),
        real_MZ=random.normal(size=(32, 4)).astype(np.float32),
        synthetic_rows_M=np.arange(15),
        synthetic_MZ=random.normal(size=(15, 4)).astype(np.float32),
    )
    mapped = evaluate_projection(columns[0], columns[1], "age", latents, config)
    assert mapped.details["space"] == "latents"
    assert mapped.details["dimensions"] == 4
    assert len(mapped.details["real"]) == len(mapped.details["synthetic"]) == 15  # type: ignore[arg-type]
    assert len(mapped.details["groups"]) == 3  # type: ignore[arg-type]
    few = evaluate_projection(columns[0], read_columns(train.slice(0, 5), schema, "t"), None, None, config)
    assert few.details == {}


def test_nearest_rows_are_shown_on_request_only(
    train: pa.Table, test: pa.Table, schema: RecordSchema, tmp_path: Path
) -> None:
    place = train.column_names.index("age")
    older = train.slice(7, 1).set_column(place, "age", [[train.column("age")[7].as_py() + 1]])
    near = pa.concat_tables([test, train.slice(9, 1), older])
    shown = LIGHT.model_copy(update={"privacy": PrivacyConfig(threads=1, show_nearest=True)})
    report = evaluate_table(near, RealSplits(train=train, test=test), schema, shown)
    details: Any = report.evaluation("nearest").details  # type: ignore[union-attr]
    assert len(details["pairs"]) == 5
    distances = [pair["distance"] for pair in details["pairs"]]
    assert distances == sorted(distances)
    assert distances[0] > 0  # the copy is counted elsewhere
    years = train.column("age").to_pylist()
    (pair,) = (pair for pair in details["pairs"] if train.column("note")[7].as_py() in pair["synthetic"])
    assert pair["distance"] == pytest.approx(1 / (max(years) - min(years)), rel=1e-5)
    differing = [
        name
        for name, *cells in zip(details["columns"], pair["synthetic"], pair["training"], strict=True)
        if cells[0] != cells[1]
    ]
    assert differing == ["age"]
    notes = train.column("note")[7].as_py()
    write_report(report, tmp_path / "shown", context=ReportContext(title="t"))
    assert "treat this report like the training data" in (tmp_path / "shown" / "report.html").read_text("utf-8")
    hidden = shown.model_copy(update={"privacy": PrivacyConfig(threads=1)})
    report = evaluate_table(near, RealSplits(train=train, test=test), schema, hidden)
    write_report(report, tmp_path / "hidden", context=ReportContext(title="t"))
    for path in (tmp_path / "hidden").glob("report.*"):
        assert notes not in path.read_text(encoding="utf-8")


def statuses(report: Report) -> dict[str, str]:
    return {finding.title: finding.status for finding in privacy_findings(report.to_file())}


def test_privacy_in_words_tells_copies_from_new_rows(
    train: pa.Table, test: pa.Table, schema: RecordSchema, make_table: Callable[..., pa.Table]
) -> None:
    config = LIGHT.model_copy(update={"privacy": PrivacyConfig(threads=1)})
    splits = RealSplits(train=train, test=test)
    fresh = statuses(evaluate_table(make_table(400, 5, missing=True), splits, schema, config))
    assert set(fresh.values()) == {"fine"}
    copied = statuses(evaluate_table(train, splits, schema, config))
    assert copied["Exact copies"] == copied["Near copies"] == "warning"
    assert copied["Nearer to training than to unseen rows"] == "warning"
    alone = statuses(evaluate_table(train, RealSplits(train=train), schema, config))
    assert alone["Exact copies"] == "look"
    assert alone["Nearer to training than to unseen rows"] == "unknown"
    assert privacy_findings(evaluate_table(train, splits, schema, LIGHT).to_file()) == []


def _report(scores: tuple[Score, ...]) -> Report:
    return Report(
        evaluations=(Evaluation(name="membership", scores=scores),),
        rows=dict.fromkeys(("train", "validation", "test", "synthetic"), 0),
        real={"train": "digest", "validation": None, "test": None},
        columns={},
        target=None,
        task=None,
        config={},
        seconds={},
    )


@pytest.mark.parametrize(
    ("low", "warning", "status"),
    [(0.49, None, "fine"), (0.51, None, "fine"), (0.53, None, "look"), (0.6, "w", "warning")],
)
def test_an_attack_reads_by_its_interval(low: float, warning: str | None, status: str) -> None:
    score = Score(
        name="mia_auc",
        title="t",
        meaning="m",
        value=0.62,
        direction="target",
        interval=(low, 0.7),
        warning=warning,
    )
    assert statuses(_report((score,))) == {"Membership attack": status}


@pytest.mark.parametrize(("low", "status"), [(0.0, "fine"), (0.05, "look"), (0.2, "warning")])
def test_a_risk_reads_by_its_interval_beside_its_control(low: float, status: str) -> None:
    score = Score(
        name="linkability", title="t", meaning="m", value=0.3, direction="lower", interval=(low, 0.4), bounds=(0.0, 1.0)
    )
    details = {
        "linkability": {"attack": 0.31, "control": 0.01},
        "worst": {"column": "age", "risk": 0.3, "interval": [low, 0.5]},
    }
    report = replace(_report(()), evaluations=(Evaluation(name="attacks", scores=(score,), details=details),))
    found = {finding.title: finding for finding in privacy_findings(report.to_file())}
    assert found["Linkability"].status == status
    assert "joins them by the synthetic rows in 31.0 % of training rows and in 1.0 % of" in found["Linkability"].text
    assert ("Attribute inference, one column" in found) == (status != "fine")
    if status != "fine":
        assert "Most is told of 'age'" in found["Attribute inference, one column"].text


def test_published_figures_become_a_table_with_their_sources() -> None:
    score = Score(name="shape_error", title="Shape", meaning="m", value=1.5, direction="lower", unit="%")
    rows = [("A", "shape_error", 2.0, "one"), ("B", "shape_error", 3.0, "two"), ("A", "mle_auc", 0.9, "two")]
    published = [PublishedEntry(method=m, score=s, value=v, source=where) for m, s, v, where in rows]
    table = published_table(_report((score,)).to_file(), published)
    assert table is not None
    assert table.titles == ("Shape", "mle_auc")
    assert table.rows == (
        ("this table", (("1.50 %", ()), ("–", ()))),
        ("A", (("2.00 %", (1,)), ("0.900", (2,)))),
        ("B", (("3.00 %", (2,)), ("–", ()))),
    )
    assert table.sources == ("one", "two")
    assert published_table(_report((score,)).to_file(), []) is None


def test_roc_points_of_a_perfect_and_of_a_blind_ranking() -> None:
    perfect = curve_points(np.array([3.0, 4.0]), np.array([1.0, 2.0]), points=3)
    assert perfect == [[0.0, 1.0], [0.5, 1.0], [1.0, 1.0]]
    blind = curve_points(np.ones(3), np.ones(3), points=3)
    assert blind == [[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]


def test_decimals_that_nobody_prints_tell_nothing_apart() -> None:
    numbers = np.round(np.random.default_rng(0).normal(0, 1, 400), 2)
    real = pa.table({"x": numbers})
    schema = infer_schema(real)
    noisy = pa.table({"x": numbers + 0.004 * (-1.0) ** np.arange(400)})  # rounds to the same hundredths
    config = LIGHT.model_copy(update={"privacy": PrivacyConfig(threads=1)})
    fine = evaluate_table(noisy, RealSplits(train=real, test=real), schema, config)
    coarse = evaluate_table(real, RealSplits(train=noisy, test=noisy), schema, config)
    for report in (fine, coarse):
        assert report.score("shape_error").value == 0
        assert report.score("dcr_median").value == 0
        assert report.score("exact_copy_share").value == 100
    # but rows that the schema could not print are still said
    assert fine.score("conforming_share").value == 0
    assert math.isclose(coarse.score("conforming_share").baseline or 0, 100)


def test_a_judges_report_is_read_or_named(tmp_path: Path) -> None:
    score = {
        "name": "s",
        "title": "S",
        "meaning": "m",
        "value": 1.0,
        "direction": "higher",
        "unit": "",
        "bounds": [0, 10],
        "ideal": None,
        "standard_error": None,
        "interval": None,
        "baseline": None,
        "baseline_label": None,
        "undefined_because": None,
        "warning": None,
    }
    data = {
        "title": "t",
        "settings": {"model": "m"},
        "complete": True,
        "account": {"questions": 2, "answered": 2},
        "evaluation": {"name": "rubric", "scores": [score]},
    }
    with pytest.raises(DataError, match="no such file"):
        read_judgement(tmp_path)
    (tmp_path / "judge.json").write_text(json.dumps(data), encoding="utf-8")
    summary = read_judgement(tmp_path)
    assert (summary.model, summary.protocol, summary.scores[0].value) == ("m", "rubric", 1.0)
    del data["account"]
    (tmp_path / "judge.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(DataError, match="is no judge's report"):
        read_judgement(tmp_path)
