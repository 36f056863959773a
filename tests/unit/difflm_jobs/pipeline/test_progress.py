"""Progress: the bars of a terminal say what is left, also of slow steps, and come to rest."""

from __future__ import annotations

import io
from contextlib import nullcontext

import pytest
from rich.console import Console

from difflm_jobs.pipeline.progress import LineReporter, LiveReporter, reporting


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120)


def test_steps_that_are_minutes_apart_have_a_time_left() -> None:
    clock = Clock()
    with reporting(terminal(), clock) as reporter:
        assert isinstance(reporter, LiveReporter)
        with reporter.stage("train") as report:
            for step in (10, 20, 30):
                clock.now_s += 60
                report(step, 100, "a large model")
            (task,) = reporter.progress.tasks
            assert task.time_remaining == 7 * 60


def test_a_reused_stage_is_finished_at_once() -> None:
    clock = Clock()
    with reporting(terminal(), clock) as reporter:
        assert isinstance(reporter, LiveReporter)
        reporter.reused("prepare")
        clock.now_s += 60
        (task,) = reporter.progress.tasks
        assert task.finished
        assert task.finished_time == 0


def test_lines_count_the_time_left_from_where_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock)
    console = Console(file=io.StringIO(), width=120)
    with LineReporter(console).stage("train") as report:
        for step in (80, 10, 20):  # a worker died at 80, the checkpoint is older
            clock.now_s += 60
            report(step, 100, f"step {step}")
    printed = console.file.getvalue() if isinstance(console.file, io.StringIO) else ""
    assert "20 %, about 8 min 00 s left: step 20" in printed


def test_a_stage_that_fails_says_that_it_stopped() -> None:
    with reporting(terminal(), Clock()) as reporter:
        assert isinstance(reporter, LiveReporter)
        with pytest.raises(ValueError, match="broken"), reporter.stage("train"):
            raise ValueError("broken")
        (task,) = reporter.progress.tasks
        assert "stopped" in task.fields["text"]
        assert task.stop_time is not None


@pytest.mark.parametrize(("widgets", "kind"), [(object(), LiveReporter), (None, LineReporter)])
def test_a_notebook_gets_bars_where_it_has_widgets(
    widgets: object, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("difflm_jobs.pipeline.progress.find_spec", lambda name: widgets)
    monkeypatch.setattr("difflm_jobs.pipeline.progress.Progress", lambda *columns, **options: nullcontext())
    with reporting(Console(force_jupyter=True)) as reporter:
        assert isinstance(reporter, kind)
