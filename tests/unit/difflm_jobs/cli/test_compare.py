"""`difflm compare` from outside the evaluators: which report is meant, what the runs are called, one-line errors."""

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from difflm.errors import ArtifactError, ConfigError
from difflm.records.kinds.inference import infer_schema
from difflm_evaluators.evaluation import EvaluationConfig, RealSplits, evaluate_table
from difflm_evaluators.report.layout import ReportContext, report_schema
from difflm_evaluators.report.report import write_report
from difflm_jobs.cli.compare import distinct_labels, find_report
from difflm_jobs.cli.main import main
from difflm_jobs.pipeline.runlog import RunRecord, StageRecord

LIGHT = EvaluationConfig(
    detection=None, fidelity=None, utility=None, privacy=None, membership=None, attacks=None, projection=None
)


def evaluated(folder: Path, numbers: list[int]) -> Path:
    """A report of a one-column table in `folder`."""
    real = pa.table({"n": [1, 2, 3, 4], "[c]": ["a", "b", "a", "b"]})
    synthetic = pa.table({"n": numbers, "[c]": ["a", "b", "a", "b"]})
    report = evaluate_table(synthetic, RealSplits(train=real), infer_schema(real), LIGHT)
    write_report(report, folder, context=ReportContext(title=folder.name))
    return folder


def run_folder(runs: Path, name: str) -> Path:
    """An experiment whose last run made nothing, and the one before a report."""
    folder = runs / name
    evaluated(folder / "artifacts" / "report-1", [1, 2, 3, 3])
    for stages in (("evaluate", "report-1"), ("prepare", "table-1")):
        stage = StageRecord(
            stage=stages[0], status="ran", seconds=1, compute_seconds=1, peak_rss_mib={}, artifact=stages[1]
        )
        RunRecord(started="now", wall_seconds=1.0, stages=(stage,)).append(folder)
    return folder


def test_a_run_a_folder_and_a_file_lead_to_a_report(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "runs", "one")
    report = folder / "artifacts" / "report-1" / "report.json"
    for given in ("one", str(folder), str(report), str(report.parent)):
        assert find_report(given, tmp_path / "runs") == report
    report.unlink()
    with pytest.raises(ArtifactError, match="no run of it wrote a report"):
        find_report("one", tmp_path / "runs")
    with pytest.raises(ConfigError, match="none: no such run"):
        find_report("none", tmp_path / "runs")


def test_labels_are_short_and_distinct() -> None:
    assert distinct_labels(["runs/a", "b/report.json"]) == ["a", "b"]
    assert distinct_labels(["x/a", "y/a"]) == ["x/a", "y/a"]
    assert distinct_labels(["a", "a"]) == ["a", "a (2)"]


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    monkeypatch.setattr(sys, "argv", ["difflm", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0), capsys.readouterr()


def test_the_verb_prints_a_table_and_writes_three_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, other = (
        str(evaluated(tmp_path / name, numbers)) for name, numbers in (("a", [1, 2, 3, 4]), ("[b]", [1] * 4))
    )
    code, printed = call(monkeypatch, capsys, "compare", first, other, "--out", str(tmp_path / "out"))
    assert code == 0, printed.err
    assert "[b]" in printed.out
    assert "0.00 % ★" in printed.out
    assert "only 1 column differs" in " ".join(printed.out.split())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["compare.html", "compare.json", "compare.md"]


def test_bad_input_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(evaluated(tmp_path / "a", [1, 2, 3, 4]))
    (tmp_path / "old.json").write_text('{"schema_version": 1}', encoding="utf-8")
    cases = {
        (folder,): "compare: 1 run given; give two or more",
        (folder, "nowhere"): "nowhere: no such run",
        (folder, str(tmp_path / "old.json")): "report of layout 1",
    }
    for arguments, message in cases.items():
        code, printed = call(monkeypatch, capsys, "compare", *arguments)
        assert code == 2
        assert printed.err.startswith("error: ")
        assert message in printed.err
        assert len(printed.err.splitlines()) == 1


def test_the_schema_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = call(monkeypatch, capsys, "report-schema")
    assert code == 0
    assert json.loads(printed.out) == json.loads(report_schema())
