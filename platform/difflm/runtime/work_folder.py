"""The work folder of a training job: who may write in it. The last driver that takes it over, and its workers only.

job.json         what the work is of
life-<number>/   all that workers write; one driver's own
    events.jsonl, checkpoints/, failure.json
    finished/    the outcome, renamed into place

A driver that dies leaves workers behind that live on for a while. So the next driver does not share a folder with
them: it renames theirs, at one stroke, to the next number. What they left is its own from then on, and whoever still
has the old name finds no folder under it: a worker then ends, and no checkpoint, event or outcome of it counts.
(Network file systems may know the old name for as long as they cache names, usually some seconds.)

Progress: the driver follows a job's event log while the workers write it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difflm.artifacts.atomic import remove_tree, storage_errors
from difflm.errors import TrainingError
from difflm.telemetry import read_events

_PREFIX = "life-"


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """The part of a work folder that belongs to one driver and its workers, and the names in it."""

    folder: Path

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def events(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def failure(self) -> Path:
        return self.folder / "failure.json"

    @property
    def finished(self) -> Path:
        return self.folder / "finished"

    @property
    def result(self) -> Path:
        """The last file of the outcome: it is there when training has ended."""
        return self.finished / "result.json"

    @property
    def lost(self) -> bool:
        """Whether another driver has taken it over."""
        return not self.folder.is_dir()

    @contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        """Watch over everything that a worker writes, within the block.

        Raises:
            TrainingError: another driver has taken the folder over; nothing was written that counts.
            StorageError: the disk is full or writing is not permitted.
        """
        self.check()
        try:
            with storage_errors(path):
                yield
        except FileNotFoundError:
            self.check()
            raise

    def check(self) -> None:
        """Raise TrainingError when another driver has taken the folder over."""
        if self.lost:
            raise TrainingError(
                f"{self.folder}: another call went on with this training and this one ends; wait for it"
            )


def take_over(work_dir: Path) -> WorkFolder:
    """Make a folder of this driver's own with all that an earlier one left, whose workers are locked out with it.

    Raises:
        StorageError: the folder cannot be written.
    """
    with storage_errors(work_dir):
        work_dir.mkdir(parents=True, exist_ok=True)
        *stale, newest = [0, *sorted(filter(None, map(_number, work_dir.glob(f"{_PREFIX}*"))))]
        own = WorkFolder(_life(work_dir, newest + 1))
        if newest:
            _life(work_dir, newest).rename(own.folder)
        own.checkpoints.mkdir(parents=True, exist_ok=True)
        for number in filter(None, stale):  # only a worker that was locked out can have made it again
            with suppress(OSError):
                remove_tree(_life(work_dir, number))
    return own


def _life(work_dir: Path, number: int) -> Path:
    return work_dir / f"{_PREFIX}{number:06d}"


def _number(life: Path) -> int:
    """Return a life's number; 0 for a folder that is none, such as somebody's copy."""
    number = life.name.removeprefix(_PREFIX)
    return int(number) if number.isdecimal() and len(number) < 20 else 0


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
