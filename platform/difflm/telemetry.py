"""What a process measures about itself: wall clock, peak memory, and an append-only log of events."""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from difflm.regular_files import read_file

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"


def peak_rss_mib() -> float:
    """Return the largest resident memory of this process in MiB, since it started or since ``reset_peak_rss``.

    Children are not counted. Read from Linux's own high-water mark, elsewhere from ``getrusage``.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == "darwin" else 1024) / 2**20
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def reset_peak_rss() -> bool:
    """Let the high-water mark start again from the present memory; False where the system offers no way."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def host_facts() -> dict[str, JSON]:
    """Return the facts on machine and interpreter that figures depend on; nothing that identifies the user."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
    }


@dataclass(slots=True)
class Stopwatch:
    """Wall-clock time between entering and leaving a ``with`` block; ``seconds`` also works inside it."""

    _started: float | None = field(default=None, init=False)
    _stopped: float | None = field(default=None, init=False)

    def __enter__(self) -> Stopwatch:
        self._started, self._stopped = time.perf_counter(), None
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the block was entered, or the block's duration once it was left."""
        if self._started is None:
            return 0.0
        end = time.perf_counter() if self._stopped is None else self._stopped
        return end - self._started


_MAX_LEVELS = 200  # of a value from outside: what is deeper may be read, but not written again or looked through


def parse_json(content: str | bytes) -> Any:
    """Read the value of a JSON text that anybody may have written.

    Raises:
        ValueError: the text is no JSON or nested too deep to be used; nothing else is raised.
    """
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("nested too deep") from None
    level = [value]
    for _ in range(_MAX_LEVELS):
        parts = (part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list))
        level = [part for values in parts for part in values if isinstance(part, dict | list)]
        if not level:
            return value
    raise ValueError(f"nested too deep, more than {_MAX_LEVELS} levels")


def json_bytes(value: Any, *, indent: int | None = None) -> bytes:
    """Write a value as JSON in UTF-8; half a surrogate pair, which texts from outside may hold, as its escape.

    Raises:
        ValueError: the value holds NaN or an infinity.
    """
    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace")


def not_through_links(path: str, flags: int) -> int:
    """Open a file itself, for `open`: a link in its place, made by somebody else, may lead anywhere."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def append_event(path: Path, event: Mapping[str, JSON]) -> None:
    """Append one event as a line of JSON; the folder must be there, for a folder taken away is not to come back.

    The line goes out in a single write, so a reader or a killed process leaves at most the last line cut short.

    Raises:
        ValueError: the event holds NaN or an infinity.
        OSError: it cannot be written, for instance because the disk is full; the log is then as it was.
    """
    left = memoryview(json_bytes(event) + b"\n")
    with open(path, "ab", buffering=0, opener=not_through_links) as file:
        whole = file.seek(0, os.SEEK_END)
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            file.truncate(whole)
            raise


MAX_LOG: Final = 2**30


def read_events(path: Path) -> list[dict[str, JSON]]:
    """Read all complete events of a log, oldest first; a last line cut short by a killed process is left out.

    A log that does not exist has no events. Raises ValueError for a line that is no object in JSON.
    """
    if not path.exists():
        return []
    lines = read_file(path, most=MAX_LOG).split(b"\n")
    events = [parse_json(line) for line in lines[:-1] if line.strip()]
    if not all(isinstance(event, dict) for event in events):
        raise ValueError("not all lines are objects")
    return events


def truncate_events(path: Path, keep: Callable[[Mapping[str, JSON]], bool]) -> None:
    """Rewrite a log with only the events that ``keep`` accepts, atomically; used when work resumes before its end."""
    kept = [event for event in read_events(path) if keep(event)]
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)  # of a killed process, or a link of somebody else's
    with temporary.open("xb") as file:
        for event in kept:
            file.write(json_bytes(event) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
