"""Progress on the terminal: one live bar per stage with its remaining time, or plain lines where there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from difflm_jobs.pipeline.stage import Report

LINE_EVERY_S = 15.0
SPEED_OVER_S = 900.0  # rich's own 30 s hold no two steps of a large model: no time left would ever be shown


class Reporter(Protocol):
    """Shows what a run is doing."""

    def stage(self, name: str) -> AbstractContextManager[Report]:
        """Accompany a stage that runs; the report it yields takes the stage's progress."""
        ...

    def reused(self, name: str) -> None:
        """Mention a stage whose artifact exists."""
        ...


Reporting = Callable[[], AbstractContextManager[Reporter]]
"""Starts to show what a run is doing, and ends it; once for every run."""


@dataclass(frozen=True, slots=True)
class LiveReporter:
    """Bars that are drawn over themselves, for a terminal."""

    progress: Progress

    @contextmanager
    def stage(self, name: str) -> Iterator[Report]:
        task = self.progress.add_task(name, total=None, text="starting")

        def report(done: float, total: float | None, text: str) -> None:
            self.progress.update(task, completed=done, total=total, text=escape(text))

        try:
            yield report
        except BaseException:
            self.progress.update(task, text="[red]stopped")
            self.progress.stop_task(task)
            raise
        total = self.progress.tasks[-1].total or 1
        self.progress.update(task, completed=total, total=total, text="done")
        self.progress.stop_task(task)

    def reused(self, name: str) -> None:
        task = self.progress.add_task(name, total=1, text="[dim]reused[/dim]")
        self.progress.update(task, completed=1)  # a task that is added complete goes on spinning


@dataclass(slots=True)
class LineReporter:
    """A line when a stage starts, every ``every_s`` seconds, and when it ends; for logs and pipes."""

    console: Console
    every_s: float = LINE_EVERY_S
    _last: float = field(default=0.0, init=False)

    @contextmanager
    def stage(self, name: str) -> Iterator[Report]:
        started = time.perf_counter()
        self._print(name, "started")
        self._last = started
        first: tuple[float, float] | None = None  # what an earlier run had done says nothing about the speed of this

        def report(done: float, total: float | None, text: str) -> None:
            nonlocal first
            now = time.perf_counter()
            if total and (first is None or done < first[0]):  # less than before: it goes on from a checkpoint
                first = (done, now)
            if now - self._last < self.every_s:
                return
            self._last = now
            if total and first:
                gained = done - first[0]
                left = f", about {_duration((now - first[1]) * (total - done) / gained)} left" if gained > 0 else ""
                self._print(name, f"{100 * done / total:.0f} %{left}: {text}")
            else:
                self._print(name, text)

        yield report
        self._print(name, f"done in {_duration(time.perf_counter() - started)}")

    def reused(self, name: str) -> None:
        self._print(name, "reused")

    def _print(self, name: str, text: str) -> None:
        self.console.print(f"{name:<18} {text}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def reporting(console: Console, clock: Callable[[], float] = time.monotonic) -> Iterator[Reporter]:
    """Draw live bars on a terminal or in a notebook, else print plain lines. `clock` gives the seconds of the bars.

    In a notebook rich draws with ipywidgets; where these are missing, lines are printed there, too.
    """
    notebook = console.is_jupyter and find_spec("ipywidgets") is not None
    if not (console.is_terminal or notebook):
        yield LineReporter(console)
        return
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<18}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(
        *columns, console=console, refresh_per_second=4, speed_estimate_period=SPEED_OVER_S, get_time=clock
    ) as progress:
        yield LiveReporter(progress)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s" if seconds < 10 else f"{rest} s"
