"""Runs are remembered with what they cost."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from difflm.errors import ArtifactError
from difflm_jobs.cli.summary import overhead_line, score_table, stage_table
from difflm_jobs.pipeline.runlog import RunRecord, StageRecord, read_runs


def stage(name: str, status: str, seconds: float, compute: float) -> StageRecord:
    return StageRecord.model_validate(
        {
            "stage": name,
            "status": status,
            "seconds": seconds,
            "compute_seconds": compute,
            "peak_rss_mib": {"driver": 100.0, "worker 0": 900.0},
            "artifact": f"{name}-0123456789ab",
        }
    )


RUN = RunRecord(
    started="2025-01-01T00:00:00+00:00",
    wall_seconds=30.0,
    stages=(stage("read", "reused", 0.0, 0.0), stage("train", "ran", 25.0, 20.0)),
)


def text(renderable: object) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_overhead_is_wall_over_computing_time() -> None:
    assert RUN.overhead == 1.5
    assert "overhead 1.50" in overhead_line(RUN)


def test_nothing_ran_has_no_overhead() -> None:
    run = RUN.model_copy(update={"stages": RUN.stages[:1]})
    assert run.overhead is None
    assert overhead_line(run) == "30.0 s, nothing had to run."


def test_runs_are_read_back(tmp_path: Path) -> None:
    RUN.append(tmp_path)
    RUN.model_copy(update={"error": "TrainingError: no"}).append(tmp_path)
    assert read_runs(tmp_path) == [RUN, RUN.model_copy(update={"error": "TrainingError: no"})]


def test_the_stage_table_shows_the_largest_process() -> None:
    shown = text(stage_table(RUN.stages))
    assert "900" in shown
    assert "reused" in shown
    assert "train-0123456789ab" in shown


def test_the_score_table_has_units_what_is_best_and_why_a_score_is_undefined() -> None:
    rho = {
        "title": "Shape error",
        "value": 1.25,
        "standard_error": 0.01,
        "baseline": 0.6,
        "direction": "lower",
        "ideal": 0,
        "unit": "%",
    }
    distance = {"title": "Distance", "value": 4.1753, "baseline": 2.5, "direction": "target", "ideal": 2.5, "unit": ""}
    mle = {"title": "Utility", "value": None, "undefined_because": "no target", "direction": "higher"}
    shown = text(score_table([rho, distance, mle]))
    cells = {
        row[0]: row[1:] for line in shown.splitlines() if len(row := [part.strip() for part in line.split("│")[1:-1]])
    }
    assert cells["Shape error"] == ["1.25 % ± 0.01", "0.60 %", "0 %"]
    assert cells["Distance"] == ["4.175", "2.500", "real data's"]
    assert cells["Utility"] == ["undefined: no target", "-", "higher"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[" * 5000, r"runs\.jsonl: a line is no JSON"),
        ("{}", r"runs\.jsonl: started: Field required"),
        ('{"started": "x", "wall_seconds": 1, "stages": [5]}', r"runs\.jsonl: stages\.0: "),
    ],
)
def test_a_line_that_is_no_run_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "runs.jsonl").write_text(line + "\n")
    with pytest.raises(ArtifactError, match=said):
        read_runs(tmp_path)
