"""The layout of report.json: whatever is written fits the published schema, what does not is named, never read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pytest

from difflm.errors import DataError
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema
from difflm_evaluators.columns.columns import read_columns
from difflm_evaluators.columns.row_keys import table_digest
from difflm_evaluators.evaluation import EvaluationConfig, RealSplits, evaluate_table
from difflm_evaluators.report.layout import SCHEMA_FILE, ReportContext, read_report, report_schema
from difflm_evaluators.report.report import write_report

LIGHT = EvaluationConfig(
    detection=None, fidelity=None, utility=None, privacy=None, membership=None, attacks=None, projection=None
)


@pytest.fixture(scope="module")
def path(train: pa.Table, test: pa.Table, schema: RecordSchema, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    report = evaluate_table(test, RealSplits(train=train, test=test), schema, LIGHT)
    write_report(report, folder, context=ReportContext(title="t", settings={"seed": 1}, timings={"prepare": 1.0}))
    return folder / "report.json"


def test_the_shipped_schema_is_the_one_of_the_models() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == report_schema()
    jsonschema.Draft202012Validator.check_schema(json.loads(report_schema()))


def test_reports_fit_the_schema_with_and_without_values(path: Path, tmp_path: Path) -> None:
    jsonschema.validate(json.loads(path.read_text(encoding="utf-8")), json.loads(report_schema()))
    constant = pa.table({"c": [1, 1, 1]})
    report = evaluate_table(constant, RealSplits(train=constant), infer_schema(constant), LIGHT)
    assert report.score("trend_error").value is None
    write_report(report, tmp_path, context=ReportContext(title="undefined"))
    jsonschema.validate(json.loads((tmp_path / "report.json").read_text()), json.loads(report_schema()))


def test_a_report_is_read_back_as_it_was_written(path: Path) -> None:
    report = read_report(path)
    written = json.loads(path.read_text(encoding="utf-8"))
    assert json.loads(report.model_dump_json()) == written
    assert report.rows.synthetic == 300
    assert list(report.details("marginals")) == ["columns"]
    assert report.details("membership") == {}


def _score(data: dict[str, Any]) -> dict[str, Any]:
    score: dict[str, Any] = data["evaluations"][1]["scores"][0]
    return score


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "text for a number": lambda data: _score(data).update(value="1"),
    "neither value nor reason": lambda data: _score(data).update(value=None),
    "both": lambda data: _score(data).update(undefined_because="why"),
    "unknown key": lambda data: data.update(more=1),
    "no title": lambda data: data.pop("title"),
    "negative rows": lambda data: data["rows"].update(train=-1),
    "another direction": lambda data: _score(data).update(direction="up"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_fit_is_refused_by_schema_and_reader(path: Path, tmp_path: Path, change: str) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    CHANGES[change](data)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, json.loads(report_schema()))
    (tmp_path / "report.json").write_text(json.dumps(data), encoding="utf-8")
    if change != "text for a number":  # pydantic reads "1" as 1
        with pytest.raises(DataError, match=r"report\.json: .*; evaluate the table again"):
            read_report(tmp_path / "report.json")


def test_other_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such report"):
        read_report(tmp_path / "none.json")
    for text, message in (
        ("{", "cannot be read as JSON"),
        ('{"schema_version": 1}', "layout 1"),
        ("[]", "layout None"),
    ):
        (tmp_path / "a.json").write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=message):
            read_report(tmp_path / "a.json")


def test_the_digest_of_a_table_is_that_of_its_rows_in_any_order(train: pa.Table, schema: RecordSchema) -> None:
    def digest(table: pa.Table) -> str:
        return table_digest(read_columns(table, schema, "real"), schema)

    order = np.random.default_rng(0).permutation(train.num_rows)
    assert digest(train.take(order)) == digest(train)
    assert digest(train.slice(1)) != digest(train)
    doubled = pa.concat_tables([train.slice(1), train.slice(1, 1)])
    assert digest(doubled) != digest(train)
