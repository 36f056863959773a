"""The client for code in which one call follows the other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx2
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from difflm.client import answers, calls
from difflm.client.answers import BusyError, Row
from difflm.client.calls import Call, ImputeOptions, SampleOptions

T = TypeVar("T")


class Client:
    """One server, in one call at a time."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = 310.0,
        attempts: int = 4,
        authority_file: str | Path | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """Connect to `url`; `authority_file` (PEM) replaces the system's certificate authorities."""
        self._http = httpx2.Client(
            base_url=calls.address(url),
            headers=calls.headers(key),
            timeout=timeout_s,
            verify=calls.trusted(authority_file),
            transport=transport,
        )
        self._attempts = attempts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def sample(self, n: int, **options: Unpack[SampleOptions]) -> list[Row]:
        """Return rows; `options` are the other fields of the request."""
        return self._made(calls.sample(n, options))

    def file(self, n: int, *, format: str, **options: Unpack[SampleOptions]) -> bytes:
        """Return rows as one csv, parquet or arrow file."""
        return self._made(calls.file(n, format, options))

    def stream(self, n: int, **options: Unpack[SampleOptions]) -> Iterator[Row]:
        """Yield rows as they arrive."""
        for attempt in self._retrying():
            with attempt:
                answer = self._send(calls.stream(n, options), stream=True)
        lines, count = answers.Lines(), 0
        try:
            for piece in answer.iter_bytes():
                for line in lines.of(piece):
                    yield answers.streamed_row(line)
                    count += 1
        except httpx2.RequestError as error:
            raise answers.broken_stream(error) from error
        finally:
            answer.close()
        answers.check_end(lines.rest(), wanted=n, found=count)

    def impute(self, rows: Sequence[Row], **options: Unpack[ImputeOptions]) -> list[Row]:
        """Return the rows with their missing cells filled in."""
        return self._made(calls.impute(rows, options))

    def encode(self, rows: Sequence[Row], *, bundle: str | None = None) -> list[list[float]]:
        """Return the latent mean of every row."""
        return self._made(calls.encode(rows, bundle))

    def bundles(self) -> list[Row]:
        """List what is served: the name and version of every bundle."""
        return self._made(calls.bundles())

    def schema(self, bundle: str | None = None) -> Row:
        """Return the columns of a bundle."""
        return self._made(calls.about("schema", bundle))

    def quality(self, bundle: str | None = None) -> Row:
        """Return the evaluation that came with a bundle."""
        return self._made(calls.about("quality", bundle))

    def begin_job(self, n: int, *, format: str = "ndjson", **options: Unpack[SampleOptions]) -> Row:
        """Start a job for more rows than one answer holds; return its `id` and `state`."""
        return self._made(calls.begin_job(n, format, options))

    def job(self, name: str) -> Row:
        """Return the state of a job."""
        return self._made(calls.job(name))

    def cancel_job(self, name: str) -> None:
        """Cancel a job that is under way; its rows are deleted in any case."""
        self._made(calls.cancel_job(name))

    def wait_for_job(self, name: str, *, every_s: float = 2.0) -> bytes:
        """Wait for the rows of a job and return them. Raises ServerError for one that fails."""
        while (path := answers.data_path(self.job(name))) is None:
            time.sleep(every_s)
        return self._made(calls.data(path))

    def _made(self, call: Call[T]) -> T:
        for attempt in self._retrying():
            with attempt:
                answer = self._send(call)
                with answers.of_a_server():
                    return call.read(answer)
        raise AssertionError("the last attempt returns or raises")

    def _send(self, call: Call[T], *, stream: bool = False) -> httpx2.Response:
        content = call.content()
        headers = None if content is None else {"Content-Type": "application/json"}
        request = self._http.build_request(call.method, call.path, content=content, headers=headers)
        try:
            answer = self._http.send(request, stream=stream)
            if answer.status_code != 200:
                answer.read()
        except httpx2.RequestError as error:
            raise answers.unreachable(error) from error
        answers.check(answer, job=call.job)
        return answer

    def _retrying(self) -> Retrying:
        return Retrying(
            stop=stop_after_attempt(self._attempts),
            wait=answers.wait_s,
            retry=retry_if_exception_type(BusyError),
            reraise=True,
        )
