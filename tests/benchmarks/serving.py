"""The sampling endpoint under load: `difflm serve` in a process of its own, asked by clients of this one.

    python tests/benchmarks/serving.py runs/adult                      # about 15 minutes
    python tests/benchmarks/serving.py runs/adult --seconds 5 --overload-seconds 10
    python tests/benchmarks/serving.py runs/adult --fuzz 2000          # needs schemathesis

Measures, with one replica of one core: rows per second of large streamed requests over those of the offline engine;
the latency of one-row requests alone and at 70 % of what the server can answer; the first row of a large request over
a single row alone; ten times overload with the statuses, the memory of every process and the seconds until a one-row
request is answered again; and rows per second of two replicas over one. Writes results/serving.json.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx2
import psutil
import typer
from provenance import provenance

from difflm.testing.clusters import free_port

RESULTS = Path(__file__).parent / "results"
CLIENTS = 8  # streams at a time
LARGE = 2_000  # rows of each
SAMPLE_S = 1.0


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]

    def memory_mib(self) -> dict[str, float]:
        """Resident memory by the title of each process that serves."""
        found: Counter[str] = Counter()
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                title = " ".join(child.cmdline())
                if title.startswith("ray::"):
                    found[title.partition("(")[0][:60]] += child.memory_info().rss / 2**20
            except psutil.Error:
                continue
        return {title: round(size, 1) for title, size in found.items()}


@contextmanager
def served(bundle: Path, replicas: int, changes: list[str], log: Path) -> Iterator[Server]:
    """`difflm serve` with so many replicas, ready."""
    port = free_port()
    settings = [f"server.replicas.min_replicas={replicas}", f"server.replicas.max_replicas={replicas}"]
    settings += ["server.limits.outstanding_rows=20000", "server.limits.outstanding_requests=200", *changes]
    command = [sys.executable, "-m", "difflm_jobs", "serve", f"bench={bundle}", "--port", str(port)]
    command += [part for setting in settings for part in ("--set", setting)]
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
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


def _await_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + 300
    while time.monotonic() < ends and process.poll() is None:
        try:
            if httpx2.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"the server did not come up:\n{log.read_text()[-2000:]}")


def offline_rate(bundle: Path, rows: int, changes: list[str]) -> float:
    """Rows per second of `Synthesizer` on one core, loading left out."""
    from difflm.synthesis.bundle import load_bundle
    from difflm.synthesis.bundle_folder import bundle_folder
    from difflm.synthesis.synthesizer import Synthesizer
    from difflm_jobs.serve import read_settings

    sampling = read_settings([str(bundle)], config=None, port=None, overrides=changes).server.sampling
    loaded = load_bundle(bundle_folder(bundle), heun=sampling.heun(), precision=sampling.dtype())
    synthesizer = Synthesizer(loaded, sampling)
    synthesizer.draw_valid(range(64), seed=0)
    began = time.perf_counter()
    synthesizer.draw_valid(range(rows), seed=1)
    return rows / (time.perf_counter() - began)


async def streamed_rate(url: str, seconds: float) -> float:
    """Rows per second that some clients receive who each ask for the next rows when they have the last."""
    rows, ends = 0, time.perf_counter() + seconds
    async with httpx2.AsyncClient(base_url=url, timeout=300) as client:

        async def asking() -> None:
            nonlocal rows
            while time.perf_counter() < ends:
                async with client.stream("POST", "/v1/samples", json={"n": LARGE, "format": "ndjson"}) as answer:
                    async for _ in answer.aiter_lines():
                        rows += 1
                        if time.perf_counter() >= ends:
                            return

        began = time.perf_counter()
        await asyncio.gather(*(asking() for _ in range(CLIENTS)))
        return rows / (time.perf_counter() - began)


async def alone(url: str, times: int) -> list[float]:
    """Seconds of one-row requests, one after the other."""
    async with httpx2.AsyncClient(base_url=url, timeout=300) as client:
        return [(await _one(client))[1] for _ in range(times)]


async def first_row(url: str, times: int) -> list[float]:
    """Seconds until the first row of a large stream."""
    found = []
    async with httpx2.AsyncClient(base_url=url, timeout=300) as client:
        for _ in range(times):
            began = time.perf_counter()
            async with client.stream("POST", "/v1/samples", json={"n": LARGE, "format": "ndjson"}) as answer:
                await anext(answer.aiter_lines())
                found.append(time.perf_counter() - began)
    return found


async def closed_loop(url: str, seconds: float, clients: int) -> float:
    """One-row answers per second of so many clients who ask again at once."""
    answered, ends = 0, time.perf_counter() + seconds
    async with httpx2.AsyncClient(base_url=url, timeout=300) as client:

        async def asking() -> None:
            nonlocal answered
            while time.perf_counter() < ends:
                answered += (await _one(client))[0] == 200

        await asyncio.gather(*(asking() for _ in range(clients)))
    return answered / seconds


async def open_loop(url: str, per_second: float, seconds: float, rows: int) -> list[tuple[int, float]]:
    """Status and seconds of requests that come by chance, whatever the server does."""
    chance, tasks = random.Random(0), []
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=url, timeout=300, limits=limits) as client:
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            tasks.append(asyncio.create_task(_one(client, rows)))
            await asyncio.sleep(chance.expovariate(per_second))
        return list(await asyncio.gather(*tasks))


async def _one(client: httpx2.AsyncClient, rows: int = 1) -> tuple[int, float]:
    began = time.perf_counter()
    try:
        status = (await client.post("/v1/samples", json={"n": rows})).status_code
    except httpx2.TransportError:
        status = 0
    return status, time.perf_counter() - began


async def overload(server: Server, per_second: float, seconds: float) -> dict[str, Any]:
    """Ten times what fits, the memory meanwhile, and how soon a single row is answered afterwards."""
    memory: list[dict[str, float]] = []

    async def watching() -> None:
        while True:
            memory.append(await asyncio.to_thread(server.memory_mib))
            await asyncio.sleep(SAMPLE_S)

    watcher = asyncio.create_task(watching())
    answers = await open_loop(server.url, per_second, seconds, 100)
    watcher.cancel()
    began = time.perf_counter()
    async with httpx2.AsyncClient(base_url=server.url, timeout=300) as client:
        while (await _one(client))[0] != 200:
            await asyncio.sleep(0.1)
    sixth = memory[max(0, len(memory) // 5)]
    return {
        "requests_per_second": round(per_second, 1),
        "seconds": seconds,
        "statuses": dict(Counter(str(status) for status, _ in answers)),
        "recovery_seconds": round(time.perf_counter() - began, 2),
        "memory_mib_after_a_fifth": sixth,
        "memory_mib_at_the_end": memory[-1],
    }


def fuzz(url: str, examples: int) -> dict[str, Any]:
    """Property-based requests made from the server's own OpenAPI document."""
    program = shutil.which("schemathesis", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        raise SystemExit("--fuzz needs schemathesis: pip install schemathesis")
    command = [program, "run", f"{url}/openapi.json", "--checks", "not_a_server_error"]
    command += ["--max-examples", str(examples), "--phases", "fuzzing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {"examples_per_operation": examples, "code": done.returncode, "end": done.stdout[-1500:].splitlines()}


def summary(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return {"median_ms": round(1000 * statistics.median(ordered), 1), "p99_ms": round(1000 * p99, 1)}


def main(
    bundle: Annotated[Path, typer.Argument(help="a bundle, or a run that has one")],
    seconds: Annotated[float, typer.Option(help="of every measurement")] = 60.0,
    overload_seconds: Annotated[float, typer.Option(help="of ten times overload")] = 300.0,
    fuzz_examples: Annotated[int, typer.Option("--fuzz", help="examples for every operation; 0: none")] = 0,
    two: Annotated[bool, typer.Option(help="also with two replicas")] = True,
    set_: Annotated[list[str] | None, typer.Option("--set", help="overrides, as of difflm serve")] = None,
) -> None:
    """Measure and write results/serving.json."""
    changes, folder = set_ or [], Path(tempfile.mkdtemp(prefix="difflm-bench-"))
    record: dict[str, Any] = {"command": " ".join(["serving.py", *sys.argv[1:]]), **provenance()}
    with served(bundle, 1, changes, folder / "one.log") as server:
        asyncio.run(streamed_rate(server.url, min(5.0, seconds)))
        record["alone"] = summary(asyncio.run(alone(server.url, 50)))
        record["first_row_of_many"] = summary(asyncio.run(first_row(server.url, 5)))
        record["streamed_rows_per_second"] = round(asyncio.run(streamed_rate(server.url, seconds)), 1)
        capacity = asyncio.run(closed_loop(server.url, seconds, 64))
        record["one_row_answers_per_second"] = round(capacity, 1)
        loaded = asyncio.run(open_loop(server.url, 0.7 * capacity, seconds, 1))
        record["at_70_percent"] = summary([took for _, took in loaded])
        record["at_70_percent"]["statuses"] = dict(Counter(str(status) for status, _ in loaded))
        rate = record["streamed_rows_per_second"]
        record["overload"] = asyncio.run(overload(server, 10 * rate / 100, overload_seconds))
        if fuzz_examples:
            record["fuzz"] = fuzz(server.url, fuzz_examples)
    record["offline_rows_per_second"] = round(offline_rate(bundle, int(max(200, rate * seconds / 2)), changes), 1)
    record["streamed_over_offline"] = round(rate / record["offline_rows_per_second"], 3)
    record["first_row_over_alone"] = round(record["first_row_of_many"]["median_ms"] / record["alone"]["median_ms"], 2)
    record["p99_over_alone"] = round(record["at_70_percent"]["p99_ms"] / record["alone"]["median_ms"], 2)
    if two:
        with served(bundle, 2, changes, folder / "two.log") as server:
            asyncio.run(streamed_rate(server.url, min(5.0, seconds)))
            record["two_replicas_rows_per_second"] = round(asyncio.run(streamed_rate(server.url, seconds)), 1)
        record["two_over_one"] = round(record["two_replicas_rows_per_second"] / rate, 3)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "serving.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    typer.run(main)
