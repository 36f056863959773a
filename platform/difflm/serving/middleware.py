"""The gate: what every request passes before anything is read of it, as plain ASGI around the application.

It knows the caller's key, holds requests and bytes within bounds, reads bodies in bounded time, and counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from difflm.serving.config import LimitsConfig
from difflm.serving.limits import KeyRing, Traffic
from difflm.serving.metrics import ServerMetrics
from difflm.serving.playground import PLAYGROUND_PATHS
from difflm.serving.problems import Problem, overloaded, problem_response

BODIES = 16  # as many bodies of the largest size are in memory at most
ANONYMOUS = "anonymous"
_OPEN = (*PLAYGROUND_PATHS, "/healthz", "/readyz", "/openapi.json")


class Gate:
    """An ASGI application in front of another. `ring` is None where nobody needs a key."""

    def __init__(
        self, app: ASGIApp, *, limits: LimitsConfig, ring: KeyRing | None, metrics: ServerMetrics, traffic: Traffic
    ) -> None:
        self._app, self._limits, self._ring, self._metrics, self._traffic = app, limits, ring, metrics, traffic
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 499

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._pass(scope, receive, counted)
        except Problem as problem:
            await problem_response(problem)(scope, receive, counted)
        finally:
            self._metrics.answered(scope["path"], status, time.monotonic() - began)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["path"] in _OPEN or scope["method"] == "OPTIONS":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})["owner"] = self._owner(headers)
        with self._traffic.one():
            if scope["method"] in ("POST", "PUT", "PATCH"):
                await self._with_body(headers, scope, receive, send)
            else:
                await self._app(scope, receive, send)

    def _owner(self, headers: Mapping[str, str]) -> str:
        if self._ring is None:
            return ANONYMOUS
        owner = self._ring.owner(headers.get("authorization", ""))
        if owner is None:
            raise Problem(401, "unauthorized", "give a key: Authorization: Bearer difflm_...", field="authorization")
        wait_s = self._ring.spend(owner, "requests", 1)
        if wait_s > 0:
            raise Problem(429, "rate_limited", f"{owner}: too many requests a minute", retry_after_s=wait_s)
        return owner

    async def _with_body(self, headers: Mapping[str, str], scope: Scope, receive: Receive, send: Send) -> None:
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._limits.body_bytes:
            raise self._too_large()
        pieces: list[bytes] = []
        try:
            try:
                async with asyncio.timeout(self._limits.upload_s):
                    whole = await self._read(receive, pieces)
            except TimeoutError:
                message = f"the body took more than {self._limits.upload_s:g} s"
                raise Problem(408, "slow", message, field="body") from None
            if whole:
                await self._app(scope, _replayed(b"".join(pieces), receive), send)
        finally:
            self._bytes -= sum(map(len, pieces))

    async def _read(self, receive: Receive, pieces: list[bytes]) -> bool:
        """Read a body into `pieces`; False when the client went away meanwhile."""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            pieces.append(message.get("body", b""))
            self._bytes += len(pieces[-1])
            if sum(map(len, pieces)) > self._limits.body_bytes:
                raise self._too_large()
            if self._bytes > BODIES * self._limits.body_bytes:
                raise overloaded("too many large bodies are under way")
            if not message.get("more_body", False):
                return True

    def _too_large(self) -> Problem:
        return Problem(413, "too_large", f"a body has {self._limits.body_bytes:,} bytes at most", field="body")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body in one message, then whatever comes."""
    message: Message | None = {"type": "http.request", "body": body, "more_body": False}

    async def again() -> Message:
        nonlocal message
        if message is not None:
            first, message = message, None
            return first
        return await receive()

    return again
