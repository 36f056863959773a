"""Trainings in the background: each a process of `difflm run`, which ends with the server and may be started again."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from difflm.lifetime import bound_environment
from difflm.serving.problems import Problem, overloaded
from difflm.telemetry import not_through_links

State = Literal["running", "finished", "failed", "stopped"]
COMMAND = (sys.executable, "-m", "difflm_jobs", "run")
LOGS = ".logs"
_SHOWN_LINES = 20
_SHOWN_CHARACTERS = 4_000
_STOP_S = 30.0


class Trainings:
    """The trainings of a folder of runs, at most so many at a time."""

    def __init__(self, runs: Path, *, most: int, command: Sequence[str] = COMMAND) -> None:
        self._runs = runs
        self._most = most
        self._command = tuple(command)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, arguments: Sequence[str]) -> None:
        """Start a training.

        Raises:
            Problem: this one runs, or as many as may.
        """
        running = [other for other, process in self._processes.items() if process.poll() is None]
        if name in running:
            raise Problem(409, "conflict", f"{name} is training; ask for its status, or cancel it", field="name")
        if len(running) >= self._most:
            raise overloaded(f"{', '.join(running)} is training, and {self._most} may at a time")
        log = self._log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "wb", opener=not_through_links) as written:
            self._processes[name] = subprocess.Popen(
                [*self._command, *arguments],
                stdin=subprocess.DEVNULL,  # the server's own are the protocol's
                stdout=written,
                stderr=subprocess.STDOUT,
                env=bound_environment(),
                start_new_session=True,
            )

    def knows(self, name: str) -> bool:
        """Tell whether this server started a training of the name, or an earlier one left what it said."""
        return name in self._processes or self._log(name).exists()

    def state(self, name: str, *, reported: bool) -> State:
        """Tell how a training stands; of those of an earlier server only whether there is a report is known."""
        process = self._processes.get(name)
        if process is None:
            return "finished" if reported else "stopped"
        code = process.poll()
        if code is None:
            return "running"
        return "finished" if code == 0 else "stopped" if code in (130, -15) else "failed"

    def said(self, name: str) -> list[str]:
        """Return the last lines that a training printed."""
        try:
            with self._log(name).open(encoding="utf-8", errors="replace") as lines:
                last = deque((line.rstrip() for line in lines if line.strip()), maxlen=_SHOWN_LINES)
        except FileNotFoundError:
            return []
        text = "\n".join(last)[-_SHOWN_CHARACTERS:]
        return text.splitlines()

    def cancel(self, name: str) -> bool:
        """Ask a training to end; tell whether it was running."""
        process = self._processes.get(name)
        if process is None or process.poll() is not None:
            return False
        process.terminate()
        return True

    def close(self) -> None:
        """End all trainings, and wait for them."""
        for name in self._processes:
            self.cancel(name)
        for process in self._processes.values():
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _log(self, name: str) -> Path:
        return self._runs / LOGS / f"{name}.log"
