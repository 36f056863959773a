"""A running Ray head, with token authentication, that never installed the project, takes a submitted verb."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from difflm.testing.processes import ChildProcess, assert_no_orphans, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.distributed]

REPOSITORY = Path(__file__).resolve().parents[2]


class TinyExperiment(Protocol):
    """The `untouched` fixture: a folder with people.csv and tiny.yaml."""

    @property
    def folder(self) -> Path: ...


@dataclass(frozen=True)
class Head:
    """A Ray head and what a client needs to reach it."""

    address: str
    environment: dict[str, str]


def bare_interpreter(folder: Path) -> Path:
    """A Python with all libraries of this one, but without the project: an editable install is not followed."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    command = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    (Path(site) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    found = subprocess.run([str(python), "-c", "import difflm"], cwd=folder, capture_output=True, check=False)
    if found.returncode == 0:
        pytest.skip("the project is installed into site-packages itself, not editable")
    return python


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def answers(address: str) -> bool:
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((host, int(port))) == 0


def takes_jobs(head: Head) -> bool:
    """Whether a job can be submitted: the dashboard answers before the agent that starts jobs is there."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", head.address, "--", "true"]
    return subprocess.run(command, env=head.environment, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="difflm-"))  # short: sockets below it have at most 107 characters
    python = bare_interpreter(folder / "bare")
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    dashboard = free_port()
    command = [str(python), "-m", "ray.scripts.scripts", "start", "--head", "--block", "--include-dashboard=true"]
    command += [f"--port={free_port()}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={free_port()}"]
    # Its agent's ports, too: with another Ray on this machine the usual ones are taken, and no job would ever start.
    command += [f"--{name}={free_port()}" for name in ("dashboard-agent-listen-port", "dashboard-agent-grpc-port")]
    command += ["--num-cpus=2", "--object-store-memory=200000000", f"--temp-dir={folder / 'ray'}"]
    child = ChildProcess.start(
        command,
        output=folder / "head.log",
        environment={**token, "PATH": path, "PYTHONPATH": "", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"},
    )
    address = f"http://127.0.0.1:{dashboard}"
    try:
        head = Head(address=address, environment={**os.environ, **token})
        wait_until(lambda: answers(address), what="Ray's dashboard", timeout_s=120, alive=child.running)
        wait_until(lambda: takes_jobs(head), what="Ray's job agent", timeout_s=120, alive=child.running)
        yield head
    finally:
        child.process.terminate()
        child.wait(timeout_s=60)
        assert_no_orphans(child.marker)
        shutil.rmtree(folder, ignore_errors=True)


def submit(head: Head, *verb: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "difflm_jobs", "submit", "--address", head.address, *verb],
        cwd=REPOSITORY,
        env=environment or head.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_workers_train_and_encode_where_the_project_was_never_installed(head: Head, untouched: TinyExperiment) -> None:
    folder = untouched.folder
    given = ["--set", f"data.train={folder / 'people.csv'}", "--runs", str(folder / "runs")]
    ended = submit(head, "encode", str(folder / "tiny.yaml"), *given, "--set", "runtime.engine.kind=deepspeed")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (latents,) = (folder / "runs" / "tiny" / "artifacts").glob("latents-*/latents")
    assert len(list(latents.glob("part-*.parquet"))) == 4


def test_bad_input_fails_the_job(head: Head, tmp_path: Path) -> None:
    ended = submit(head, "prepare", "demo", "--set", "data.taget=x", "--runs", str(tmp_path / "runs"))
    assert ended.returncode != 0
    assert "did you mean 'data.target'?" in ended.stdout
    assert not (tmp_path / "runs").exists()


def test_without_the_token_the_job_is_refused(head: Head, tmp_path: Path) -> None:
    environment = {**head.environment, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    ended = submit(head, "prepare", "demo", "--runs", str(tmp_path / "runs"), environment=environment)
    assert ended.returncode != 0
    assert not (tmp_path / "runs").exists()
