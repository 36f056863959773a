"""A command within a time limit, in a process group of its own that is gone afterwards, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from difflm.telemetry import Stopwatch

_LOOK_EVERY_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended: its exit status, None where it was killed for time; the memory of all its processes."""

    status: int | None
    seconds: float
    peak_mib: float


def run_limited(
    command: Sequence[str], *, seconds: float, log: Path, environment: Mapping[str, str], folder: Path
) -> Ended:
    """Run a command in `folder`, what it prints going to `log`; kill its whole process group after `seconds`."""
    peak, late = 0.0, False
    with log.open("wb") as out, Stopwatch() as watch:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
        try:
            while not late:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=min(_LOOK_EVERY_S, max(0.01, seconds - watch.seconds)))
                    break
                peak = max(peak, _memory_mib(process.pid))
                late = watch.seconds >= seconds
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return Ended(status=None if late else process.returncode, seconds=watch.seconds, peak_mib=peak)


def _memory_mib(pid: int) -> float:
    """Add up the resident memory of a process and all below it, in MiB."""
    import psutil

    total = 0
    with suppress(psutil.Error):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return total / 2**20
