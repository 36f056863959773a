"""Clusters: several real Ray nodes on this machine, each with ports, a temporary folder and a TMPDIR of its own.

Nothing here imports Ray: nodes are started by its command line, as an administrator would.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from difflm.testing.processes import ChildProcess, assert_no_orphans, marked_pids, wait_until

START_TIMEOUT_S = 180.0
_SETTINGS = {
    "RAY_worker_niceness": "0",  # Ray's 15 lets its workers starve beside anything else that computes
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # else each node waits 30 s at its end for what may still run
    "RAY_health_check_period_ms": "1000",  # a node that refuses five in a row is lost; Ray's own are 3 s apart
    "RAY_metrics_report_interval_ms": "1000",
}
_RAY = [sys.executable, "-m", "ray.scripts.scripts"]


def free_port() -> int:
    """Return a port on which nothing listens at this moment."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class RayNode:
    """A node: what was started, and where its processes put temporary files."""

    child: ChildProcess
    temporary: Path

    def raylet(self) -> int:
        """Return the process id of the node's raylet: with it the node and all its workers are lost."""
        for pid in marked_pids(self.child.marker):
            try:
                if psutil.Process(pid).name() == "raylet":
                    return pid
            except psutil.NoSuchProcess:
                continue
        raise AssertionError(f"no raylet is running for {self.child.marker}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RayNodes:
    """A head and further nodes, and what a client needs to reach them."""

    dashboard: str
    metrics_port: int
    environment: dict[str, str]
    head: RayNode
    others: list[RayNode]


@contextmanager
def ray_nodes(*cpus: int) -> Iterator[RayNodes]:
    """Start a head with the first number of CPUs and a node for each further number, with token authentication."""
    folder = Path(tempfile.mkdtemp(prefix="difflm-"))  # short: sockets below it have at most 107 characters
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    token |= _SETTINGS
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | token
    port, dashboard, metrics = free_port(), free_port(), free_port()
    head_only = ["--head", "--include-dashboard=true", f"--port={port}", f"--dashboard-port={dashboard}"]
    head_only += [f"--ray-client-server-port={free_port()}", f"--metrics-export-port={metrics}"]
    address = f"http://127.0.0.1:{dashboard}"
    started: list[RayNode] = []
    try:
        for number, count in enumerate(cpus):
            arguments = head_only if number == 0 else [f"--address=127.0.0.1:{port}"]
            started.append(_start(folder / str(number), arguments, count, token))
            if number == 0:
                _await_jobs(address, clean, started[0])
        yield RayNodes(dashboard=address, metrics_port=metrics, environment=clean, head=started[0], others=started[1:])
    finally:
        for node in reversed(started):
            node.child.process.terminate()
        for node in reversed(started):
            node.child.wait(timeout_s=60)
            assert_no_orphans(node.child.marker)
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, arguments: list[str], cpus: int, token: Mapping[str, str]) -> RayNode:
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    command = [*_RAY, "start", "--block", *arguments, f"--num-cpus={cpus}", "--num-gpus=0"]
    command += [f"--{name}={free_port()}" for name in ("dashboard-agent-listen-port", "dashboard-agent-grpc-port")]
    command += ["--object-store-memory=100000000", f"--temp-dir={folder / 'ray'}"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # jobs call python by its name
    environment = {**token, "TMPDIR": str(temporary), "PYTHONPATH": "", "PATH": path}
    return RayNode(
        child=ChildProcess.start(command, output=folder / "node.log", environment=environment), temporary=temporary
    )


def _await_jobs(address: str, environment: Mapping[str, str], head: RayNode) -> None:
    try:
        wait_until(
            lambda: _takes_jobs(address, environment),
            what="Ray's job agent",
            timeout_s=START_TIMEOUT_S,
            alive=head.child.running,
        )
    except AssertionError as error:
        raise AssertionError(f"{error}; the head printed:\n{head.child.tail()}") from None


def _takes_jobs(address: str, environment: Mapping[str, str]) -> bool:
    """Return whether a job can be submitted: the dashboard answers before the agent that starts jobs is there."""
    command = [*_RAY, "job", "submit", "--address", address, "--", "true"]
    return subprocess.run(command, env=dict(environment), capture_output=True, check=False).returncode == 0
