"""What Serve's proxy and a replica have between them, without a cluster: clients that would fill its queues."""

from __future__ import annotations

import asyncio
import pickle
import socket
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from starlette.responses import PlainTextResponse, StreamingResponse

from difflm.runtime.serve_processes import middlewares
from difflm.serving.paced import PacedFile
from difflm.testing.processes import wait_until

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own, of its models
    from ray.serve._private.common import RequestMetadata
    from ray.serve._private.http_util import ASGIReceiveProxy, MessageQueue
    from ray.serve._private.proxy import HTTPProxy
    from ray.serve._private.proxy_request_response import ASGIProxyRequest, ResponseStatus
    from ray.serve.handle import DeploymentResponseGenerator

MIB = 2**20
LARGE = 48 * MIB


class Replica(DeploymentResponseGenerator):
    """An answer of an application, which runs behind the queues that Serve's replicas have."""

    def __init__(self, messages: AsyncIterator[bytes], running: asyncio.Task[None]) -> None:
        self._messages, self._running = messages, running

    async def __anext__(self) -> bytes:
        return await anext(self._messages)

    def cancel(self) -> None:
        self._running.cancel()


class Serve:
    """An application behind Serve's proxy; counts the bytes of both directions that are in its queues."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.proxy = HTTPProxy.__new__(HTTPProxy)
        self.proxy.asgi_receive_queues, self.proxy.self_actor_name = {}, "proxy"
        self.proxy.request_timeout_s = 60.0
        self.held = self.most = self.taken = 0  # bytes of answers on their way, and of bodies that came to a replica

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        name = f"{id(scope)}"
        request = ASGIProxyRequest(scope=scope, receive=receive, send=send)
        handle: Any = SimpleNamespace(remote=lambda _: self._replica(scope, name))
        async for message in self.proxy.send_request_to_replica(name, name, handle, request):
            if not isinstance(message, ResponseStatus):
                await send(message)

    def _replica(self, scope: Any, name: str) -> Replica:
        metadata = RequestMetadata(request_id=name, internal_request_id=name)
        queue = MessageQueue()

        async def fetch(asked: RequestMetadata) -> bytes:
            fetched = await self.proxy.receive_asgi_messages(asked)
            self.taken += size_of(fetched)
            return pickle.dumps(fetched)

        async def run() -> None:
            receive = ASGIReceiveProxy(scope, metadata, fetch)
            fetching = asyncio.create_task(receive.fetch_until_disconnect())
            try:
                await self._app(scope, receive, queue)
            finally:
                fetching.cancel()

        running = asyncio.create_task(run())

        arrived = asyncio.Queue[Any]()

        async def push() -> None:  # as a replica does, whether the proxy has taken the last piece or not
            async for batch in queue.fetch_messages_from_queue(running):
                self.held += size_of(batch)
                self.most = max(self.most, self.held)
                arrived.put_nowait(batch)
            arrived.put_nowait(None)

        async def messages() -> AsyncIterator[bytes]:
            pushing = asyncio.create_task(push())
            while (batch := await arrived.get()) is not None:
                self.held -= size_of(batch)
                yield pickle.dumps(batch)
            await pushing

        return Replica(messages(), running)


def size_of(messages: Any) -> int:
    return sum(len(message.get("body", b"")) for message in messages)


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield bytes(2**16)
        await asyncio.sleep(0.001)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[tuple[Serve, tuple[str, int]]]:
    """A proxy of Serve in uvicorn, and its address; jobs have a large file, all else is short and reads no body."""
    path = tmp_path / "data.csv"
    path.write_bytes(bytes(LARGE))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        answer: Any = PlainTextResponse("ok")
        if scope["path"].startswith("/v1/jobs/"):
            answer = PacedFile(path)
        elif scope["path"] == "/rows":
            answer = StreamingResponse(endless())
        await answer(scope, receive, send)

    served = Serve(app)
    around: Any = served
    for middleware in middlewares():
        around = middleware.cls(around, *middleware.args, **middleware.kwargs)
    config = uvicorn.Config(around, http="httptools", ws="none", log_level="critical", lifespan="off")
    running = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield served, listener.getsockname()
        finally:
            running.should_exit = True
            thread.join()


def head(path: str, *headers: bytes, method: str = "GET") -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n".encode() + lines + b"\r\n"


def test_rows_of_a_job_come_whole_and_wait_on_the_disk(serve: tuple[Serve, tuple[str, int]]) -> None:
    served, address = serve
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(head("/v1/jobs/0a/data", b"Connection: close"))
        said = 0
        while part := connection.recv(2**16):
            said += len(part)
            time.sleep(0.001)  # slower than a disk
    assert said > LARGE
    assert served.most <= 3 * MIB
    wait_until(lambda: not served.proxy.asgi_receive_queues, what="the end of the queues", timeout_s=20)


def test_a_body_behind_an_answer_that_nobody_reads_does_not_pile_up(serve: tuple[Serve, tuple[str, int]]) -> None:
    """Without a key one connection could fill the memory of a proxy."""
    served, address = serve
    chunk = b"10000\r\n" + bytes(2**16) + b"\r\n"
    with socket.create_connection(address, timeout=2) as connection:
        connection.sendall(head("/rows", b"Transfer-Encoding: chunked", method="POST"))
        assert connection.recv(1)
        began = time.monotonic()
        with suppress(TimeoutError):  # nobody takes any more of it
            while time.monotonic() - began < 5 and served.taken < 32 * MIB:
                connection.sendall(chunk)
    assert served.taken < 8 * MIB


@pytest.mark.parametrize("name", [b"x-request-timeout-seconds", b"x-request-disconnect-disabled"])
def test_a_header_for_serve_leaves_nothing_behind(serve: tuple[Serve, tuple[str, int]], name: bytes) -> None:
    served, address = serve
    for _ in range(3):
        with socket.create_connection(address, timeout=60) as connection:
            connection.sendall(head("/", name + b": \xff", b"Connection: close"))
            said = b"".join(iter(lambda: connection.recv(MIB), b""))
        assert b" 200 " in said.split(b"\r\n")[0]
    wait_until(lambda: not served.proxy.asgi_receive_queues, what="the end of the queues", timeout_s=20)
