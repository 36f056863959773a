"""A server of `difflm serve` in a process of its own, and clients that load it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil

from difflm.testing.clusters import free_port

CLIENTS = 8  # streams at a time
LARGE = 2_000  # rows of each; all of them fit into what a server takes on
REPLICA = "ray::ServeReplica:difflm:sampler"
_TIMEOUT_S = 600


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]

    def processes(self) -> list[tuple[str, psutil.Process]]:
        """Every process of its cluster, with its title."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                found.append((" ".join(child.cmdline()), child))
            except psutil.Error:
                continue
        return [(title, child) for title, child in found if title.startswith("ray::")]

    def replicas(self) -> list[int]:
        """Process ids of what draws rows."""
        return [child.pid for title, child in self.processes() if title.startswith(REPLICA)]

    def processor_seconds(self) -> float:
        """Processor time that its proxy, gateway and replicas have taken."""
        spent = 0.0
        for title, child in self.processes():
            if title.startswith(("ray::ServeReplica", "ray::ProxyActor")):
                times = child.cpu_times()
                spent += times.user + times.system
        return spent

    def memory_mib(self) -> dict[str, float]:
        """Memory of the serving processes by title: what is their own, not shared with others."""
        found: dict[str, float] = {}
        for title, child in self.processes():
            if title.startswith(("ray::Serve", "ray::Proxy", "ray::HTTPProxy")):
                try:
                    name = title.partition(".")[0].partition("(")[0].strip()
                    found[name] = round(found.get(name, 0.0) + child.memory_full_info().uss / 2**20, 1)
                except psutil.Error:
                    continue
        return found


@contextmanager
def served(bundle: Path, settings: list[str], log: Path, checkout: Path | None = None) -> Iterator[Server]:
    """`difflm serve`, ready, of this checkout unless another is given; what it says goes into a file."""
    port = free_port()
    bounds = ["server.limits.outstanding_rows=20000", "server.limits.outstanding_requests=200"]
    command = [sys.executable, "-m", "difflm_jobs", "serve", f"bench={bundle}", "--port", str(port)]
    command += [part for setting in [*bounds, *settings] for part in ("--set", setting)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, start_new_session=True, env=_environment(checkout)
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _await_ready(url, process, log)
        yield Server(url=url, process=process)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _environment(checkout: Path | None) -> dict[str, str]:
    if checkout is None:
        return {**os.environ}
    roots = [str(checkout / root) for root in ("platform", "evaluators", "jobs")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}


def _await_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < ends and process.poll() is None:
        try:
            if httpx2.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"the server did not come up:\n{log.read_text()[-2000:]}")


def client_of(server: Server) -> httpx2.AsyncClient:
    """A client without a bound on its connections: what waits is to wait at the server."""
    limits = httpx2.Limits(max_connections=None)
    return httpx2.AsyncClient(base_url=server.url, timeout=_TIMEOUT_S, limits=limits)


async def streamed_rate(server: Server, seconds: float, settle: float = 0.0) -> float:
    """Rows per second that some clients receive who each ask for the next rows when they have the last.

    What they receive in the first `settle` seconds is not counted: the batch fills, and no record is finished yet.
    """
    rows, began = 0, time.perf_counter() + settle
    ends = began + seconds
    async with client_of(server) as client:

        async def asking() -> None:
            nonlocal rows
            while time.perf_counter() < ends:
                async with client.stream("POST", "/v1/samples", json={"n": LARGE, "format": "ndjson"}) as answer:
                    answer.raise_for_status()  # whoever is refused would ask again at once, and count the refusal
                    async for _ in answer.aiter_lines():
                        rows += time.perf_counter() >= began
                        if time.perf_counter() >= ends:
                            return

        await asyncio.gather(*(asking() for _ in range(CLIENTS)))
        return rows / (time.perf_counter() - began)


async def whole_stream(client: httpx2.AsyncClient, rows: int) -> None:
    """Read a stream of so many rows to its end."""
    async with client.stream("POST", "/v1/samples", json={"n": rows, "format": "ndjson"}) as answer:
        answer.raise_for_status()
        async for _ in answer.aiter_lines():
            pass


async def alone(server: Server, times: int) -> list[float]:
    """Seconds of one-row requests, one after the other."""
    async with client_of(server) as client:
        return [(await one(client))[1] for _ in range(times)]


async def first_row(server: Server, times: int) -> list[float]:
    """Seconds until the first row of a large stream, with the one before it given up and forgotten."""
    found = []
    async with client_of(server) as client:
        for _ in range(times):
            began = time.perf_counter()
            async with client.stream("POST", "/v1/samples", json={"n": LARGE, "format": "ndjson"}) as answer:
                await anext(answer.aiter_lines())
                found.append(time.perf_counter() - began)
            await asyncio.sleep(1.0)
    return found


async def closed_loop(server: Server, seconds: float, clients: int) -> float:
    """One-row answers per second of so many clients who ask again at once."""
    answered, ends = 0, time.perf_counter() + seconds
    async with client_of(server) as client:

        async def asking() -> None:
            nonlocal answered
            while time.perf_counter() < ends:
                status, _ = await one(client)  # not in one line: += reads what it adds to before it waits
                answered += status == 200

        await asyncio.gather(*(asking() for _ in range(clients)))
    return answered / seconds


async def open_loop(server: Server, per_second: float, seconds: float, rows: int) -> list[tuple[int, float]]:
    """Status and seconds of requests that come by chance, whatever the server does."""
    chance, tasks = random.Random(0), []
    async with client_of(server) as client:
        at = time.perf_counter()
        ends = at + seconds
        while (at := at + chance.expovariate(per_second)) < ends:
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            tasks.append(asyncio.create_task(one(client, rows)))
        return list(await asyncio.gather(*tasks))


async def one(client: httpx2.AsyncClient, rows: int = 1) -> tuple[int, float]:
    """Status and seconds of a request; 0 for one that got no answer."""
    began = time.perf_counter()
    try:
        status = (await client.post("/v1/samples", json={"n": rows})).status_code
    except httpx2.TransportError:
        status = 0
    return status, time.perf_counter() - began


def summary(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return {
        "requests": len(ordered),
        "median_ms": round(1000 * statistics.median(ordered), 1),
        "p99_ms": round(1000 * p99, 1),
    }
