"""Progress: the driver follows a job's event log while the workers write it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from difflm.telemetry import read_events

Progress = Callable[[int, int, Mapping[str, float]], None]
"""Called with (steps completed, steps at most, metrics of the last logged step among them "loss")."""

_INTERVAL_S = 0.5


@contextmanager
def following(events: Path, progress: Progress | None) -> Iterator[None]:
    """Call `progress` about twice a second, whenever a training step was logged, and once more at the end.

    What an earlier run logged is none of it: steps behind its last checkpoint are trained again.
    """
    if progress is None:
        yield
        return
    done = threading.Event()
    thread = threading.Thread(
        target=_follow, args=(events, progress, done, _stamp(events)), name="progress", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _follow(events: Path, progress: Progress, done: threading.Event, seen: tuple[int, int] | None) -> None:
    while True:
        last_round = done.wait(_INTERVAL_S)
        stamp = _stamp(events)
        if stamp is not None and stamp != seen:
            seen = stamp
            trained: list[dict[str, Any]] = [event for event in read_events(events) if event.get("kind") == "train"]
            if trained:
                last = trained[-1]
                progress(int(last["step"]), int(last["total"]), {"loss": last["loss"], **last["metrics"]})
        if last_round:
            return


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_size, facts.st_mtime_ns
