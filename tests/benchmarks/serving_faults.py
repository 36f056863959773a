"""What a server is put through: too much at once, a killed replica, no load and much load, and requests of a fuzzer."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from serving_load import CLIENTS, Server, client_of, one, open_loop, streamed_rate

KILLS = 3
ROWS = 600  # of a request that lives through a kill
SAMPLE_S = 1.0
ROWS_OF_OVERLOAD = 100
FUZZ_CONFIG = Path(__file__).resolve().parents[1] / "schemathesis.toml"


async def overload(server: Server, per_second: float, seconds: float) -> dict[str, Any]:
    """Ten times what fits, the memory meanwhile, and how soon a single row is answered afterwards."""
    memory: list[tuple[float, dict[str, float]]] = []
    began = time.perf_counter()

    async def watching() -> None:
        while True:
            memory.append((time.perf_counter() - began, await asyncio.to_thread(server.memory_mib)))
            await asyncio.sleep(SAMPLE_S)

    watcher = asyncio.create_task(watching())
    answers = await open_loop(server, per_second, seconds, ROWS_OF_OVERLOAD)
    watcher.cancel()
    over = time.perf_counter()
    async with client_of(server) as client:
        while (await one(client))[0] != 200:
            await asyncio.sleep(0.1)
    recovered = time.perf_counter() - over
    after_a_minute = [sizes for at, sizes in memory if at >= min(60.0, seconds / 2)]
    return {
        "requests_per_second": round(per_second, 1),
        "rows_per_request": ROWS_OF_OVERLOAD,
        "seconds": seconds,
        "statuses": dict(Counter(str(status) for status, _ in answers)),
        "recovery_seconds": round(recovered, 2),
        "memory_mib_at_first": memory[0][1],
        "memory_mib_after_a_minute_or_half": after_a_minute[0],
        "memory_mib_at_the_end": after_a_minute[-1],
    }


@asynccontextmanager
async def loaded(server: Server) -> AsyncIterator[None]:
    """Streams that go on until the block ends."""
    work = asyncio.create_task(streamed_rate(server, 3600.0))
    try:
        yield
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def kill(server: Server, seconds: float) -> dict[str, Any]:
    """SIGKILL of the replica, several times, while known requests are under way; their rows are compared."""
    recoveries, same, statuses = [], [], Counter[str]()
    async with client_of(server) as client:

        async def rows(seed: int) -> list[Any]:
            answer = await client.post("/v1/samples", json={"n": ROWS, "seed": seed})
            statuses[str(answer.status_code)] += 1
            return list(answer.json().get("rows", []))

        expected = await asyncio.gather(*(rows(seed) for seed in range(CLIENTS)))
        for _ in range(KILLS):
            under_way = [asyncio.create_task(rows(seed)) for seed in range(CLIENTS)]
            small = asyncio.create_task(open_loop(server, 5.0, seconds / KILLS, 1))
            await asyncio.sleep(0.5)  # time to be under way; if one has ended already, that is no error
            for pid in server.replicas():
                os.kill(pid, signal.SIGKILL)
            killed = time.perf_counter()
            await one(client)
            recoveries.append(round(time.perf_counter() - killed, 2))
            same += [found == wanted for found, wanted in zip(await asyncio.gather(*under_way), expected, strict=True)]
            statuses.update(str(status) for status, _ in await small)
    return {
        "kills": KILLS,
        "requests_under_way": len(same),
        "with_the_same_rows_as_without_a_kill": sum(same),
        "statuses": dict(statuses),
        "seconds_until_a_new_request_is_answered": recoveries,
    }


async def scaling(server: Server) -> dict[str, Any]:
    """Replicas every second: idle, one request, many rows, idle again."""
    began, timeline = time.perf_counter(), list[dict[str, Any]]()

    async def watch(phase: str, *, until: int, max_s: float) -> float:
        at = time.perf_counter()
        while time.perf_counter() - at < max_s:
            running = len(await asyncio.to_thread(server.replicas))
            now = {"phase": phase, "replicas": running}
            if not timeline or {key: timeline[-1][key] for key in now} != now:
                timeline.append({"second": round(time.perf_counter() - began, 1), **now})
            if running == until:
                break
            await asyncio.sleep(SAMPLE_S)
        return round(time.perf_counter() - at, 1)

    found: dict[str, Any] = {"seconds_to_zero": await watch("idle", until=0, max_s=120)}
    async with client_of(server) as client:
        asking = asyncio.create_task(one(client))
        await watch("one request", until=1, max_s=60)
        status, took = await asking
        found["first_answer_from_zero"] = {"status": status, "seconds": round(took, 1)}
    async with loaded(server):
        found["seconds_to_two_under_load"] = await watch("many rows", until=2, max_s=120)
    found["seconds_from_two_to_zero"] = await watch("idle again", until=0, max_s=180)
    return {**found, "timeline": timeline}


def fuzz(url: str, examples: int) -> dict[str, Any]:
    """Property-based requests made from the server's own OpenAPI document, every phase and check of schemathesis."""
    program = shutil.which("schemathesis", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        raise SystemExit("fuzz needs schemathesis: pip install -e .[dev]")
    command = [program, "--config-file", str(FUZZ_CONFIG), "run", f"{url}/openapi.json", "--checks", "all"]
    command += ["--exclude-checks", "positive_data_acceptance"]  # which "all" would turn on again
    command += ["--max-examples", str(examples), "--continue-on-failure", "--no-color"]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    cases = re.search(r"(\d[\d,]*) generated", done.stdout)
    end = done.stdout.partition("= SUMMARY =")[2] or done.stdout[-2000:]
    return {
        "cases": None if cases is None else int(cases[1].replace(",", "")),
        "failures": [line.strip() for line in end.splitlines() if line.strip().startswith("❌ ST")],
        "code": done.returncode,
        "seconds": round(time.perf_counter() - began, 1),
    }
