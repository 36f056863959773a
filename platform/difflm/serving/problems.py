"""Problems: every answer that is no success, as {"error": {"code", "message", "field"}}.

`field` is null where none is meant. `problem_response` is the one place that writes them. `ToldProblems` puts them in
place of what libraries say, and `SafeHeaders` sees to the headers of every answer; Serve's proxies load both, so that
this module imports nothing heavy.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from difflm.errors import ConfigError, DataError, DiffLMError, OverloadError

UNPROCESSABLE = 422
RETRY_SOON_S = 1.0
SAFE_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_log = logging.getLogger(__name__)
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 408: {"Connection": "close"}}


class Problem(Exception):
    """An answer that is no success."""

    def __init__(
        self, status: int, code: str, message: str, *, field: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.field = status, code, message, field
        self.retry_after_s = retry_after_s

    @property
    def content(self) -> dict[str, dict[str, str | None]]:
        """The answer's body; text that is no Unicode is escaped."""
        message, field = _sound(self.message), None if self.field is None else _sound(self.field)
        return {"error": {"code": self.code, "message": message, "field": field}}

    @property
    def headers(self) -> dict[str, str]:
        """Retry-After in whole seconds, what the client may authenticate with, and the end of a slow connection: what
        still comes of its body would keep it open for ever.
        """
        headers = {} if self.retry_after_s is None else {"Retry-After": str(max(1, math.ceil(self.retry_after_s)))}
        return headers | _HEADERS.get(self.status, {}) | SAFE_HEADERS


FAULT = Problem(500, "internal", "the server has a fault; its log says more")


def invalid(field: str, message: str) -> Problem:
    """Describe a value that cannot be used."""
    return Problem(UNPROCESSABLE, "invalid", message, field=field)


def overloaded(message: str, retry_after_s: float = RETRY_SOON_S) -> Problem:
    """Say that the server has enough to do."""
    return Problem(429, "overloaded", f"{message}; try again later", retry_after_s=retry_after_s)


def loading(message: str) -> Problem:
    """Say that the server will be able to answer soon."""
    return Problem(503, "loading", message, retry_after_s=5.0)


def problem_response(problem: Problem) -> JSONResponse:
    """Build the answer that carries a problem."""
    return JSONResponse(problem.content, status_code=problem.status, headers=problem.headers)


def validation_problem(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """Describe the first thing that is wrong with a request, as pydantic tells it."""
    first = errors[0]
    place, kind = [str(part) for part in first["loc"]], str(first["type"])
    if kind == "json_invalid":
        return Problem(400, "invalid_json", "the body is not JSON in UTF-8", field="body")
    field = ".".join(place[1:]) or "body"
    message = str(first["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        message = "there is no such field"
    elif kind == "missing" and field == "body":
        message = "a body in JSON is needed"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return invalid(field, message + more)


def _sound(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class SafeHeaders:
    """An ASGI application whose answers are kept by nobody and are nothing but what they say, whoever made them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, safe)


class ToldProblems:
    """An ASGI application whose answers in plain text that are no success become problems, whoever made them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = told = False

        async def translated(message: Message) -> None:
            nonlocal began, told
            if message["type"] == "http.response.start":
                began = True
                if (answer := _told(message)) is not None:
                    told = True
                    await answer(scope, receive, send)
            if not told:
                await send(message)

        try:
            await self._app(scope, receive, translated)
        except ClientDisconnect:
            raise
        except Exception:
            if began:
                raise
            _log.exception("a request met a fault of the server")
            await problem_response(FAULT)(scope, receive, send)
        else:
            if not began:  # what answers has ended meanwhile; where the client has, nobody reads this
                await problem_response(_TOLD[503])(scope, receive, send)


_TOLD = {
    404: Problem(404, "not_found", "there is nothing here"),
    408: Problem(408, "slow", "the answer took too long", retry_after_s=RETRY_SOON_S),
    416: Problem(416, "range", "the file has no such part", field="range"),
    429: overloaded("there is enough to do"),
    500: FAULT,
    503: Problem(503, "unavailable", "no process can answer now; try again later", retry_after_s=RETRY_SOON_S),
}


def _told(start: Message) -> Response | None:
    """Return the problem in place of a plain answer; None for one that says itself what it is."""
    status, headers = int(start["status"]), Headers(scope=start)
    if status < 400 or not headers.get("content-type", "text/plain").startswith("text/plain"):
        return None
    answer = problem_response(_TOLD.get(status) or Problem(status, "refused", "the request cannot be used"))
    for name, value in headers.items():
        if name not in ("content-type", "content-length"):
            answer.headers[name] = value
    return answer


def said(error: DiffLMError, folder: str) -> str:
    """Return what an error says without the server's paths: `folder` is the bundle's."""
    return str(error).removeprefix(f"{folder}: ").replace(f"{folder}/", "")


def problem_of(error: DiffLMError, folder: str) -> Problem:
    """Return what whoever asked is told of an error."""
    if isinstance(error, OverloadError):
        return overloaded(str(error))
    if isinstance(error, ConfigError | DataError):
        return invalid("body", said(error, folder))
    return unavailable(said(error, folder))


def unavailable(message: str) -> Problem:
    """Return the problem of what may work later."""
    return Problem(503, "unavailable", f"{message}; try again", retry_after_s=5.0)
