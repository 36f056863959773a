"""What an answer says: its rows, or the error that it stands for; and how long to wait before asking again."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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


def check(answer: httpx2.Response, *, job: bool = False) -> None:
    """Raise the error of an answer that is no success, or is rows where a `job` was to begin, or a job where none was;
    its body has been read.
    """
    if answer.is_success:
        _check_kind(answer, job=job)
        return
    try:
        error: Mapping[str, Any] = answer.json()["error"]
        message, code, field = str(error["message"]), str(error["code"]), error["field"]
    except (ValueError, KeyError, TypeError, RecursionError):
        message, code, field = f"the server answered {answer.status_code}", "unknown", None
    if answer.status_code < 400:
        raise ServerError(f"the server leads elsewhere ({answer.status_code}); is this its address?")
    if answer.status_code in _PASSING:
        said = answer.headers.get("retry-after", "")
        raise BusyError(message, retry_after_s=float(said) if said.isdecimal() else None)
    if answer.status_code >= 500:
        raise ServerError(f"{message} ({answer.status_code})")
    named = message if field is None else f"{field}: {message}"
    raise RequestError(named, status=answer.status_code, code=code, field=field)


def _check_kind(answer: httpx2.Response, *, job: bool) -> None:
    status = answer.status_code
    if status == 202 and not job:
        with of_a_server():
            name = answer.json()["id"]
        message = f"n: so many rows are a job, {name}; ask for it with begin_job and wait_for_job"
        raise RequestError(message, status=status, code="job", field="n")
    if status == 200 and job:
        raise RequestError("n: so few rows are no job; ask with sample", status=status, code="no_job", field="n")
    if answer.headers.get("content-type", "").startswith("text/html"):
        raise ServerError("a page for people answered; is this the address of the server?")


@contextmanager
def of_a_server() -> Iterator[None]:
    """Raise ServerError within the block for an answer that cannot be one of this server."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as fault:
        raise ServerError(f"the answer is none of a server ({type(fault).__name__}); is this its address?") from fault


def unreachable(error: httpx2.RequestError) -> BusyError | ServerError:
    """Return the error of a request without an answer; a connection that was never made may be tried again."""
    if isinstance(error, httpx2.ConnectError):
        return BusyError(f"no connection to the server ({error})")
    return ServerError(f"the connection broke ({type(error).__name__})")


def broken_stream(error: httpx2.RequestError) -> ServerError:
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


def file_of_rows(answer: httpx2.Response, *, wanted: int) -> bytes:
    """Return the bytes of a file of rows; warn of those that had no valid draw."""
    warn_of_missing(wanted, wanted - int(answer.headers.get("x-difflm-given-up", "0")))
    return content(answer)


def document(answer: httpx2.Response) -> Row:
    """Parse an answer as a JSON object."""
    found = answer.json()
    if not isinstance(found, dict):
        raise TypeError(found)
    return found


def _listed(answer: httpx2.Response, name: str) -> list[Any]:
    found = document(answer)[name]
    if not isinstance(found, list):
        raise TypeError(found)
    return found


def latents(answer: httpx2.Response) -> list[list[float]]:
    """Return the latent means of an answer."""
    return _listed(answer, "latents")


def bundles(answer: httpx2.Response) -> list[Row]:
    """Return the bundles of an answer."""
    return _listed(answer, "bundles")


def rows(answer: httpx2.Response) -> list[Row]:
    """Return the rows of an answer; warn of those that had no valid draw."""
    found, given_up = _listed(answer, "rows"), answer.json().get("given_up", [])
    warn_of_missing(len(found) + len(given_up), len(found))
    return found


def filled_rows(answer: httpx2.Response) -> list[Row]:
    """Return the rows of an answer, each in the place of the one that was given.

    Raises:
        ServerError: one could not be filled in: those behind it would stand in the places of others.
    """
    if given_up := answer.json().get("given_up", []):
        raise ServerError(
            f"{len(given_up)} rows have no valid completion, the first of them is row {given_up[0]} (from 0); "
            "give those rows fewer given cells"
        )
    return _listed(answer, "rows")


def check_end(rest: bytes, *, wanted: int, found: int) -> None:
    """Raise ServerError for a stream that ends within a line; warn of rows that it lacks."""
    if rest:
        raise ServerError("the stream was cut within a row; ask again with the same seed")
    warn_of_missing(wanted, found)


def warn_of_missing(wanted: int, found: int) -> None:
    """Warn of rows that an answer lacks without an error."""
    if found < wanted:
        warnings.warn(f"{wanted - found:,} of {wanted:,} rows had no valid draw", RuntimeWarning, stacklevel=2)


class Lines:
    """The lines of a stream, divided by line feeds alone: texts in JSON may hold the other ends of lines of Unicode."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def of(self, piece: bytes) -> list[bytes]:
        """Return the lines that a piece ends."""
        first, *more = piece.split(b"\n")
        self._held.append(first)
        if not more:
            return []
        whole, self._held = [b"".join(self._held), *more[:-1]], more[-1:]
        return whole

    def rest(self) -> bytes:
        """Return what stands behind the last line feed."""
        return b"".join(self._held)


def nothing(_: httpx2.Response) -> None:
    """Return nothing: the answer has no body to read."""


def streamed_row(line: bytes) -> Row:
    """Parse the row of a line. Raises ServerError for a last line that reports why the stream ended."""
    try:
        row: Row = json.loads(line)
    except (ValueError, RecursionError) as fault:
        raise ServerError(f"the stream holds what is no row ({fault}); is this the address of the server?") from fault
    if not isinstance(row, dict):
        raise ServerError("the stream holds what is no row; is this the address of the server?")
    error = row.get("error")
    if isinstance(error, dict) and set(error) == {"code", "message", "field"}:
        raise ServerError(f"the stream ended early: {error['message']}")
    return row


def data_path(job: Row) -> str | None:
    """Return the path of a job's rows; None while there are none. Raises ServerError for a job that failed."""
    with of_a_server():
        state, name, error, path = job["state"], job["id"], job.get("error"), str(job.get("data"))
    if state == "failed":
        raise ServerError(f"job {name}: {error}")
    if state == "finished" and not path.startswith("/v1/"):  # the key is for this server alone
        raise ServerError(f"job {name}: its rows are said to be elsewhere ({path[:100]!r}); nothing was fetched")
    return path if state == "finished" else None
