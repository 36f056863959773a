"""Requests on their way through Serve's proxies: known headers, bounded bodies, downloads at their client's pace.

Between a proxy and the gateway Serve has queues without a bound, and a header of a client may change what Serve does.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from difflm.serving.paced import PACED, TAKEN

_READ = frozenset(
    b"host origin authorization content-type content-length range if-range access-control-request-method "
    b"access-control-request-headers".split()
)
_REQUEST_ID = b"x-request-id"
_PLAIN_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_NO_TIMEOUT = (b"x-request-timeout-seconds", b"0")  # for Serve, of one request
_MAX_HELD = 512 * 2**20  # bytes of bodies that are on their way to answers
_AGAIN_S = 0.05
_DOWNLOAD = re.compile(r"/v1/jobs/[^/]+/data")
_STEP = 256 * 1024  # bytes that a client takes before the gateway is told


class KnownHeaders:
    """An ASGI application that sees the headers which the endpoint reads, and none that Serve would act upon.

    Among those are the time that a request may take and whether it ends with its client; one of them that is no UTF-8
    let Serve forget the request, and never what came of its body.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if _is_read(name, value)]}
        await self._app(scope, receive, send)


def _is_read(name: bytes, value: bytes) -> bool:
    return name in _READ or (name == _REQUEST_ID and _PLAIN_ID.fullmatch(value) is not None)


class BoundedBodies:
    """An ASGI application that gets no more of a body once it answers, and of all bodies only so much before.

    Serve takes from a client all that it sends, as fast as it comes and whether somebody reads it or not; what waits
    here waits with the client.
    """

    def __init__(self, app: ASGIApp, max_held: int = _MAX_HELD) -> None:
        self._app, self._max_held = app, max_held
        self.held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        held, answered = 0, False

        async def bounded() -> Message:
            nonlocal held
            while True:
                while self.held >= self._max_held and not answered:
                    await asyncio.sleep(_AGAIN_S)
                message = await receive()
                if message["type"] != "http.request":
                    return message
                if not answered:
                    size = len(message.get("body", b""))
                    held, self.held = held + size, self.held + size
                    return message
                if not message.get("more_body", False):
                    return {**message, "body": b""}

        async def watched(message: Message) -> None:
            nonlocal held, answered
            if message["type"] == "http.response.start":
                answered, held, self.held = True, 0, self.held - held
            await send(message)

        try:
            await self._app(scope, bounded, watched)
        finally:
            self.held -= held


class PacedDownloads:
    """An ASGI application that hears how much of a job's rows its client has taken, so that a file which is larger than
    memory waits on the disk and not here. Such an answer may take as long as its client goes on reading.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _DOWNLOAD.fullmatch(scope["path"]) is None:
            await self._app(scope, receive, send)
            return
        scope = {**scope, "headers": [*scope["headers"], (PACED, b"1"), _NO_TIMEOUT]}
        taken = told = 0
        news = asyncio.Event()
        coming: asyncio.Future[Message] | None = None

        async def counted(message: Message) -> None:
            nonlocal taken
            await send(message)  # waits while the client has much before it
            taken += len(message.get("body", b""))
            if taken - told >= _STEP:
                news.set()

        async def received() -> Message:
            nonlocal coming, told
            coming = asyncio.ensure_future(receive()) if coming is None else coming
            heard = asyncio.ensure_future(news.wait())
            waited: set[asyncio.Future[Any]] = {coming, heard}
            try:
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            finally:
                heard.cancel()
            if coming.done():
                message, coming = coming.result(), None
                return message
            news.clear()
            told = taken
            return {"type": TAKEN, "bytes": told}

        try:
            await self._app(scope, received, counted)
        finally:
            if coming is not None:
                coming.cancel()
                with suppress(asyncio.CancelledError):
                    await coming
