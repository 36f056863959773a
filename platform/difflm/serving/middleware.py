"""Middleware: what every request passes before anything is read of it, as plain ASGI around the application.

It knows the caller's key, holds requests and bytes within bounds, reads bodies in bounded time, and counts.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from difflm.serving.config import ServeConfig
from difflm.serving.limits import KeyRing, Traffic
from difflm.serving.metrics import ServerMetrics
from difflm.serving.playground import PLAYGROUND_PATHS
from difflm.serving.problems import FAULT, Problem, overloaded, problem_response
from difflm.serving.shares import Shares

BODIES = 16  # as many bodies of the largest size are in memory at most
ANONYMOUS = "anonymous"
_UNANSWERED = 499
_BLOCK = 64 * 1024  # bytes of a body that are counted at a time
_PIECES = 64  # of a body, between two turns of others
_log = logging.getLogger(__name__)
_ONCE = ("host", "authorization", "origin")
_OPEN = (*PLAYGROUND_PATHS, "/healthz", "/readyz", "/openapi.json")


class RequestMiddleware:
    """An ASGI application in front of another. `ring` is None where nobody needs a key."""

    def __init__(
        self, app: ASGIApp, *, config: ServeConfig, ring: KeyRing | None, metrics: ServerMetrics, traffic: Traffic
    ) -> None:
        self._app, self._limits, self._ring, self._metrics, self._traffic = app, config.limits, ring, metrics, traffic
        keyed = ring is not None and not config.http.allowed_hosts  # a page does not know the key
        self._hosts = None if keyed else config.hosts
        self._origins = frozenset(config.http.cors_origins)
        self._bodies = Shares(BODIES * config.limits.body_bytes, () if ring is None else ring.owners)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), _UNANSWERED

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._pass(scope, receive, counted)
        except Problem as problem:
            await problem_response(problem)(scope, receive, counted)
        except ClientDisconnect:
            raise
        except Exception:
            _log.exception("a request met a fault of the server")
            if status != _UNANSWERED:
                raise  # the connection ends: what was begun cannot be told otherwise
            await problem_response(FAULT)(scope, receive, counted)
        finally:
            self._metrics.answered(scope["path"], status, time.monotonic() - began)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _single(scope["headers"])
        self._check_host(headers)
        if scope["path"] in _OPEN or scope["method"] == "OPTIONS":
            await self._app(scope, receive, send)
            return
        owner = self._owner(headers)
        scope.setdefault("state", {})["owner"] = owner
        with self._traffic.one(owner):
            self._charge(owner)  # what is refused costs nothing
            if scope["method"] in ("POST", "PUT", "PATCH"):
                await self._with_body(headers, owner, scope, receive, send)
            else:
                await self._app(scope, receive, send)

    def _owner(self, headers: Mapping[str, str]) -> str:
        if self._ring is None:
            return ANONYMOUS
        owner = self._ring.owner(headers.get("authorization", ""))
        if owner is None:
            raise Problem(401, "unauthorized", "give a key: Authorization: Bearer difflm_...", field="authorization")
        return owner

    def _charge(self, owner: str) -> None:
        wait_s = 0.0 if self._ring is None else self._ring.spend(owner, "requests", 1)
        if wait_s > 0:
            raise Problem(429, "rate_limited", f"{owner}: too many requests a minute", retry_after_s=wait_s)

    def _check_host(self, headers: Mapping[str, str]) -> None:
        """Refuse what a web page sends here: by a name that leads here, or from another origin."""
        if self._hosts is None:
            return
        host = headers.get("host", "").lower()
        name = host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]
        if name not in self._hosts:
            raise Problem(403, "host", "this server goes by another name; see http.allowed_hosts", field="host")
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and origin.lower().partition("://")[2] != host:
            raise Problem(403, "origin", "pages of other origins may not ask; see http.cors_origins", field="origin")

    async def _with_body(
        self, headers: Mapping[str, str], owner: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._limits.body_bytes:
            raise self._too_large()
        with self._room(owner) as take:
            try:
                async with asyncio.timeout(self._limits.upload_s):
                    body = await self._read(receive, take)
            except TimeoutError:
                message = f"the body took more than {self._limits.upload_s:g} s"
                raise Problem(408, "slow", message, field="body") from None
            if body is not None:
                await self._app(scope, _replayed(body, receive), send)

    @contextmanager
    def _room(self, owner: str) -> Iterator[Callable[[int], None]]:
        """Hold room for a body within the block; call what it gives with the bytes that there are, as they grow."""
        held = 0

        def take(size: int) -> None:
            nonlocal held
            while held < size:
                if not self._bodies.take(owner, _BLOCK):
                    raise overloaded("too many large bodies are under way")
                held += _BLOCK

        try:
            yield take
        finally:
            self._bodies.add(owner, -held)

    async def _read(self, receive: Receive, take: Callable[[int], None]) -> bytes | None:
        """Read a whole body; None when the client went away meanwhile. Time and memory go with its bytes alone."""
        body = bytearray()
        for count in itertools.count(1):
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._limits.body_bytes:
                raise self._too_large()
            take(len(body))
            if not message.get("more_body", False):
                break
            if count % _PIECES == 0:  # what has arrived is given without waiting, and nobody else would have a turn
                await asyncio.sleep(0)
        return bytes(body)

    def _too_large(self) -> Problem:
        return Problem(413, "too_large", f"a body has {self._limits.body_bytes:,} bytes at most", field="body")


def _single(given: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by name; raise Problem where one of `_ONCE` comes twice, of which whatever stands in front of this
    server may have looked at the other one.
    """
    headers: dict[str, str] = {}
    for raw, value in given:
        name = raw.decode("latin-1").lower()
        if name in _ONCE and name in headers:
            raise Problem(400, "headers", f"the header {name} comes more than once", field=name)
        headers[name] = value.decode("latin-1")
    return headers


class CorsProblems(CORSMiddleware):
    """Starlette's CORS, whose refusals are problems like all others."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer what a browser asks before a page's request."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        what = bytes(answer.body).decode().removeprefix("Disallowed CORS ")
        problem = problem_response(Problem(answer.status_code, "cors", f"pages may not ask so: {what}", field=what))
        problem.headers.update({name: value for name, value in answer.headers.items() if "content-" not in name})
        return problem


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give the body in one message, then whatever comes."""
    message: Message | None = {"type": "http.request", "body": body, "more_body": False}

    async def again() -> Message:
        nonlocal message
        if message is not None:
            first, message = message, None
            return first
        return await receive()

    return again
