"""Live evaluation on the driver: what is handed over when, what gates decide, and what is written down."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from difflm.artifacts.dataset import EVALUATION_NAME, Dataset
from difflm.artifacts.storage import LocalStore
from difflm.errors import EvaluationError
from difflm.telemetry import read_events
from difflm_evaluators.base import Evaluation, Score
from difflm_evaluators.live.gates import STREAMED_SCORES, parse_gate
from difflm_evaluators.live.live import LiveConfig, Scored
from difflm_jobs.rows.live_evaluation import LiveEvaluation, LiveRequest

CONFIG = LiveConfig(min_rows=20)


class Actors:
    """Stands for the evaluator actors: everything is read at once, and the shape error is a function of the rows."""

    shape: Callable[[int], float]
    failing: str | None = None
    made: list[Actors]

    def __init__(self, dataset: Dataset, real: Path, config: LiveConfig, *, rows: int, on_restart: Any) -> None:
        self.parts: list[tuple[int, int]] = []
        self.failure: str | None = None
        self.left = 0
        self.made.append(self)
        on_restart("killed")

    def give(self, parts: Sequence[tuple[int, int]]) -> None:
        self.parts += parts

    def poll(self) -> Scored | None:
        self.failure = self.failing
        rows = sum(stop - start for start, stop in self.parts)
        return scored(type(self).shape(rows), rows) if rows and self.failure is None else None

    def finish(self, report: Callable[[int], None]) -> Scored | None:
        report(0)
        return self.poll()

    def close(self) -> None:
        pass


class Gauges:
    """Stands for Ray's gauges."""

    def __init__(self, job: str) -> None:
        pass

    def set(self, rows: int, scores: Mapping[str, float]) -> None:
        pass


def scored(shape: float, rows: int) -> Scored:
    score = Score(name="shape_error", title="", meaning="", value=shape, direction="lower")
    return Scored(rows=rows, evaluations=(Evaluation(name="marginals", scores=(score,)),))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    made = Dataset(store=LocalStore(tmp_path / "rows"))
    for start in (0, 10, 20):
        made.commit(start, start + 10, pa.table({"n": list(range(10))}), account={"rejections": {"privacy": 2}})
    made.give_up(30, 40, "its process died", account={})
    return made


@pytest.fixture
def follow(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[LiveEvaluation, list[str]]]:
    """A live evaluation with these gates, and the warnings it gives."""
    monkeypatch.setattr("difflm_evaluators.live.actors.EvaluatorActors", Actors)
    monkeypatch.setattr("difflm.runtime.metrics.ScoreGauges", Gauges)
    monkeypatch.setattr(Actors, "shape", staticmethod(lambda rows: 5.0), raising=False)
    monkeypatch.setattr(Actors, "made", [], raising=False)

    def make(*gates: str) -> tuple[LiveEvaluation, list[str]]:
        warnings: list[str] = []
        request = LiveRequest(
            real=tmp_path,
            gates=[parse_gate(gate, STREAMED_SCORES) for gate in gates],
            config=CONFIG,
            store=dataset.store,
            warn=warnings.append,
        )
        return LiveEvaluation(request=request, dataset=dataset, rows=40, job="abc"), warnings

    return make


def account(start: int, **facts: Any) -> dict[str, Any]:
    return {"start": start, "stop": start + 10, "rows": 10, **facts}


def events(dataset: Dataset, kind: str) -> list[dict[str, Any]]:
    found = read_events(Path(dataset.store.url) / "events.jsonl")
    return [event for event in found if event["kind"] == kind]


def written(dataset: Dataset) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(dataset.store.read(EVALUATION_NAME) or b"")
    return value


def test_parts_are_handed_over_in_order_and_the_final_scores_are_written(dataset: Dataset, follow: Any) -> None:
    live, warnings = follow()
    live.begin(dataset.entries()[:1])
    assert live.text() == ""
    live.take(account(20))
    assert Actors.made[0].parts == [(0, 10)]
    live.take({"start": 30, "stop": 40, "given_up": "its process died"})
    live.take(account(10))
    assert Actors.made[0].parts == [(0, 10), (10, 20), (20, 30)]
    assert live.text() == "; of 30: shape_error 5"
    said: list[str] = []
    live.end(dataset.entries(), said.append)
    assert said == ["evaluating, 0 parts are left"] * 2
    assert live.summary == {"rows": 30, "scores": {"shape_error": 5.0}, "gates": []}
    assert written(dataset)["evaluations"][0]["scores"][0]["value"] == 5.0
    assert [event["rows"] for event in events(dataset, "scores")] == [10, 10, 30, 30]
    assert [event["reason"] for event in events(dataset, "restarted")] == ["killed"]
    assert warnings == []


def test_parts_that_do_not_count_in_the_end_are_not_scored(dataset: Dataset, follow: Any) -> None:
    live, _ = follow()
    live.begin([])
    live.take({"start": 0, "stop": 5, "rows": 5})  # of a process that was thought dead; its shard is there as a whole
    live.end(dataset.entries(), lambda text: None)
    assert Actors.made[1].parts == [(0, 10), (10, 20), (20, 30)]
    assert live.summary["rows"] == 30


def test_a_gate_stops_the_job_once_there_are_rows_enough(dataset: Dataset, follow: Any) -> None:
    live, _ = follow("shape < 3")
    live.begin([])
    live.take(account(0))
    with pytest.raises(
        EvaluationError, match=r"gate 'shape < 3': shape_error is 5 after 20 rows; what is committed st"
    ):
        live.take(account(10))
    (event,) = events(dataset, "gate")
    assert (event["decision"], event["rows"], event["value"]) == ("stopped", 20, 5.0)
    assert written(dataset)["gates"][0]["decision"] == "stopped"


def test_a_gate_warns_when_it_fails_and_notes_when_it_holds_again(
    dataset: Dataset, follow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Actors, "shape", staticmethod(lambda rows: 1.0 if rows == 30 else 5.0))
    live, warnings = follow("warn: shape < 3", "drop: exact_copies == 0")
    live.begin([])
    for start in (0, 10, 20):
        live.take(account(start))
    live.end(dataset.entries(), lambda text: None)
    assert warnings == ["gate 'warn: shape < 3': shape_error is 5 after 20 rows"]
    decisions = [(found["decision"], found.get("rows")) for found in live.summary["gates"]]  # type: ignore[union-attr]
    assert decisions == [("warned", 20), ("passed", 30), ("dropped", None), ("passed", 30)]
    assert events(dataset, "gate")[2]["draws"] == 6


def test_rows_stay_when_the_evaluators_fail_but_no_gate_passes_unchecked(
    dataset: Dataset, follow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Actors, "failing", "out of memory")
    live, warnings = follow("warn: shape < 3")
    live.begin(dataset.entries())
    live.take(account(10))
    assert live.text() == "; not evaluated any more"
    live.end(dataset.entries(), lambda text: None)
    assert live.summary["undefined_because"] == "out of memory"
    assert warnings == [
        "the rows are whole, but their scores are undefined: out of memory",
        "gate 'warn: shape < 3': shape_error is undefined (it was not computed) after 40 rows",
    ]
    assert written(dataset)["undefined_because"] == "out of memory"
    live, _ = follow("shape < 3")
    live.begin(dataset.entries())
    with pytest.raises(EvaluationError, match=r"shape_error is undefined .*; all rows are there"):
        live.end(dataset.entries(), lambda text: None)
