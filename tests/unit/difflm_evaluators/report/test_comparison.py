"""Comparing reports: the best is marked, sure differences are told from chance, other real rows are never tested."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from difflm.errors import DataError
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema
from difflm_evaluators.evaluation import EvaluationConfig, RealSplits, evaluate_table
from difflm_evaluators.privacy.privacy import PrivacyConfig
from difflm_evaluators.report.comparison import NO_DETAILS, OTHER_ROWS, OTHER_SETTINGS
from difflm_evaluators.report.comparison_report import Comparison, compare_reports, write_comparison
from difflm_evaluators.report.layout import ReportContext, ReportFile
from difflm_evaluators.report.report import json_text
from difflm_evaluators.scores.utility import UtilityConfig

CONFIG = EvaluationConfig(
    detection=None,
    fidelity=None,
    utility=UtilityConfig(seeds=(0,), threads=1),
    privacy=PrivacyConfig(threads=1),
    membership=None,
    projection=None,
)
LIGHT = EvaluationConfig(
    detection=None, fidelity=None, utility=None, privacy=None, membership=None, attacks=None, projection=None
)
Read = Callable[..., ReportFile]


def read(
    synthetic: pa.Table, train: pa.Table, test: pa.Table | None, schema: RecordSchema, config: EvaluationConfig = LIGHT
) -> ReportFile:
    report = evaluate_table(synthetic, RealSplits(train=train, test=test), schema, config)
    return ReportFile.model_validate_json(json_text(report, ReportContext(title="<t>")))


def shuffled(table: pa.Table) -> pa.Table:
    """Each column in an order of its own: the same shapes, no relations."""
    random = np.random.default_rng(0)
    return pa.table({name: table.column(name).take(random.permutation(len(table))) for name in table.column_names})


@pytest.fixture(scope="module")
def comparison(train: pa.Table, test: pa.Table, schema: RecordSchema) -> Comparison:
    copied = read(train, train, test, schema, CONFIG)
    without = read(train, train, test, schema, CONFIG.model_copy(update={"utility": None}))
    return compare_reports(
        {"shuffled": read(shuffled(train), train, test, schema, CONFIG), "copies|of": copied, "again": without}
    )


def test_each_score_stands_beside_the_others_with_the_best_marked(comparison: Comparison) -> None:
    scores = {score.name: score for score in comparison.scores}
    assert comparison.notes == ()
    assert scores["shape_error"].best == (0, 1, 2)
    assert scores["trend_error"].best == (1, 2)
    assert scores["exact_copy_share"].best == (0,)
    assert scores["mle_auc"].entries[2] is None


def test_sure_differences_are_told_from_chance(comparison: Comparison) -> None:
    scores = {score.name: score for score in comparison.scores}
    copies = scores["exact_copy_share"].differences
    assert [d.verdict for d in copies] == ["worse", "worse"]
    assert copies[0].method == "Fisher's exact test"
    # all six columns have better relations, but of six columns nothing is sure beside so many other scores
    trend = scores["trend_error"].differences[0]
    assert trend.p_value == pytest.approx(2 / 2**6)
    assert trend.verdict == "no difference shown"
    assert scores["shape_error"].differences[0].method == "equal in every column"
    assert scores["mle_auc"].differences[0].method == "undefined because of one seed; evaluate with two or more"
    assert scores["mle_auc"].differences[1].method == "undefined because one of the two has no such score"
    tested = [d for score in comparison.scores for d in score.differences if d.p_value is not None]
    assert all(d.p_holm is not None and d.p_holm >= d.p_value for d in tested)  # type: ignore[operator]


def test_other_real_rows_are_said_and_not_tested(train: pa.Table, test: pa.Table, schema: RecordSchema) -> None:
    first, other = read(test, train, test, schema), read(test, train.slice(1), test, schema)
    compared = compare_reports({"a": first, "b": other})
    assert len(compared.notes) == 1
    assert "real rows of b are not those of a" in compared.notes[0]
    assert {d.method for score in compared.scores for d in score.differences} == {OTHER_ROWS}
    assert not any(score.best for score in compared.scores)


def test_other_settings_are_not_tested(train: pa.Table, test: pa.Table, schema: RecordSchema) -> None:
    seeds = [PrivacyConfig(threads=2), PrivacyConfig(seed=1, threads=1)]
    reports = [read(test, train, test, schema, LIGHT.model_copy(update={"privacy": one})) for one in seeds]
    scores = {score.name: score for score in compare_reports({"a": reports[0], "b": reports[1]}).scores}
    assert scores["nndr"].differences[0].method == OTHER_SETTINGS
    assert scores["shape_error"].differences[0].method == "equal in every column"


def test_scores_without_their_details_stand_beside_each_other_untested(
    train: pa.Table, test: pa.Table, schema: RecordSchema
) -> None:
    whole = read(test, train, test, schema)
    bare = whole.model_copy(
        update={"evaluations": tuple(entry.model_copy(update={"details": {}}) for entry in whole.evaluations)}
    )
    for reports in ({"a": whole, "b": bare}, {"a": bare, "b": whole}):
        scores = {score.name: score for score in compare_reports(reports).scores}
        assert scores["shape_error"].best == (0, 1)
        assert scores["shape_error"].differences[0].method == NO_DETAILS


def test_other_tables_are_refused(train: pa.Table, test: pa.Table, schema: RecordSchema) -> None:
    first = read(test, train, None, schema)
    narrow = train.drop_columns(["city"])
    others = {
        r"column 'city' is in one only": read(narrow, narrow, None, infer_schema(narrow, target="label")),
        r"target is 'label' and 'city'": read(train, train, None, infer_schema(train, target="city")),
    }
    for message, other in others.items():
        with pytest.raises(DataError, match=message):
            compare_reports({"a": first, "b": other})
    with pytest.raises(DataError, match="1 report to compare"):
        compare_reports({"a": first})


def test_the_files_hold_every_score_and_nothing_from_outside(comparison: Comparison, tmp_path: Path) -> None:
    write_comparison(comparison, tmp_path)
    data = json.loads((tmp_path / "compare.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert [run["label"] for run in data["runs"]] == ["shuffled", "copies|of", "again"]
    assert len(data["scores"]) == len(comparison.scores)
    html = (tmp_path / "compare.html").read_text(encoding="utf-8")
    markdown = (tmp_path / "compare.md").read_text(encoding="utf-8")
    assert "copies\\|of" in markdown
    assert "&lt;t&gt;" in html
    assert not re.search(r"<script|<link|src=|https?:", html)
    for score in comparison.scores:
        assert score.title in html
        assert score.title in markdown
    assert '<div class="verdict worse">worse (p ' in html
