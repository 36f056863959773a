"""The HTTP interface while rows are under way: loading, what may be outstanding, clients that go away, broken streams,
keys and their limits.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx2
import pyarrow as pa
import pytest

from difflm.errors import ClusterError
from difflm.records.schema import Record
from difflm.serving.app import create_app
from difflm.serving.backend import BundleRef, RowsWanted
from difflm.serving.config import ServeConfig
from difflm.serving.fair_queue import Chunk
from difflm.serving.limits import KeyConfig, KeyRing, hash_key
from difflm.serving.loaded_bundle import LocalBackend
from difflm.serving.service import Service

Run = Callable[..., Any]
Serving = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]


class Slow:
    """A backend whose rows come when the test lets them; what it was asked for and whether it was left."""

    def __init__(self, record: Record) -> None:
        self.record, self.left, self.going = record, False, asyncio.Event()

    async def sample(self, wanted: RowsWanted) -> AsyncGenerator[Chunk, None]:
        try:
            yield Chunk(rows=[(wanted.start, self.record)], given_up=[])
            await self.going.wait()
            raise ClusterError("the replicas are gone")
        finally:
            self.left = True

    async def encode(self, bundle: BundleRef, table: pa.Table) -> list[list[float]]:
        raise ClusterError("the replicas are gone")

    async def load(self, bundle: BundleRef) -> None:
        pass


@pytest.fixture(scope="session")
def record(offline: Run) -> Record:
    row: Record = offline(range(1), seed=1)[0][1]
    return row


def test_until_a_bundle_is_loaded_the_answer_is_503(
    run: Run, config: ServeConfig, backend: LocalBackend, serving: Serving
) -> None:
    async def asked() -> list[httpx2.Response]:
        async with serving(config, backend, loaded=False) as client:
            return [await client.get("/readyz"), await client.post("/v1/samples", json={"n": 1})]

    for answer in run(asked()):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert answer.json()["error"]["code"] == "loading"


def test_rows_beyond_what_may_be_outstanding_are_refused_until_others_are_handed_out(
    run: Run, config: ServeConfig, record: Record, serving: Serving
) -> None:
    slow = Slow(record)

    async def asked() -> list[httpx2.Response]:
        async with serving(config, slow) as client:
            first = asyncio.create_task(client.post("/v1/samples", json={"n": 500}))
            while "difflm_outstanding_rows 499.0" not in (await client.get("/metrics")).text:
                await asyncio.sleep(0)
            refused = await client.post("/v1/samples", json={"n": 302, "format": "ndjson"})
            slow.going.set()
            broken = await first
            text = (await client.get("/metrics")).text
            assert "difflm_outstanding_rows 0.0" in text
            assert 'difflm_requests_total{path="/v1/samples",status="429"} 1.0' in text
            return [refused, broken]

    refused, broken = run(asked())
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "overloaded"
    assert int(refused.headers["retry-after"]) >= 1
    assert broken.status_code == 503
    assert "the replicas are gone" in broken.json()["error"]["message"]


@pytest.mark.parametrize("format_", ["json", "ndjson"])
def test_a_client_that_goes_away_leaves_nothing_under_way(
    run: Run, config: ServeConfig, record: Record, format_: str
) -> None:
    slow = Slow(record)

    async def asked() -> None:
        service = Service(config, slow)
        await service.registry.refresh()
        app = create_app(service)
        body = json.dumps({"n": 500, "format": format_}).encode()
        sent = [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
            "method": "POST", "path": "/v1/samples", "raw_path": b"/v1/samples", "query_string": b"",
            "root_path": "", "scheme": "http",
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
            "client": ("1.2.3.4", 1), "server": ("server", 80), "state": {},
        }  # fmt: skip

        async def receive() -> Any:
            return sent.pop(0) if len(sent) > 1 else sent[0]

        async def send(_: Any) -> None:
            pass

        async with asyncio.timeout(20):
            await app(scope, receive, send)

    run(asked())
    assert slow.left


def test_a_stream_that_breaks_says_so_in_its_last_line(
    run: Run, config: ServeConfig, record: Record, serving: Serving
) -> None:
    slow = Slow(record)
    slow.going.set()

    async def asked() -> list[httpx2.Response]:
        async with serving(config, slow) as client:
            return [await client.post("/v1/samples", json={"n": 9, "format": name}) for name in ("ndjson", "sse")]

    lines, events = run(asked())
    first, last = map(json.loads, lines.text.splitlines())
    assert first["age"] == record["age"]
    assert last["error"]["code"] == "unavailable"
    assert events.text.strip().split("\n\n")[-1].startswith("event: error\n")


def test_only_known_keys_are_answered_and_no_more_than_their_limits(
    run: Run, config: ServeConfig, backend: LocalBackend, serving: Serving
) -> None:
    now = 0.0
    small = KeyConfig(name="small", sha256=hash_key("difflm_a"), requests_per_minute=3, rows_per_minute=60)
    ring = KeyRing([small, KeyConfig(name="free", sha256=hash_key("difflm_b"))], lambda: now)

    async def asked() -> list[tuple[int, str | None]]:
        nonlocal now
        async with serving(config, backend, ring=ring) as client:

            async def post(key: str | None, n: int) -> tuple[int, str | None]:
                headers = {} if key is None else {"authorization": f"Bearer {key}"}
                answer = await client.post("/v1/samples", json={"n": n}, headers=headers)
                return answer.status_code, answer.headers.get("retry-after")

            found = [await post(None, 1), await post("difflm_c", 1), await post("", 1), await post("difflm_a", 50)]
            found += [await post("difflm_a", 20), await post("difflm_a", 1), await post("difflm_a", 1)]
            now = 20.0
            found += [await post("difflm_a", 1), await post("difflm_b", 100), await post("difflm_b", 100)]
            assert (await client.get("/metrics")).status_code == 401
            assert (await client.get("/healthz")).status_code == 200
            return found

    assert run(asked()) == [
        (401, None), (401, None), (401, None), (200, None),
        (429, "10"), (200, None), (429, "20"),
        (200, None), (200, None), (200, None),
    ]  # fmt: skip
