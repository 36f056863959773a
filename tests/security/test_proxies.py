"""What Serve's proxies and uvicorn say by themselves: one form, whoever answers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from difflm.runtime import cluster
from difflm.runtime.proxy_requests import BoundedBodies, KnownHeaders, PacedDownloads
from difflm.runtime.serve_processes import CALLBACK, middlewares
from difflm.serving.problems import SafeHeaders, ToldProblems
from difflm.testing.servers import running

REPOSITORY = Path(__file__).resolve().parents[2]
HEADERS = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40),  # TLS on a port without
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"no http at all\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
]


async def proxied(scope: Any, receive: Any, send: Any) -> None:
    """As Serve's proxy answers by itself; `/ours` is an answer of the application behind it."""
    status = {"/gone": 404, "/late": 408, "/none": 503, "/odd": 418}.get(scope["path"])
    if scope["path"] == "/broken":
        raise ZeroDivisionError
    if scope["path"] == "/ours":
        await JSONResponse({"error": "ours"}, status_code=404)(scope, receive, send)
    elif status is not None:
        await PlainTextResponse(f"Path '{scope['path']}' <script>", status_code=status)(scope, receive, send)
    else:
        await PlainTextResponse("success")(scope, receive, send)


def wrapped() -> Any:
    """The proxy's application as Serve wraps it, the last one outermost."""
    app: Any = proxied
    for middleware in middlewares():
        app = middleware.cls(app, *middleware.args, **middleware.kwargs)
    return app


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/gone", 404, "not_found"),
        ("/late", 408, "slow"),
        ("/none", 503, "unavailable"),
        ("/odd", 418, "refused"),
        ("/broken", 500, "internal"),
    ],
)
def test_what_a_proxy_says_by_itself_is_a_problem(path: str, status: int, code: str) -> None:
    async def ask() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=wrapped())
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path)

    answer = asyncio.run(ask())
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert "script" not in answer.text
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_answers_of_the_application_pass_as_they_are() -> None:
    async def ask(path: str) -> httpx2.Response:
        transport = httpx2.ASGITransport(app=wrapped())
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path)

    assert asyncio.run(ask("/ours")).json() == {"error": "ours"}
    success = asyncio.run(ask("/-/healthz"))
    assert (success.status_code, success.text) == (200, "success")
    assert {name: success.headers[name] for name in HEADERS} == HEADERS


@pytest.fixture(scope="module", params=["httptools", "h11"])
def address(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """A server of uvicorn with one of its two parsers, in a process that a proxy's callback prepared."""
    middlewares()

    async def owner(asked: Request) -> PlainTextResponse:
        await asked.body()
        return PlainTextResponse(asked.headers.get("authorization", "nobody"))

    owned = Route("/owner", owner, methods=["POST"])
    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("ok")), owned])
    with running(uvicorn.Config(app, http=request.param, ws="none", log_level="critical", lifespan="off")) as served:
        yield served


@pytest.mark.parametrize("number", range(len(GARBAGE)))
def test_what_is_no_http_is_told_as_a_problem(address: tuple[str, int], number: int) -> None:
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(GARBAGE[number])
        said = bytearray()
        while part := connection.recv(65536):
            said += part
            if b" 200 OK" in said:
                return  # this parser takes it for HTTP
    head, _, body = bytes(said).partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert lines[0] == "http/1.1 400 bad request"
    assert json.loads(body) == {"error": {"code": "invalid_http", "message": "the request is no HTTP", "field": None}}
    assert {name: headers[name] for name in HEADERS} == HEADERS
    assert int(headers["content-length"]) == len(body)
    assert headers["connection"] == "close"


def test_what_comes_behind_a_body_is_no_header(address: tuple[str, int]) -> None:
    """It counted as a key, or as the host, which no proxy in front had looked at."""
    head = b"POST /owner HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(head + b"\r\n1\r\na\r\n0\r\nAuthorization: Ann\r\n\r\n")
        connection.sendall(head + b"Authorization: Bob\r\nConnection: close\r\n\r\n0\r\n\r\n")
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b"nobody" in said
    assert b"Ann" not in said
    assert said.endswith(b"Bob"), "those of the next request count"


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"anything"])
@pytest.mark.parametrize("framing", [b"Content-Length: %d", b"Transfer-Encoding: chunked"])
def test_a_body_behind_a_wish_for_another_protocol_is_no_request(
    address: tuple[str, int], upgrade: bytes, framing: bytes
) -> None:
    """Its body was not read, and the next packet of it was taken for a request of the connection's next client."""
    hidden = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: " + upgrade + b"\r\n"
    body = hidden if b"%" in framing else b"%x\r\n%s\r\n0\r\n\r\n" % (len(hidden), hidden)
    with socket.create_connection(address, timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(head + (framing % len(body) if b"%" in framing else framing) + b"\r\n\r\n")
        said = connection.recv(65536)
        try:
            connection.sendall(body + b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while part := connection.recv(65536):
                said += part
        except OSError:
            pass  # it was closed while we wrote
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", said)
    assert statuses in ([b"400"], [b"405", b"200"]), "404 is the hidden one's"


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket"])
def test_a_wish_for_another_protocol_alone_is_passed_over(address: tuple[str, int], upgrade: bytes) -> None:
    with socket.create_connection(address, timeout=20) as connection:
        for _ in range(2):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: " + upgrade + b"\r\n\r\n")
            said = connection.recv(65536)
            while not said.endswith(b"ok"):  # it may come in two pieces
                said += connection.recv(65536)
            assert b" 200 " in said


HEADERS_WITHOUT_END = b"".join(b"X%06d: aaaaaaaaaaaaaa\r\n" % number for number in range(2_500))
ENDLESS = {
    "one header": (b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"a" * 2**16),
    "many headers": (
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        HEADERS_WITHOUT_END,
    ),
    "a path": (b"GET /", b"a" * 2**16),
    "trailers": (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
        HEADERS_WITHOUT_END,
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_head_that_never_ends_is_refused(address: tuple[str, int], name: str) -> None:
    """One connection could take all memory of a proxy, before any key was looked at."""
    first, more = ENDLESS[name]
    with socket.create_connection(address, timeout=20) as connection:
        said = b""
        try:
            connection.sendall(first)
            for _ in range(64):
                connection.sendall(more)
            said = connection.recv(65536)
        except OSError:
            return  # it was closed while we wrote
        assert said == b"" or said.split(b"\r\n")[0].split(b" ")[1] in (b"431", b"400", b"405")


def test_long_bodies_and_many_requests_pass(address: tuple[str, int]) -> None:
    body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % 2**20 + b"a" * 2**20
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(body)
        assert b" 405 " in connection.recv(65536)
    for _ in range(3):
        with socket.create_connection(address, timeout=20) as connection:
            for _ in range(40):
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 5_000 + b"\r\n\r\n")
                said = connection.recv(65536)
                while not said.endswith(b"ok"):  # it may come in two pieces
                    said += connection.recv(65536)
                assert b" 200 " in said


def test_a_proxy_loads_no_more_than_it_needs() -> None:
    """With torch a proxy took so long to start that Serve gave it up on a busy machine."""
    code = "import sys, difflm.runtime.serve_processes; print({'torch', 'pyarrow', 'numpy', 'ray'} & set(sys.modules))"
    roots = os.pathsep.join(str(REPOSITORY / root) for root in ("platform", "evaluators", "jobs"))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": roots},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"


def test_local_clusters_call_back() -> None:
    assert cluster._DEFAULTS["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] == CALLBACK
    around = [middleware.cls for middleware in middlewares()]
    assert around == [PacedDownloads, BoundedBodies, KnownHeaders, SafeHeaders, ToldProblems]
