"""What an answer says: its rows, or the error that it stands for; and how long to wait before asking again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx2
from tenacity import RetryCallState, wait_exponential_jitter

from difflm.errors import RunError, UserError

Row = dict[str, Any]
_PASSING = (429, 503)
_LONGEST_WAIT_S = 120.0


class RequestError(UserError):
    """What was asked for cannot be had; `field` names the part of the request that is meant."""

    def __init__(self, message: str, *, status: int, code: str, field: str | None) -> None:
        super().__init__(message)
        self.status, self.code, self.field = status, code, field


class BusyError(RunError):
    """The server cannot answer now; `retry_after_s` is what it said last."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ServerError(RunError):
    """The server failed, or what answered is none."""


def check(answer: httpx2.Response) -> None:
    """Raise the error of an answer that is no success; its body has been read."""
    if answer.status_code < 400:
        return
    try:
        error: Mapping[str, Any] = answer.json()["error"]
        message, code, field = str(error["message"]), str(error["code"]), error["field"]
    except (ValueError, KeyError, TypeError):
        message, code, field = f"the server answered {answer.status_code}", "unknown", None
    if answer.status_code in _PASSING:
        said = answer.headers.get("retry-after", "")
        raise BusyError(message, retry_after_s=float(said) if said.isdecimal() else None)
    if answer.status_code >= 500:
        raise ServerError(f"{message} ({answer.status_code})")
    named = message if field is None else f"{field}: {message}"
    raise RequestError(named, status=answer.status_code, code=code, field=field)


def unreachable(error: httpx2.TransportError) -> BusyError | ServerError:
    """Return the error of a request without an answer; a connection that was never made may be tried again."""
    if isinstance(error, httpx2.ConnectError):
        return BusyError(f"no connection to the server ({error})")
    return ServerError(f"the connection broke ({type(error).__name__})")


def broken_stream(error: httpx2.TransportError) -> ServerError:
    """Return the error of a stream that ended before its last row."""
    return ServerError(f"the stream broke ({type(error).__name__}); ask again with the same seed")


def wait_s(state: RetryCallState) -> float:
    """Return the seconds to wait: those of `Retry-After`, otherwise exponentially more with every attempt."""
    error = None if state.outcome is None else state.outcome.exception()
    if isinstance(error, BusyError) and error.retry_after_s is not None:
        return min(error.retry_after_s, _LONGEST_WAIT_S)
    return float(wait_exponential_jitter(multiplier=0.5, max=20.0)(state))


def content(answer: httpx2.Response) -> bytes:
    """Return the bytes of a file."""
    return answer.content


def document(answer: httpx2.Response) -> Row:
    """Parse an answer as a JSON object."""
    found: Row = answer.json()
    return found


def latents(answer: httpx2.Response) -> list[list[float]]:
    """Return the latent means of an answer."""
    found: list[list[float]] = answer.json()["latents"]
    return found


def nothing(_: httpx2.Response) -> None:
    """Return nothing: the answer has no body to read."""


def rows(answer: httpx2.Response) -> list[Row]:
    """Return the rows of an answer. Raises RequestError for a job."""
    if answer.status_code == 202:
        name = answer.json()["id"]
        raise RequestError(
            f"n: so many rows are a job, {name}; ask for it with begin_job and wait_for_job", status=202, code="job",
            field="n",
        )  # fmt: skip
    found: list[Row] = answer.json()["rows"]
    return found


def streamed_row(line: str) -> Row:
    """Parse the row of a line. Raises ServerError for a last line that reports why the stream ended."""
    try:
        row: Row = json.loads(line)
    except (ValueError, RecursionError) as fault:
        raise ServerError(f"the stream holds what is no row ({fault}); is this the address of the server?") from fault
    error = row.get("error")
    if isinstance(error, dict) and set(error) == {"code", "message", "field"}:
        raise ServerError(f"the stream ended early: {error['message']}")
    return row


def data_path(job: Row) -> str | None:
    """Return the path of a job's rows; None while there are none. Raises ServerError for a job that failed."""
    if job["state"] == "failed":
        raise ServerError(f"job {job['id']}: {job['error']}")
    return str(job["data"]) if job["state"] == "finished" else None
