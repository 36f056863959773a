"""The Python interface: frames of every library and files score alike, reports show and save themselves."""

import doctest
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import difflm_evaluators
from difflm.errors import ConfigError, DataError, EvaluationError, StorageError
from difflm.records.kinds.inference import infer_schema
from difflm_evaluators import Report, Score, api, compare, evaluate
from difflm_evaluators.report.layout import ReportContext, read_report

LIGHT = dict.fromkeys(("detection", "fidelity", "utility", "privacy", "membership", "projection"))
FRAMES: dict[str, Callable[[pa.Table, Path], object]] = {
    "pandas": lambda table, _: table.to_pandas(),
    "polars": lambda table, _: pl.from_arrow(table),
    "arrow": lambda table, _: table,
    "path": lambda table, folder: _written(table, folder / f"{table.num_rows}.parquet"),
    "text": lambda table, folder: str(_written(table, folder / f"{table.num_rows}.csv")),
}


def _written(table: pa.Table, path: Path) -> Path:
    if path.suffix == ".csv":
        table.to_pandas().to_csv(path, index=False)
    else:
        pq.write_table(table, path)
    return path


@pytest.fixture(scope="module")
def report(train: pa.Table, test: pa.Table) -> Report:
    return evaluate(test.slice(0, 200), train=train, test=test, target="label", config=LIGHT)


@pytest.mark.parametrize("kind", FRAMES)
def test_tables_of_every_kind_give_the_same_scores(
    kind: str, train: pa.Table, test: pa.Table, report: Report, tmp_path: Path
) -> None:
    given = [FRAMES[kind](table, tmp_path) for table in (test.slice(0, 200), train, test)]
    found = evaluate(given[0], train=given[1], test=given[2], target="label", config=LIGHT)
    assert {score.name: score.value for score in found.scores} == {score.name: score.value for score in report.scores}
    assert found.target == "label"


def test_libraries_may_be_mixed_and_the_index_of_pandas_is_no_column() -> None:
    real = pa.table({"a": [1, 2, 3, 4] * 20, "b": ["x", "y"] * 40})
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}, index=[7, 9])
    assert evaluate(frame, train=pl.from_arrow(real), config=LIGHT).rows["synthetic"] == 2


def test_a_label_that_is_a_number_is_a_target() -> None:
    frame = pd.DataFrame({0: range(40), 1: ["a", "b"] * 20})
    assert evaluate(frame, train=frame, target=1, config=LIGHT).target == "1"  # type: ignore[arg-type]


def test_the_schema_may_be_given(train: pa.Table, test: pa.Table) -> None:
    schema = infer_schema(train, target="label")
    assert evaluate(test, train=train, schema=schema, config=LIGHT).target == "label"
    with pytest.raises(ConfigError, match="target='age': the schema's target is 'label'"):
        evaluate(test, train=train, schema=schema, target="age", config=LIGHT)
    with pytest.raises(DataError, match="train: no column 'label', which the schema has"):
        evaluate(test, train=train.drop_columns(["label"]), schema=schema, config=LIGHT)


def test_what_cannot_be_scored_is_named(train: pa.Table, test: pa.Table, tmp_path: Path) -> None:
    for given, message in (
        (test.drop_columns(["age"]), "synthetic: no column 'age', which the training table has"),
        ([1, 2], "synthetic: a list is no table"),
        (None, "synthetic: None is no table; only test may be left out"),
        (tmp_path / "none.csv", r"none\.csv: no such file"),
        (
            test.set_column(0, "age", pa.array(["old"] * 300)),
            "synthetic: synthetic table: column 'age'|synthetic: .*age",
        ),
    ):
        with pytest.raises(DataError, match=message):
            evaluate(given, train=train, config=LIGHT)
    with pytest.raises(DataError, match="train: None is no table"):
        evaluate(test, train=None, config=LIGHT)
    with pytest.raises(DataError, match="train: no target column 'lable'; it has 'age'"):
        evaluate(test, train=train, target="lable", config=LIGHT)
    with pytest.raises(ConfigError, match=r"config: detectoin"):
        evaluate(test, train=train, config={"detectoin": None})
    with pytest.raises(ConfigError, match=r"config: seed|config: .*seed"):
        evaluate(test, train=train, config={"seed": np.float32(1.5)})
    with pytest.raises(ConfigError, match="give a EvaluationConfig or a mapping"):
        evaluate(test, train=train, config="light")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="give table, tools, code"):
        evaluate(test, train=train, kind="tabel")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="records of code have no target"):
        evaluate(test, train=train, target="age", kind="code")


def test_code_and_tools_are_scored_by_the_same_call(tmp_path: Path) -> None:
    code = pd.DataFrame({"code": ["import json\nprint(1)", "x = 1"] * 3})
    assert evaluate(code, train=code, kind="code").score("parses_share").value == 100
    (tmp_path / "one.py").write_text("x = 2\n")
    assert evaluate(tmp_path, train=code, kind="code").rows["synthetic"] == 1
    tool = dict.fromkeys(("category", "tool_name", "tool_description", "api_name", "api_description"), "a")
    tools = pl.DataFrame([{**tool, "parameters": "[]"}] * 2)
    assert evaluate(tools, train=tools, test=tools, kind="tools").rows["test"] == 2
    raw = tmp_path / "tools.jsonl"
    raw.write_text(
        json.dumps(
            {
                "category": "Weather",
                "tool_name": "Sky",
                "tool_description": "Forecasts",
                "api_list": [
                    {"name": "now", "description": "Weather now", "required_parameters": [], "optional_parameters": []}
                ],
            }
        )
    )
    assert evaluate(tools, train=raw, kind="tools").rows["train"] == 1
    with pytest.raises(DataError, match="train: no column 'parameters'; a table of tools has category"):
        evaluate(tools, train=tools.drop("parameters"), kind="tools")


def test_a_score_is_found_or_the_nearest_is_named(report: Report) -> None:
    assert isinstance(report.score("shape_error"), Score)
    with pytest.raises(
        EvaluationError, match=r"no score 'shape_eror'; did you mean 'shape_error'\? it has .*trend_error"
    ):
        report.score("shape_eror")
    with pytest.raises(EvaluationError, match="did you mean 'entropy_ratio'"):
        report.score("entropy")
    with pytest.raises(EvaluationError, match="no score 3; it has"):
        report.score(3)  # type: ignore[arg-type]


def test_the_worst_columns_and_pairs_say_what_differs(report: Report) -> None:
    errors = [column["error"] for column in report.worst_columns]
    assert errors == sorted(errors, reverse=True)
    assert {"name", "baseline", "text"} <= set(report.worst_columns[0])
    assert {"first", "second", "error", "text"} <= set(report.worst_pairs[0])


def test_a_report_shows_itself(report: Report, make_table: Callable[..., pa.Table]) -> None:
    text = repr(report)
    assert text.startswith("Report: Synthetic table, 200 rows\n")
    assert "(real test split)]" in text
    page = report._repr_html_()
    assert "<script" not in page
    assert "http" not in page
    for score in report.scores:
        assert score.name in text
        assert score.title in page
    odd = pd.DataFrame({"<b>": [1, 2, 3], "c": ["x", "y", "x"]})
    assert "<b>real" not in evaluate(odd, train=odd, config=LIGHT)._repr_html_()


def test_a_report_is_saved_as_one_file_or_all(report: Report, tmp_path: Path) -> None:
    assert report.save(tmp_path / "one.html") == tmp_path / "one.html"
    report.save(str(tmp_path / "one.json"))
    report.save(tmp_path / "new" / "one.md", context=ReportContext(title="Members"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "one.html", "one.json"]
    assert read_report(tmp_path / "one.json").title == "Synthetic table"
    markdown = (tmp_path / "new" / "one.md").read_text(encoding="utf-8")
    assert markdown.startswith("# Members\n")
    assert "pictures/" not in markdown
    report.save(tmp_path / "all")
    assert {"report.html", "report.json", "report.md", "pictures"} == {
        path.name for path in (tmp_path / "all").iterdir()
    }
    with pytest.raises(ConfigError, match=r"report\.pdf: no ending of a report; give one of \.html"):
        report.save(tmp_path / "report.pdf")
    with pytest.raises(StorageError):
        report.save(tmp_path / "one.html" / "below.html")


def test_reports_and_their_files_are_compared(report: Report, train: pa.Table, test: pa.Table, tmp_path: Path) -> None:
    copied = evaluate(train, train=train, test=test, target="label", config=LIGHT)
    copied.save(tmp_path / "copied")
    comparison = compare({"a": report, "b": tmp_path / "copied", "c": str(tmp_path / "copied" / "report.json")})
    shape = next(score for score in comparison.scores if score.name == "shape_error")
    assert shape.best == (1, 2)
    assert "shape_error" in repr(comparison)
    page = comparison._repr_html_()
    assert all(score.title in page for score in comparison.scores)
    assert "★" in page
    comparison.save(tmp_path / "c.html")
    comparison.save(tmp_path / "all")
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["compare.html", "compare.json", "compare.md"]
    assert (tmp_path / "c.html").read_text("utf-8") == (tmp_path / "all" / "compare.html").read_text("utf-8")
    assert json.loads((tmp_path / "all" / "compare.json").read_text("utf-8"))["runs"][1]["label"] == "b"
    with pytest.raises(ConfigError, match="no ending of a comparison"):
        comparison.save(tmp_path / "c.txt")
    with pytest.raises(DataError, match="1 report to compare"):
        compare({"a": report})
    for given in ([report, report], {1: report, 2: report}):
        with pytest.raises(ConfigError, match="reports: give a mapping of labels"):
            compare(given)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"reports\['b'\]: 5 is no path"):
        compare({"a": report, "b": 5})  # type: ignore[dict-item]


def test_the_package_imports_nothing_heavy_until_it_is_used() -> None:
    heavy = "{'numpy', 'torch', 'pyarrow', 'pandas', 'matplotlib', 'pydantic'}"
    code = f"import sys, difflm_evaluators; dir(difflm_evaluators); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert set(difflm_evaluators.__all__) <= set(dir(difflm_evaluators))
    with pytest.raises(AttributeError, match="has no attribute 'evaluat'; it has"):
        difflm_evaluators.evaluat  # noqa: B018


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(api).failed == 0
