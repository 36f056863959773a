"""A real `difflm serve` on this machine: what listens where, what Serve's proxy says, and a gateway that is killed."""

from __future__ import annotations

import json
import re
import socket
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import psutil
import pytest

from difflm.testing.bundles import StageFolders
from difflm.testing.clusters import free_port
from difflm.testing.processes import ChildProcess, kill_pid, marked_pids, wait_until

pytestmark = pytest.mark.distributed

REPOSITORY = Path(__file__).resolve().parents[2]
ROOTS = ":".join(str(REPOSITORY / root) for root in ("platform", "evaluators", "jobs"))
LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


@dataclass(frozen=True)
class Running:
    child: ChildProcess
    port: int
    jobs: Path

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def processes(self) -> list[psutil.Process]:
        """All that the server started, also what is nobody's child any more."""
        found = [self.child.process.pid, *marked_pids(self.child.marker)]
        return [psutil.Process(pid) for pid in dict.fromkeys(found) if psutil.pid_exists(pid)]


@pytest.fixture(scope="module")
def server(stages: StageFolders, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = [sys.executable, "-m", "difflm_jobs", "serve", f"tiny={stages.bundle}", "--port", str(port)]
    for setting in (
        "cluster.address=local",
        "cluster.num_cpus=2",
        "cluster.object_store_mib=100",
        f"server.jobs_folder={folder / 'jobs'}",
        "server.limits.rows_per_request=50",
        "server.sampling.steps=2",
    ):
        command += ["--set", setting]
    child = ChildProcess.start(command, output=folder / "log", environment={"PYTHONPATH": ROOTS})
    running = Running(child=child, port=port, jobs=folder / "jobs")

    def ready() -> bool:
        try:
            return httpx2.get(running.url("/readyz"), timeout=10).status_code == 200
        except httpx2.TransportError:
            return False

    try:
        try:
            wait_until(ready, what="the server", timeout_s=400, alive=child.running)
        except AssertionError as error:
            raise AssertionError(f"{error}; it printed:\n{child.tail()}") from None
        yield running
    finally:
        child.process.terminate()
        child.wait(timeout_s=120)


def documented() -> set[str]:
    """The processes that the table of infra/PORTS.md names for a cluster on one machine."""
    text = (REPOSITORY / "infra" / "PORTS.md").read_text(encoding="utf-8")
    table = text.partition("## A cluster on one machine")[2].partition("\n## ")[0]
    return {name for line in table.splitlines() if line.startswith("| `") for name in re.findall("`([^`]+)`", line)}


def listening(process: psutil.Process) -> set[tuple[str, int]]:
    try:
        found = process.net_connections(kind="tcp")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return set()
    return {tuple(one.laddr) for one in found if one.status == psutil.CONN_LISTEN}


def named(process: psutil.Process) -> str:
    """What the table calls a process."""
    words = " ".join(process.cmdline())
    if words.startswith("ray::"):
        name = words.removeprefix("ray::").split(":")[0].split(".")[0].strip()
        return f"ray::{name}" if name.endswith("Agent") or name == "ProxyActor" else "ray::*"
    return "difflm" if "difflm_jobs" in words else process.name()


def test_nothing_listens_but_on_this_machine_and_all_of_it_is_documented(server: Running) -> None:
    open_ports = {(named(process), *at) for process in server.processes() for at in listening(process)}
    assert ("ray::ProxyActor", "127.0.0.1", server.port) in open_ports
    assert len(open_ports) > 5, "Ray's own are among them"
    assert {found for found in open_ports if found[1] not in LOOPBACK} == set()
    assert {name for name, _, _ in open_ports} <= documented()


@pytest.mark.parametrize("sent", [b"no http at all\r\n\r\n", b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_what_is_no_http_is_told_as_a_problem(server: Running, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(sent)
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = said.partition(b"\r\n\r\n")
    assert json.loads(body)["error"]["code"] == "invalid_http"
    assert b"nosniff" in head
    assert b"no-store" in head


@pytest.mark.parametrize("path", ["/-/healthz", "/-/routes", "/healthz", "/nowhere", "/v1/jobs/x", "//", "/v1/samples"])
def test_every_answer_through_the_proxy_bears_the_headers(server: Running, path: str) -> None:
    answer = httpx2.get(server.url(path), timeout=60)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.status_code < 400 or set(answer.json()["error"]) == {"code", "message", "field"}


def here(text: str, server: Running) -> str:
    """What a page asks of its server, asked of this one, for few rows and the target of its table."""
    text = re.sub(r"\b1\d*_?0+\b", "20", text)
    return text.replace("http://127.0.0.1:8000", server.url("")).replace("income", "label")


def test_what_the_pages_ask_of_a_server_is_answered(server: Running, blocks: ModuleType) -> None:
    (asked,) = [words for block in blocks.blocks("bash") for words in blocks.commands(block) if words[0] == "curl"]
    url, body = next(word for word in asked if word.startswith("http")), asked[asked.index("-d") + 1]
    headers = dict([asked[asked.index("-H") + 1].split(": ")])
    answer = httpx2.post(here(url, server), content=here(body, server), headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.text.splitlines()[0] == "age,label"
    (block,) = [block for block in blocks.blocks("python") if "Client(" in block.text]
    known: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of rows without a valid draw
        exec(compile(here(block.text, server), str(block), "exec"), known)
    assert 0 < len(known["rows"]) <= 20, "an untrained decoder, of which some draws are no rows"
    assert set(known["row"]) == set(known["rows"][0])


def running_jobs(server: Running) -> list[psutil.Process]:
    found = []
    for process in server.processes():
        try:
            if "synthesize" in process.cmdline():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def test_a_killed_gateway_takes_its_job_with_it_and_the_next_one_goes_on(server: Running) -> None:
    """The job's process lived on and wrote beside the one that the next gateway started."""
    asked = httpx2.post(server.url("/v1/samples"), json={"n": 60, "seed": 3, "format": "csv"}, timeout=60)
    assert asked.status_code == 202, asked.text
    name = asked.json()["id"]
    (job,) = wait_until(lambda: running_jobs(server), what="the job's process", timeout_s=60)
    gateway = job.ppid()
    kill_pid(gateway)
    wait_until(lambda: not job.is_running(), what="the end of the job's process", timeout_s=60)

    def state() -> Any:
        assert len(running_jobs(server)) <= 1
        try:
            answer = httpx2.get(server.url(f"/v1/jobs/{name}"), timeout=30)
        except httpx2.TransportError:
            return None
        found = answer.json()
        return found if found.get("state") in ("finished", "failed") else None

    found = wait_until(state, what="the job", timeout_s=240, alive=server.child.running)
    assert found["state"] == "finished", found
    assert httpx2.get(server.url(f"/v1/jobs/{name}/data"), timeout=60).status_code == 200
    large = b"1,2\n" * (8 * 2**20)  # many times what may be on its way to a client
    (server.jobs / name / "data.csv").write_bytes(large)
    (server.jobs / name / "rows.json").write_text(json.dumps({"bytes": len(large)}))
    assert httpx2.get(server.url(f"/v1/jobs/{name}/data"), timeout=60).content == large
    part = httpx2.get(server.url(f"/v1/jobs/{name}/data"), headers={"Range": "bytes=4-6"}, timeout=60)
    assert (part.status_code, part.content) == (206, b"1,2")


@pytest.mark.parametrize("header", ["x-request-timeout-seconds", "x-request-disconnect-disabled", "x-request-id"])
def test_headers_that_serve_would_read_are_none_of_a_clients(server: Running, header: str) -> None:
    """They were decoded outside of what cleans up behind a request: 500, and a queue that was kept for ever."""
    answer = httpx2.get(server.url("/healthz"), headers={header.encode(): b"\xff"}, timeout=60)
    assert answer.json() == {"status": "ok"}
