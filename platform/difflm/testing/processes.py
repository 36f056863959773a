"""Processes: start, await, kill and count real processes, for tests of what survives a SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")

_POLL_S = 0.05


def wait_until(
    condition: Callable[[], T], *, what: str, timeout_s: float, alive: Callable[[], bool] | None = None
) -> T:
    """Poll `condition` and return its first truthy value.

    AssertionError names `what` at the deadline or when `alive` turns false.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if alive is not None and not alive():
            raise AssertionError(f"the process ended while waiting for {what}")
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(_POLL_S)


def kill_pid(pid: int) -> None:
    """Kill one process (SIGKILL) and return when it is gone or an unreaped zombie."""
    try:
        process = psutil.Process(pid)
        process.kill()
    except psutil.NoSuchProcess:
        return

    def gone() -> bool:
        try:
            return bool(process.status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True

    wait_until(gone, what=f"the end of process {pid}", timeout_s=30)


def pids_by_command(*fragments: str) -> list[int]:
    """Return running processes whose command line or title has all fragments (Ray's actors: `ray::Class.method`)."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        if process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        command = " ".join(process.info["cmdline"] or [])
        if all(fragment in command for fragment in fragments) and process.info["pid"] != os.getpid():
            found.append(int(process.info["pid"]))
    return found


def assert_no_orphans(marker: str, *, timeout_s: float = 60.0) -> None:
    """Raise AssertionError unless every process that has `marker` in its environment ends within the deadline.

    Give a process tree a unique variable value (`ChildProcess.start` does) and no re-parented daemon escapes.
    """
    wait_until(lambda: not marked_pids(marker), what=f"the end of processes {marked_pids(marker)}", timeout_s=timeout_s)


def marked_pids(marker: str) -> list[int]:
    """Return the live processes, except this one, with `marker` among the values of their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            alive = process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE
            if alive and marker in process.environ().values():
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildProcess:
    """A child in a process group of its own, with its output in a file and a marker in its environment."""

    process: subprocess.Popen[bytes]
    output: Path
    marker: str

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        *,
        output: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> ChildProcess:
        """Start `command`, in `folder` if one is given; both streams go to the file `output`."""
        marker = f"marker-{os.getpid()}-{time.monotonic_ns()}"
        variables = {**os.environ, **(environment or {}), "DIFFLM_TEST_MARKER": marker}
        with output.open("wb") as stream:
            process = subprocess.Popen(
                list(command),
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=variables,
                cwd=folder,
                start_new_session=True,
            )
        return cls(process=process, output=output, marker=marker)

    def running(self) -> bool:
        return self.process.poll() is None

    def wait(self, *, timeout_s: float) -> int:
        """Wait for the exit status; AssertionError with the end of the output when it takes too long."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill_group()
            raise AssertionError(f"still running after {timeout_s:.0f} s; it printed:\n{self.tail()}") from None

    def kill(self) -> None:
        """Kill the process itself (SIGKILL) and reap it; its children are left running."""
        self.process.kill()
        self.process.wait()

    def kill_group(self) -> None:
        """Kill the whole process group (SIGKILL) and reap the leader."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def tail(self, characters: int = 4000) -> str:
        """Return the end of the output so far."""
        return self.output.read_text(errors="replace")[-characters:]
