"""Servers killed with SIGKILL: what they had started ends, and until it has, nobody does the same work beside it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from difflm.lifetime import PARENT, locked
from difflm.serving.backend import VERSION_DIGITS
from difflm.serving.jobs import Jobs, JobSpec
from difflm.serving.jobs import jobs as jobs_module
from difflm_jobs.cli import main as cli

NOTHING = hashlib.sha256().hexdigest()[:VERSION_DIGITS]  # the version of a folder without files
REPOSITORY = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(str(REPOSITORY / root) for root in ("platform", "evaluators", "jobs")),
}

# A job that says that it began, does not care for its parent, and makes its rows when it may.
STUBBORN = """
import pathlib, sys, time
given = sys.argv[1:]
out = pathlib.Path(given[given.index("--out") + 1])
with open(sys.argv[0] + ".log", "a") as log:
    log.write("begun\\n")
while not out.parent.parent.joinpath("go").exists():
    time.sleep(0.01)
out.write_text("n\\n1\\n")
"""
SERVER = """
import asyncio, sys
from pathlib import Path
from difflm.serving.jobs import jobs
from difflm.serving.jobs import Jobs, JobSpec

jobs.COMMAND = (sys.executable, "-S", sys.argv[2])

async def serve():
    server = Jobs(Path(sys.argv[1]), most=5)
    await server.start()
    spec = dict(owner="a", bundle="b", version=sys.argv[3], folder="/b", n=1, seed=7, where=None, sampling="{}",
                format="csv")
    print(server.submit(JobSpec(**spec)).id, flush=True)
    await asyncio.Event().wait()

asyncio.run(serve())
"""
BOUND = """
import signal
from difflm.lifetime import end_with_parent
end_with_parent()
print("ready", flush=True)
signal.pause()
"""
STARTER = """
import subprocess, sys, signal
from difflm.lifetime import bound_environment
subprocess.Popen([sys.executable, "-c", sys.argv[1]], env=bound_environment())
signal.pause()
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "program.py"
    path.write_text(STUBBORN)
    monkeypatch.setattr(jobs_module, "COMMAND", (sys.executable, "-S", str(path)))
    monkeypatch.setattr(jobs_module, "_AGAIN_S", 0.05)
    return path


@pytest.fixture
def killed_server(tmp_path: Path, program: Path) -> Iterator[str]:
    """The name of a job whose server was killed and whose process lives on."""
    command = [sys.executable, "-c", SERVER, str(tmp_path / "jobs"), str(program), NOTHING]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        name = server.stdout.readline().strip()
        while not Path(f"{program}.log").exists():
            pass
        server.send_signal(signal.SIGKILL)
    yield name
    (tmp_path / "jobs" / "go").touch()


def test_a_new_server_waits_for_the_process_that_a_killed_one_left(
    tmp_path: Path, program: Path, killed_server: str
) -> None:
    log = Path(f"{program}.log")

    async def act() -> None:
        server = Jobs(tmp_path / "jobs", most=5)
        looked = asyncio.Event()
        enqueue = server._enqueue

        def seen(name: str) -> None:
            enqueue(name)
            looked.set()

        await server.start()
        server._enqueue = seen  # type: ignore[method-assign]
        for _ in range(3):  # it cannot have the job, and looks again
            looked.clear()
            await looked.wait()
        assert server.view(killed_server, "a").state == "queued"
        assert log.read_text() == "begun\n"
        (tmp_path / "jobs" / "go").touch()
        while server.view(killed_server, "a").state != "finished":
            await asyncio.sleep(0.01)
        await server.stop()

    asyncio.run(asyncio.wait_for(act(), 60))
    assert log.read_text() == "begun\n", "it ran once"


def test_a_job_that_its_own_server_runs_is_nobody_elses(tmp_path: Path, program: Path) -> None:
    """The server's own end, without a kill, ends its job's process before the lock is free."""
    facts = {"owner": "a", "bundle": "b", "version": NOTHING, "folder": "/b", "n": 1, "seed": 7}
    spec = JobSpec.model_validate({**facts, "where": None, "sampling": "{}", "format": "csv"})

    async def act() -> None:
        first = Jobs(tmp_path / "jobs", most=5)
        await first.start()
        name = first.submit(spec).id
        while not Path(f"{program}.log").exists():
            await asyncio.sleep(0.01)
        with pytest.raises(BlockingIOError):
            locked(tmp_path / "jobs" / name / ".lock")
        await first.stop()
        locked(tmp_path / "jobs" / name / ".lock").close()

    asyncio.run(asyncio.wait_for(act(), 60))


def test_a_process_ends_with_the_one_that_started_it() -> None:
    command = [sys.executable, "-c", STARTER, BOUND]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "ready\n"
        starter.send_signal(signal.SIGKILL)
        assert starter.stdout.read() == "", "the pipe is closed when its last holder has ended"


def test_the_command_line_does_not_begin_without_the_one_that_started_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "argv", ["difflm", "--help"])
    monkeypatch.setenv(PARENT, "1" if os.getppid() != 1 else "2")
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 130
        assert capsys.readouterr().err == "error: interrupted\n"
        monkeypatch.setenv(PARENT, str(os.getppid()))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert (ended.value.code, PARENT in os.environ) == (0, False)
    finally:
        signal.signal(signal.SIGTERM, before)
