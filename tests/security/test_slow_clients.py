"""Clients that keep a proxy waiting on purpose: with a head that never ends, a body behind its answer, or by reading
nothing.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from difflm.runtime import proxy_connections
from difflm.runtime.proxy_requests import BoundedBodies, KnownHeaders, PacedDownloads
from difflm.runtime.serve_processes import middlewares
from difflm.serving.paced import PacedFile
from difflm.testing.servers import running

MIB = 2**20
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def endless() -> Any:
    while True:
        yield b"a" * 2**16
        await asyncio.sleep(0)


@pytest.fixture(params=["httptools", "h11"])
def address(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """A server of uvicorn with one of its two parsers and little patience."""
    middlewares()
    monkeypatch.setattr(proxy_connections, "HEAD_S", 0.4)
    monkeypatch.setattr(proxy_connections, "STALLED_S", 0.4)
    monkeypatch.setattr(proxy_connections, "_LOOK_S", 0.05)
    app = Starlette(
        routes=[Route("/", lambda _: PlainTextResponse("ok")), Route("/rows", lambda _: StreamingResponse(endless()))]
    )
    with running(uvicorn.Config(app, http=request.param, log_level="critical", lifespan="off")) as served:
        yield served


def told_until_closed(connection: socket.socket, more: bytes = b"") -> bytes:
    """What the server says until it ends the connection, to which something is written now and then."""
    said = b""
    connection.settimeout(0.05)
    for _ in range(400):
        try:
            part = connection.recv(65536)
            if not part:
                return said
            said += part
        except TimeoutError:
            try:
                connection.sendall(more)
            except OSError:
                return said
        except OSError:
            return said
    raise AssertionError("the connection was kept")


@pytest.mark.parametrize("begun", [b"", b"GET /", b"GET / HTTP/1.1\r\nHost: x\r\nX-"])
def test_a_head_has_its_time_however_busily_it_comes(address: tuple[str, int], begun: bytes) -> None:
    """Each such connection was held for ever, before a key was looked at."""
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(begun)
        said = told_until_closed(connection, more=b"a" if begun else b"")
    if said:
        head, _, body = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"nosniff" in head
        assert json.loads(body)["error"]["code"] == "slow"


def test_so_has_the_head_of_a_later_request_and_the_rest_of_a_body(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(REQUEST + b"GET /")
        assert told_until_closed(connection, more=b"a").count(b"200 OK") == 1
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        assert b" 405 " in told_until_closed(connection, more=b"a")


def test_who_reads_nothing_is_left(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(b"GET /rows HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1)
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            for _ in range(400):  # what is not read yet comes first; then nothing is there any more
                threading.Event().wait(0.05)
                connection.sendall(b"a")


def test_who_goes_on_reading_and_who_waits_between_requests_are_kept(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_connections, "STALLED_S", 2.0)  # a busy machine lets this client stand, too
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(b"GET /rows HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(10):
            threading.Event().wait(0.25)  # more than the patience in all
            read = 0
            while read < 8 * MIB:
                part = len(connection.recv(MIB))
                assert part
                read += part
    with socket.create_connection(address, timeout=20) as connection:
        for _ in range(2):
            connection.sendall(REQUEST)
            assert b"200 OK" in connection.recv(65536)
            threading.Event().wait(1.0)


def test_a_wish_for_a_websocket_is_answered_like_any_request(address: tuple[str, int]) -> None:
    wish = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(REQUEST[:-2] + wish)
        assert b"200 OK" in connection.recv(65536)


def asked(app: Any, receive: Any, send: Any, *, path: str = "/", headers: Any = ()) -> None:
    scope = {"type": "http", "method": "GET", "path": path, "headers": [*headers], "query_string": b""}
    asyncio.run(app(scope, receive, send))


def test_only_headers_that_are_read_reach_the_application() -> None:
    """One that Serve acts upon, in no UTF-8, let it forget the request and keep what had come of its body for ever."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])

    kept = [(b"host", b"\xff"), (b"authorization", b"Bearer x"), (b"range", b"bytes=0-1"), (b"x-request-id", b"a-1")]
    dropped = [
        (b"x-request-timeout-seconds", b"\xff"),
        (b"x-request-disconnect-disabled", b"?1"),
        (b"serve_multiplexed_model_id", b"\xff"),
        (b"x-session-id", b"a"),
        (b"x-difflm-paced", b"1"),
        (b"x-request-id", b"\xff"),
        (b"x-request-id", b"a" * 1000),
    ]
    asked(KnownHeaders(app), None, None, headers=[*kept, *dropped])
    assert seen == kept


async def unbounded() -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"type": "http.request", "body": b"a" * 1000, "more_body": True}


def test_of_a_body_nothing_is_taken_once_the_answer_is_out() -> None:
    """A client that read nothing of its answers could send until the memory was full, without a key."""
    given: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:  # as Serve does: what comes is kept
        async def pump() -> None:
            while True:
                given.append(await receive())

        pumping = asyncio.ensure_future(pump())
        while len(given) < 10:
            await asyncio.sleep(0)
        before = len(given)
        await send({"type": "http.response.start", "status": 405, "headers": []})
        for _ in range(200):
            await asyncio.sleep(0)
        pumping.cancel()
        assert len(given) <= before + 1

    async def send(_: Any) -> None:
        pass

    bounded = BoundedBodies(app)
    asked(bounded, unbounded, send)
    assert given
    assert bounded.held == 0


def test_bodies_on_their_way_to_an_answer_are_bounded_together() -> None:
    """While no process could answer, all that came was kept."""
    bounded: BoundedBodies

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                while True:
                    await receive()
        assert bounded.held == 50_000

    bounded = BoundedBodies(app, max_held=50_000)
    asked(bounded, unbounded, None)
    assert bounded.held == 0


class Between:
    """What Serve has between a proxy and the application: queues without a bound, in both directions."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.most = self.queued = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        forth, back = asyncio.Queue[Any](), asyncio.Queue[Any]()

        async def queued(message: Any) -> None:
            self.queued += len(message.get("body", b""))
            self.most = max(self.most, self.queued)
            back.put_nowait(message)
            await asyncio.sleep(0)

        async def pump() -> None:
            while True:
                forth.put_nowait(await receive())

        async def run() -> None:
            await self._app(scope, forth.get, queued)
            back.put_nowait(None)

        tasks = [asyncio.ensure_future(pump()), asyncio.ensure_future(run())]
        while (message := await back.get()) is not None:
            self.queued -= len(message.get("body", b""))
            await send(message)
        for task in tasks:
            task.cancel()


def test_a_download_waits_on_the_disk_for_its_client(tmp_path: Path) -> None:
    """A file of any size went into the memory of the proxy as fast as it could be read."""
    path = tmp_path / "data.csv"
    path.write_bytes(bytes(32 * MIB))
    between = Between(PacedFile(path))
    said: list[Any] = []
    request = {"type": "http.request", "body": b"", "more_body": False}

    async def receive() -> Any:
        if request["type"] == "http.request":
            given = dict(request)
            request["type"] = "http.disconnect"
            return given
        return await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        said.append(message)
        await asyncio.sleep(0.001)  # a client that takes a little at a time

    asked(PacedDownloads(between), receive, send, path="/v1/jobs/0a/data")
    assert sum(len(message.get("body", b"")) for message in said) == 32 * MIB
    assert between.most <= 3 * MIB


def test_who_leaves_a_download_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(bytes(8 * MIB))
    left = asyncio.Event()

    async def receive() -> Any:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body"):
            left.set()

    async def ask() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"x-difflm-paced", b"1")]}
        async with asyncio.timeout(20):
            await PacedFile(path)(scope, receive, send)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(ask())


def test_an_answer_that_never_came_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve says nothing when the process that answers has ended, and uvicorn said "Internal Server Error"."""

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        pass

    app: Any = silent
    for middleware in middlewares():
        app = middleware.cls(app, *middleware.args, **middleware.kwargs)

    async def ask() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/v1/bundles")

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert answer.headers["x-content-type-options"] == "nosniff"
