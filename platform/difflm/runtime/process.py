"""This process beside others: its signal handlers, errors that come from elsewhere, and the processors it may use."""

from __future__ import annotations

import math
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from difflm import errors
from difflm.errors import DiffLMError


@contextmanager
def handler_kept(number: signal.Signals) -> Iterator[None]:
    """Put back the handler that a signal had before, unless this is not the main thread, where Ray sets none either."""
    handler = signal.getsignal(number)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(number, handler)


_LINE = b"Set ray log level from environment variable"


@contextmanager
def without_log_level_line() -> Iterator[None]:
    """Hold back what is written to descriptor 2 within, and write it afterwards without that line.

    RAY_BACKEND_LOG_LEVEL, which keeps all other such lines away, makes Ray's C++ core print this one before it has a
    log file. It goes to the descriptor itself, so replacing `sys.stderr` would not catch it.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            for line in held:
                if _LINE not in line:
                    os.write(2, line)


def error_class(name: str) -> type[DiffLMError] | None:
    """Return the class of that name in `difflm.errors`; None for errors that nobody raised on purpose."""
    found = getattr(errors, name, None)
    return found if isinstance(found, type) and issubclass(found, DiffLMError) else None


def last_line(error: BaseException, *, limit: int = 300) -> str:
    """Return the last line of a message, which in a remote traceback is the one that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:limit] if lines else type(error).__name__


def usable_processors(root: Path = Path("/")) -> int:
    """Count the processors that this process may use.

    These are those of its affinity mask, and no more than its control groups' quotas give it time on, rounded up.
    `root` is where /proc and /sys are.
    """
    processors = len(os.sched_getaffinity(0))
    for quota in _quotas(root):
        processors = min(processors, max(1, math.ceil(quota)))
    return processors


def _quotas(root: Path) -> Iterator[float]:
    """List the processors' worth of time of the control group (version 2) of this process and of every one above it."""
    with suppress(OSError, ValueError):
        groups = (root / "proc/self/cgroup").read_text().splitlines()
        own = next((line.removeprefix("0::/") for line in groups if line.startswith("0::/")), "")
        top = root / "sys/fs/cgroup"
        for folder in (top / own, *(top / own).parents):
            with suppress(OSError):
                time_us, _, period_us = (folder / "cpu.max").read_text().partition(" ")
                if time_us != "max":
                    yield int(time_us) / int(period_us)
            if folder == top:
                return
