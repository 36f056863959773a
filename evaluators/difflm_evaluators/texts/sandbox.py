"""The sandbox: runs an untrusted Python program in a process of its own, under limits, and says how it ended.

What keeps a program in, from outside to inside:

- a process group of its own, killed as a whole when the wall-clock time is over or the report has come
- where the system allows it (`unshare`), namespaces of its own: no network interface but a dead one, and a process tree
  that dies with its first process
- where the kernel has Landlock (Linux 5.13): files change below a temporary folder only, no other program starts, and
  on newer ones there is no TCP
- limits of the kernel: processor time, address space, size of a file, number of processes and of open files
- an audit hook inside the interpreter: no sockets, no processes, no native code, no change of a file outside of the
  temporary folder, which is removed afterwards
- no environment, no standard input, output thrown away; the standard library only

What it does not do. It holds solutions of a language model, which err, and not an attacker: files that this user may
read can be read; native code of the standard library is trusted; a program that searches the interpreter's memory for
the token of its report, or hands the tests an object that is equal to everything, can pass without solving anything.
The number of processes is not limited by the kernel for root, only by the hook. Without `unshare` the hook alone denies
the network: `Isolation.namespaces` says which it was. For hostile programs put a container or a virtual machine around.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from difflm.errors import EvaluationError
from difflm.telemetry import parse_json
from difflm_evaluators.texts.sandbox_runner import landlock_version

Outcome = Literal["passed", "failed", "timeout", "memory", "no_report"]
_RUNNER = Path(__file__).with_name("sandbox_runner.py")
_UNSHARE = ("--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child")
_MAX_REPORT_BYTES = 64 * 1024


class SandboxLimits(BaseModel):
    """What one program may use."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    timeout_s: float = Field(default=60.0, gt=0)
    """Wall-clock time, longer than `cpu_s` so that a busy machine fails nobody."""
    cpu_s: int = Field(default=20, ge=1)
    memory_mib: int = Field(default=1024, ge=128)
    """Address space, the interpreter and 64 MiB of stack included."""
    file_mib: int = Field(default=16, ge=0)
    processes: int = Field(default=16, ge=1)
    """Of this user, threads included; the kernel does not hold root to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """What the system allows: `namespaces` is None or the path of `unshare`; `landlock` keeps files as they are."""

    namespaces: str | None
    landlock: bool = False

    @property
    def text(self) -> str:
        """For reports."""
        files = ", files held by the kernel" if self.landlock else ""
        if self.namespaces is None:
            return f"separate process{files}, limits, audit hook (namespaces are not allowed here)"
        return f"separate process, own network and process namespace{files}, limits, audit hook"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxResult:
    """How a program ended.

    `passed`: it ran to its last line. `failed`: it raised, SystemExit included. `timeout`: it took too long. `memory`:
    it raised MemoryError. `no_report`: its process ended without saying anything: killed by a limit, or by itself.
    """

    outcome: Outcome
    error: str


@cache
def isolation() -> Isolation:
    """Find out, once, what this system allows."""
    found, landlock = shutil.which("unshare"), landlock_version() > 0
    if found is None:
        return Isolation(namespaces=None, landlock=landlock)
    try:
        tried = subprocess.run([found, *_UNSHARE, "true"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return Isolation(namespaces=None, landlock=landlock)
    return Isolation(namespaces=found if tried.returncode == 0 else None, landlock=landlock)


def run_program(program: str, limits: SandboxLimits) -> SandboxResult:
    """Run a program's text to its end, or to that of its limits.

    Raises EvaluationError when no process can be started.
    """
    namespaces = isolation().namespaces
    command = [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(_RUNNER)]
    if namespaces is not None:
        command = [namespaces, *_UNSHARE, *command]
    token = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="difflm-sandbox-", ignore_cleanup_errors=True) as folder:
        task = {"program": program, "token": token, "folder": folder, "limits": limits.model_dump()}
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "PYTHONHASHSEED": "0"},
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            raise EvaluationError(
                f"the sandbox cannot start {command[0]} ({error}); free processes or memory"
            ) from error
        late = threading.Event()
        watch = threading.Timer(limits.timeout_s, _too_late, (process, late))
        watch.start()
        try:
            written = _exchanged(process, json.dumps(task).encode())
        finally:
            watch.cancel()
            _kill_group(process)
        if late.is_set():
            return SandboxResult(outcome="timeout", error=f"more than {limits.timeout_s:g} s")
    return _result(written, token, process.returncode)


def _exchanged(process: subprocess.Popen[bytes], task: bytes) -> bytes:
    """Give a process its task and read what it reports, no more than a report has: a program may write without end."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):  # it ended before it began
        process.stdin.write(task)
        process.stdin.close()
    return process.stdout.read(_MAX_REPORT_BYTES + 1)


def _too_late(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End the program's whole process group, its children included, and take its exit status."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()
    process.wait()


def _result(written: bytes, token: str, status: int) -> SandboxResult:
    """Read the report of a run; anything but one report with the right token is none."""
    try:
        report = parse_json(written) if len(written) <= _MAX_REPORT_BYTES else None
    except ValueError:
        report = None
    if isinstance(report, dict) and report.get("token") == token:
        return SandboxResult(outcome=report["outcome"], error=str(report["error"]))
    return SandboxResult(outcome="no_report", error=f"the process ended with status {status}")
