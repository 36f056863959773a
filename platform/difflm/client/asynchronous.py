"""The client for code that awaits; what it sends and reads is that of the other one, method by method."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx2
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from difflm.client import answers, calls
from difflm.client.answers import BusyError, Row
from difflm.client.calls import Call, ImputeOptions, SampleOptions

T = TypeVar("T")


class AsyncClient:
    """One server; see `Client`."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = 310.0,
        attempts: int = 4,
        authority_file: str | Path | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Connect to `url`; `authority_file` (PEM) replaces the system's certificate authorities."""
        self._http = httpx2.AsyncClient(
            base_url=calls.address(url),
            headers=calls.headers(key),
            timeout=timeout_s,
            verify=calls.trusted(authority_file),
            transport=transport,
        )
        self._attempts = attempts

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def sample(self, n: int, **options: Unpack[SampleOptions]) -> list[Row]:
        """See `Client.sample`."""
        return await self._made(calls.sample(n, options))

    async def file(self, n: int, *, format: str, **options: Unpack[SampleOptions]) -> bytes:
        """See `Client.file`."""
        return await self._made(calls.file(n, format, options))

    async def stream(self, n: int, **options: Unpack[SampleOptions]) -> AsyncIterator[Row]:
        """See `Client.stream`."""
        async for attempt in self._retrying():
            with attempt:
                answer = await self._send(calls.stream(n, options), stream=True)
        lines, count = answers.Lines(), 0
        try:
            async for piece in answer.aiter_bytes():
                for line in lines.of(piece):
                    yield answers.streamed_row(line)
                    count += 1
        except httpx2.RequestError as error:
            raise answers.broken_stream(error) from error
        finally:
            await answer.aclose()
        answers.check_end(lines.rest(), wanted=n, found=count)

    async def impute(self, rows: Sequence[Row], **options: Unpack[ImputeOptions]) -> list[Row]:
        """See `Client.impute`."""
        return await self._made(calls.impute(rows, options))

    async def encode(self, rows: Sequence[Row], *, bundle: str | None = None) -> list[list[float]]:
        """See `Client.encode`."""
        return await self._made(calls.encode(rows, bundle))

    async def bundles(self) -> list[Row]:
        """See `Client.bundles`."""
        return await self._made(calls.bundles())

    async def schema(self, bundle: str | None = None) -> Row:
        """See `Client.schema`."""
        return await self._made(calls.about("schema", bundle))

    async def quality(self, bundle: str | None = None) -> Row:
        """See `Client.quality`."""
        return await self._made(calls.about("quality", bundle))

    async def begin_job(self, n: int, *, format: str = "ndjson", **options: Unpack[SampleOptions]) -> Row:
        """See `Client.begin_job`."""
        return await self._made(calls.begin_job(n, format, options))

    async def job(self, name: str) -> Row:
        """See `Client.job`."""
        return await self._made(calls.job(name))

    async def cancel_job(self, name: str) -> None:
        """See `Client.cancel_job`."""
        await self._made(calls.cancel_job(name))

    async def wait_for_job(self, name: str, *, every_s: float = 2.0) -> bytes:
        """See `Client.wait_for_job`."""
        while (path := answers.data_path(await self.job(name))) is None:
            await asyncio.sleep(every_s)
        return await self._made(calls.data(path))

    async def _made(self, call: Call[T]) -> T:
        async for attempt in self._retrying():
            with attempt:
                answer = await self._send(call)
                with answers.of_a_server():
                    return call.read(answer)
        raise AssertionError("the last attempt returns or raises")

    async def _send(self, call: Call[T], *, stream: bool = False) -> httpx2.Response:
        content = call.content()
        headers = None if content is None else {"Content-Type": "application/json"}
        request = self._http.build_request(call.method, call.path, content=content, headers=headers)
        try:
            answer = await self._http.send(request, stream=stream)
            if answer.status_code != 200:
                await answer.aread()
        except httpx2.RequestError as error:
            raise answers.unreachable(error) from error
        answers.check(answer, job=call.job)
        return answer

    def _retrying(self) -> AsyncRetrying:
        return AsyncRetrying(
            stop=stop_after_attempt(self._attempts),
            wait=answers.wait_s,
            retry=retry_if_exception_type(BusyError),
            reraise=True,
        )
