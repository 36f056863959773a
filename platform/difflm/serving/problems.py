"""Problems: every answer that is no success, as {"error": {"code", "message", "field"}}.

`field` is null where none is meant. `problem_response` is the one place that writes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse

UNPROCESSABLE = 422
RETRY_SOON_S = 1.0
SAFE_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
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
