"""The client of a server of `difflm serve`: in one call at a time, or with async and await.

    with Client("http://localhost:8000", key="difflm_...") as client:
        rows = client.sample(100, seed=1, where='age >= 40')
        for row in client.stream(10_000):
            ...

A refusal that passes by itself (429, 503, a connection that cannot be made) is waited out as long as the server says
and asked again, `attempts` times in all. The errors are these::

    DiffLMError
    +-- RequestError        the server says what is wrong with the request: status, code, field
    +-- BusyError           the server had too much to do, or was not ready, after all attempts
    +-- ServerError         no answer, or one that is no success for another reason
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx2
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

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


class Client:
    """One server, in one call at a time."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = 310.0,
        attempts: int = 4,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._http = httpx2.Client(base_url=url, headers=_headers(key), timeout=timeout_s, transport=transport)
        self._attempts = attempts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def sample(self, n: int, **options: Any) -> list[Row]:
        """Rows; `options` are the other fields of the request (seed, where, like, columns, temperature, ...)."""
        return _rows(self._call("POST", "/v1/samples", {"n": n, **options, "format": "json"}))

    def file(self, n: int, *, format: str, **options: Any) -> bytes:
        """Rows as one csv, parquet or arrow file."""
        return self._call("POST", "/v1/samples", {"n": n, **options, "format": format}).content

    def stream(self, n: int, **options: Any) -> Iterator[Row]:
        """Rows as they come."""
        body = {"n": n, **options, "format": "ndjson"}
        for attempt in self._retrying():
            with attempt:
                answer = self._send("POST", "/v1/samples", body, stream=True)
        try:
            for line in answer.iter_lines():
                yield _streamed(line)
        except httpx2.TransportError as error:
            raise ServerError(f"the stream broke ({type(error).__name__}); ask again with the same seed") from error
        finally:
            answer.close()

    def impute(self, rows: Sequence[Row], **options: Any) -> list[Row]:
        """The rows with their missing cells filled in."""
        return _rows(self._call("POST", "/v1/impute", {"rows": list(rows), **options, "format": "json"}))

    def encode(self, rows: Sequence[Row], *, bundle: str | None = None) -> list[list[float]]:
        """The latent mean of every row."""
        body = {"rows": list(rows), "bundle": bundle}
        latents: list[list[float]] = _json(self._call("POST", "/v1/encode", body))["latents"]
        return latents

    def schema(self, bundle: str | None = None) -> Row:
        """The columns of a bundle."""
        return _json(self._call("GET", _about("/v1/schema", bundle), None))

    def quality(self, bundle: str | None = None) -> Row:
        """The evaluation that came with a bundle."""
        return _json(self._call("GET", _about("/v1/quality", bundle), None))

    def begin_job(self, n: int, **options: Any) -> Row:
        """Ask for more rows than one answer holds; what comes back has the job's `id` and `state`."""
        return _json(self._call("POST", "/v1/samples", {"n": n, **options}))

    def job(self, name: str) -> Row:
        """How a job is."""
        return _json(self._call("GET", f"/v1/jobs/{name}", None))

    def wait_for_job(self, name: str, *, every_s: float = 2.0) -> bytes:
        """The rows of a job, as soon as they are there. Raises ServerError for one that fails."""
        while (job := self.job(name))["state"] != "finished":
            if job["state"] == "failed":
                raise ServerError(f"job {name}: {job['error']}")
            time.sleep(every_s)
        return self._call("GET", str(job["data"]), None).content

    def _call(self, method: str, path: str, body: Row | None) -> httpx2.Response:
        for attempt in self._retrying():
            with attempt:
                return self._send(method, path, body)
        raise AssertionError("the last attempt returns or raises")

    def _send(self, method: str, path: str, body: Row | None, *, stream: bool = False) -> httpx2.Response:
        request = self._http.build_request(method, path, json=_sent(body))
        try:
            answer = self._http.send(request, stream=stream)
            if answer.status_code >= 400:
                answer.read()
        except httpx2.TransportError as error:
            raise _unreachable(error) from error
        _check(answer)
        return answer

    def _retrying(self) -> Retrying:
        return Retrying(
            stop=stop_after_attempt(self._attempts), wait=_wait, retry=retry_if_exception_type(BusyError), reraise=True
        )


class AsyncClient:
    """The same for code that awaits."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = 310.0,
        attempts: int = 4,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx2.AsyncClient(base_url=url, headers=_headers(key), timeout=timeout_s, transport=transport)
        self._attempts = attempts

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def sample(self, n: int, **options: Any) -> list[Row]:
        """See `Client.sample`."""
        return _rows(await self._call("POST", "/v1/samples", {"n": n, **options, "format": "json"}))

    async def file(self, n: int, *, format: str, **options: Any) -> bytes:
        """See `Client.file`."""
        return (await self._call("POST", "/v1/samples", {"n": n, **options, "format": format})).content

    async def stream(self, n: int, **options: Any) -> AsyncIterator[Row]:
        """See `Client.stream`."""
        body = {"n": n, **options, "format": "ndjson"}
        async for attempt in self._retrying():
            with attempt:
                answer = await self._send("POST", "/v1/samples", body, stream=True)
        try:
            async for line in answer.aiter_lines():
                yield _streamed(line)
        except httpx2.TransportError as error:
            raise ServerError(f"the stream broke ({type(error).__name__}); ask again with the same seed") from error
        finally:
            await answer.aclose()

    async def impute(self, rows: Sequence[Row], **options: Any) -> list[Row]:
        """See `Client.impute`."""
        return _rows(await self._call("POST", "/v1/impute", {"rows": list(rows), **options, "format": "json"}))

    async def schema(self, bundle: str | None = None) -> Row:
        """See `Client.schema`."""
        return _json(await self._call("GET", _about("/v1/schema", bundle), None))

    async def _call(self, method: str, path: str, body: Row | None) -> httpx2.Response:
        async for attempt in self._retrying():
            with attempt:
                return await self._send(method, path, body)
        raise AssertionError("the last attempt returns or raises")

    async def _send(self, method: str, path: str, body: Row | None, *, stream: bool = False) -> httpx2.Response:
        request = self._http.build_request(method, path, json=_sent(body))
        try:
            answer = await self._http.send(request, stream=stream)
            if answer.status_code >= 400:
                await answer.aread()
        except httpx2.TransportError as error:
            raise _unreachable(error) from error
        _check(answer)
        return answer

    def _retrying(self) -> AsyncRetrying:
        return AsyncRetrying(
            stop=stop_after_attempt(self._attempts), wait=_wait, retry=retry_if_exception_type(BusyError), reraise=True
        )


def _headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def _about(path: str, bundle: str | None) -> str:
    return path if bundle is None else f"{path}?{httpx2.QueryParams({'bundle': bundle})}"


def _sent(body: Row | None) -> Row | None:
    return None if body is None else {key: value for key, value in body.items() if value is not None}


def _wait(state: RetryCallState) -> float:
    """As long as the server says; otherwise longer from time to time."""
    error = None if state.outcome is None else state.outcome.exception()
    if isinstance(error, BusyError) and error.retry_after_s is not None:
        return min(error.retry_after_s, _LONGEST_WAIT_S)
    return float(wait_exponential_jitter(multiplier=0.5, max=20.0)(state))


def _check(answer: httpx2.Response) -> None:
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


def _unreachable(error: httpx2.TransportError) -> BusyError | ServerError:
    if isinstance(error, httpx2.ConnectError):
        return BusyError(f"no connection to the server ({error})")
    return ServerError(f"the connection broke ({type(error).__name__})")


def _json(answer: httpx2.Response) -> Row:
    found: Row = answer.json()
    return found


def _rows(answer: httpx2.Response) -> list[Row]:
    if answer.status_code == 202:
        name = answer.json()["id"]
        raise RequestError(
            f"n: so many rows are a job, {name}; ask for it with begin_job and wait_for_job", status=202, code="job",
            field="n",
        )  # fmt: skip
    rows: list[Row] = answer.json()["rows"]
    return rows


def _streamed(line: str) -> Row:
    row: Row = json.loads(line)
    error = row.get("error")
    if isinstance(error, dict) and set(error) == {"code", "message", "field"}:
        raise ServerError(f"the stream ended early: {error['message']}")
    return row
