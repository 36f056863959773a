"""The client: what is waited out, what is told, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pandas as pd
import pytest

from difflm.client import AsyncClient, BusyError, Client, RequestError, ServerError
from difflm.errors import ConfigError

ERROR = {"error": {"code": "invalid", "message": "too many", "field": "n"}}


class Server:
    """Answers in turn; keeps the requests."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self.answers, self.requests = list(answers), list[httpx2.Request]()

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been waited."""
    waited: list[float] = []

    async def slept(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("tenacity.nap.time.sleep", waited.append)
    monkeypatch.setattr(asyncio, "sleep", slept)
    return waited


def busy(status: int, seconds: int) -> httpx2.Response:
    return httpx2.Response(status, json=ERROR, headers={"retry-after": str(seconds)})


def connected(server: Server) -> Client:
    return Client("http://server", key="k", transport=httpx2.MockTransport(server))


def awaited(server: Server, act: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
    async def acted() -> Any:
        async with AsyncClient("http://server", key="k", transport=httpx2.MockTransport(server)) as client:
            return await act(client)

    return asyncio.run(acted())


def sync_sample(server: Server, **options: Any) -> Any:
    with connected(server) as client:
        return client.sample(3, **options)


def async_sample(server: Server, **options: Any) -> Any:
    return awaited(server, lambda client: client.sample(3, **options))


Sample = Callable[..., Any]
both = pytest.mark.parametrize("sample", [sync_sample, async_sample])


@both
def test_a_refusal_that_passes_is_waited_out_as_the_server_says(sample: Sample, waits: list[float]) -> None:
    server = Server(busy(429, 7), busy(503, 3), httpx2.Response(200, json={"rows": [{"a": 1}]}))
    assert sample(server, seed=4, where=None) == [{"a": 1}]
    assert waits == [7.0, 3.0]
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer k"] * 3
    assert json.loads(server.requests[0].content) == {"n": 3, "seed": 4, "format": "json"}


@both
def test_it_gives_up_after_so_many_attempts(sample: Sample, waits: list[float]) -> None:
    server = Server(*[busy(429, 1)] * 3, httpx2.ConnectError("refused"))
    with pytest.raises(BusyError, match="refused"):
        sample(server)
    assert len(waits) == 3


@both
@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda: httpx2.Response(422, json=ERROR), RequestError, "^n: too many$"),
        (lambda: httpx2.Response(404, text="<html>"), RequestError, "the server answered 404"),
        (lambda: httpx2.Response(500, json=ERROR), ServerError, "too many"),
        (lambda: httpx2.Response(202, json={"id": "abc"}), RequestError, "a job, abc"),
        (lambda: httpx2.ReadTimeout("slow"), ServerError, "ReadTimeout"),
    ],
)
def test_what_does_not_pass_is_told_at_once(
    sample: Sample, waits: list[float], answer: Callable[[], Any], error: type[Exception], message: str
) -> None:
    server = Server(answer())
    with pytest.raises(error, match=message):
        sample(server)
    assert waits == []


def test_the_error_has_what_the_server_said() -> None:
    with pytest.raises(RequestError) as caught:
        sync_sample(Server(httpx2.Response(422, json=ERROR)))
    assert (caught.value.status, caught.value.code, caught.value.field) == (422, "invalid", "n")


def test_a_stream_gives_rows_and_ends_with_the_servers_error() -> None:
    lines = '{"error": "a column of this name"}\n{"error": 2}\n' + json.dumps(ERROR) + "\n"
    with Client("http://server", transport=httpx2.MockTransport(Server(httpx2.Response(200, text=lines)))) as client:
        rows = client.stream(3)
        assert [next(rows), next(rows)] == [{"error": "a column of this name"}, {"error": 2}]
        with pytest.raises(ServerError, match="ended early: too many"):
            next(rows)


JOB = {"id": "x", "state": "running", "data": None, "error": None}


def test_a_job_is_asked_for_until_its_rows_are_there(waits: list[float]) -> None:
    def server() -> Server:
        states = [JOB, {**JOB, "state": "finished", "data": "/v1/jobs/x/data"}]
        answers = [httpx2.Response(200, json=state) for state in states]
        return Server(*answers, httpx2.Response(200, content=b"rows"))

    asked = server()
    with connected(asked) as client:
        assert client.wait_for_job("x", every_s=0.0) == b"rows"
    assert asked.requests[-1].url.path == "/v1/jobs/x/data"
    assert awaited(server(), lambda client: client.wait_for_job("x", every_s=0.5)) == b"rows"
    assert waits == [0.0, 0.5]
    failed = Server(httpx2.Response(200, json={**JOB, "state": "failed", "error": "no room"}))
    with connected(failed) as client:
        with pytest.raises(ServerError, match="job x: no room"):
            client.wait_for_job("x")


CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any], Any, str, Any]] = [
    ("file", (3,), {"format": "csv"}, "a,b", "POST /v1/samples", b'"a,b"'),
    ("impute", ([{"a": None}],), {}, {"rows": [{"a": 1}]}, "POST /v1/impute", [{"a": 1}]),
    ("encode", ([{"a": 1}],), {}, {"latents": [[0.5]]}, "POST /v1/encode", [[0.5]]),
    ("bundles", (), {}, {"bundles": [{"bundle": "b"}]}, "GET /v1/bundles", [{"bundle": "b"}]),
    ("schema", ("a b",), {}, {"schema": {}}, "GET /v1/schema?bundle=a+b", {"schema": {}}),
    ("quality", (), {}, {"report": {}}, "GET /v1/quality", {"report": {}}),
    ("begin_job", (9,), {}, JOB, "POST /v1/samples", JOB),
    ("job", ("x",), {}, JOB, "GET /v1/jobs/x", JOB),
    ("cancel_job", ("x",), {}, None, "DELETE /v1/jobs/x", None),
]


@pytest.mark.parametrize(("name", "given", "options", "answer", "asked", "expected"), CALLS)
def test_both_clients_make_every_call(
    name: str, given: tuple[Any, ...], options: dict[str, Any], answer: Any, asked: str, expected: Any
) -> None:
    status = 204 if answer is None else 202 if name == "begin_job" else 200
    servers = [Server(httpx2.Response(status, json=answer)) for _ in range(2)]
    with connected(servers[0]) as client:
        assert getattr(client, name)(*given, **options) == expected
    assert awaited(servers[1], lambda client: getattr(client, name)(*given, **options)) == expected
    for server in servers:
        (request,) = server.requests
        assert f"{request.method} {request.url.raw_path.decode()}" == asked


@both
def test_constraints_are_sent_where_there_are_some(sample: Sample) -> None:
    for given, sent in ((["start <= end"], {"constraints": ["start <= end"]}), (None, {})):
        server = Server(httpx2.Response(200, json={"rows": []}))
        sample(server, constraints=given)
        assert json.loads(server.requests[0].content) == {"n": 3, "format": "json", **sent}


def test_both_clients_have_the_same_methods() -> None:
    both_have = [{name for name in vars(one) if not name.startswith("_")} for one in (Client, AsyncClient)]
    assert both_have[0] == both_have[1]
    assert {*both_have[0]} - {"close", "sample", "stream", "wait_for_job"} == {name for name, *_ in CALLS}


DEEP = "[" * 100_000
NO_ANSWERS: dict[str, Callable[[], httpx2.Response | Exception]] = {
    "a page": lambda: httpx2.Response(200, html="<h1>Log in</h1>"),
    "elsewhere": lambda: httpx2.Response(302, headers={"location": "http://evil/"}),
    "packed": lambda: httpx2.DecodingError("no gzip"),
    "deep error": lambda: httpx2.Response(500, text=DEEP),
}
NO_DOCUMENTS: dict[str, Callable[[], httpx2.Response]] = {
    "nothing": lambda: httpx2.Response(200),
    "a list": lambda: httpx2.Response(200, json=[1]),
    "a number": lambda: httpx2.Response(200, text="5\n"),
    "a text": lambda: httpx2.Response(200, text='"a"\n'),
    "deep": lambda: httpx2.Response(200, text=DEEP),
    "no Unicode": lambda: httpx2.Response(200, content=b"\xff\xfe\x00"),
    "others": lambda: httpx2.Response(200, json={"rows": 5, "latents": {}, "bundles": None}),
}
METHODS: dict[str, tuple[Any, ...]] = {
    "sample": (3,), "impute": ([{}],), "encode": ([{}],), "bundles": (), "wait_for_job": ("x",),
    "schema": (), "job": ("x",), "file": (3,), "cancel_job": ("x",),
}  # fmt: skip
READS_ANYTHING = {"others": {"schema", "job"}}


@pytest.mark.parametrize("answer", [*NO_ANSWERS, *NO_DOCUMENTS])
def test_whatever_else_answers_is_no_server(answer: str, waits: list[float]) -> None:
    """Each was an error of another library, or rows."""
    made = {**NO_ANSWERS, **NO_DOCUMENTS}[answer]
    unread = set() if answer in NO_ANSWERS else {"file", "cancel_job"} | READS_ANYTHING.get(answer, set())
    for name in METHODS.keys() - unread:
        options = {"format": "csv"} if name == "file" else {}
        with connected(Server(made())) as client, pytest.raises(ServerError):
            getattr(client, name)(*METHODS[name], **options)
        with pytest.raises(ServerError):
            awaited(Server(made()), lambda client, name=name, options=options: _called(client, name, options))
    if answer != "others" and answer != "nothing":
        with connected(Server(made())) as client, pytest.raises(ServerError):
            list(client.stream(3))
    assert waits == []


def _called(client: AsyncClient, name: str, options: dict[str, str]) -> Any:
    return getattr(client, name)(*METHODS[name], **options)


def test_a_job_in_place_of_rows_is_told_and_so_are_rows_in_place_of_a_job() -> None:
    """A stream of more rows than one answer holds gave the job as a row, and a file was the job."""
    for ask in (lambda client: list(client.stream(9)), lambda client: client.file(9, format="csv")):
        with connected(Server(httpx2.Response(202, json=JOB))) as client:
            with pytest.raises(RequestError, match="a job, x; ask for it") as caught:
                ask(client)
        assert (caught.value.status, caught.value.code) == (202, "job")
    with connected(Server(httpx2.Response(200, text='{"a": 1}\n'))) as client:
        with pytest.raises(RequestError, match="ask with sample"):
            client.begin_job(1)


@pytest.mark.parametrize("data", ["http://evil/x", "//evil/x", "https://server/v1/jobs/x/data", "x", None])
def test_a_key_goes_to_its_server_alone(data: str | None) -> None:
    """The rows of a job were fetched, with the key, from wherever an answer said."""
    server = Server(httpx2.Response(200, json={**JOB, "state": "finished", "data": data}))
    with connected(server) as client, pytest.raises(ServerError, match="nothing was fetched"):
        client.wait_for_job("x")
    server = Server(httpx2.Response(200, json=JOB))
    with connected(server) as client:
        client.job("../schema?a#b")
    assert server.requests[0].url.raw_path == b"/v1/jobs/..%2Fschema%3Fa%23b"


def test_records_of_pandas_are_sent_as_json_has_them() -> None:
    """Its missing cells, and numpy's numbers, were errors of Python's JSON."""
    frame = pd.DataFrame({"a": [1.5, None], "b": pd.array([2, None], "Int64"), "c": [pd.Timestamp(0), None]}, [0, 1])
    rows = [*frame.iloc[1:].to_dict("records"), {"a": np.float32("nan"), "b": np.int64(7), "c": np.bool_(True)}]
    sent = [{"a": None, "b": None, "c": None}, {"a": None, "b": 7, "c": True}]
    for name in ("impute", "encode"):
        server = Server(httpx2.Response(200, json={"rows": [], "latents": []}))
        with connected(server) as client:
            getattr(client, name)(rows)
        assert json.loads(server.requests[0].content)["rows"] == sent
    server = Server(httpx2.Response(200, json={"rows": []}))
    sync_sample(server, like=rows, seed=np.int64(3))
    assert json.loads(server.requests[0].content) == {"n": 3, "like": sent, "seed": 3, "format": "json"}
    assert server.requests[0].headers["content-type"] == "application/json"


CIRCLE: dict[str, Any] = {}
CIRCLE["a"] = CIRCLE
UNSENDABLE: dict[str, Callable[[Client], Any]] = {
    "a date": lambda client: client.impute([{"a": pd.Timestamp(0)}]),
    "a frame": lambda client: client.impute(pd.DataFrame({"a": [1]})),  # type: ignore[arg-type]
    "a text": lambda client: client.encode("abc"),  # type: ignore[arg-type]
    "no rows": lambda client: client.sample(3, like=[]),
    "a circle": lambda client: client.impute([CIRCLE]),
    "half a pair": lambda client: client.sample(3, where="\ud800"),
    "no number": lambda client: client.sample(3, temperature=float("nan")),
    "digits": lambda client: client.sample(10**5000),
    "a set": lambda client: client.sample(3, columns={"a"}),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("call", UNSENDABLE.values(), ids=UNSENDABLE)
def test_what_cannot_be_sent_is_an_error_of_the_client(call: Callable[[Client], Any]) -> None:
    with connected(Server()) as client, pytest.raises(ConfigError):
        call(client)


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize("url", ["", "localhost:8000", "file:///etc/passwd", "http://[::1", "http://u:secret/x@h"])
def test_what_is_no_address_is_told_without_showing_it(client: type[Client], url: str) -> None:
    with pytest.raises(ConfigError, match=r"^url is no address") as caught:
        client(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_keys_and_authorities_that_cannot_be_are_told(client: type[Client], tmp_path: Path) -> None:
    for key in ("a\nsecret", "secretключ"):
        with pytest.raises(ConfigError, match=r"^key is none") as caught:
            client("http://server", key=key)
        assert "secret" not in str(caught.value)
    for path in (tmp_path / "missing.pem", tmp_path):
        with pytest.raises(ConfigError, match=r"^authority_file: "):
            client("http://server", authority_file=path)


def streamed(server: Server, n: int) -> list[Any]:
    async def read(client: AsyncClient) -> list[Any]:
        return [row async for row in client.stream(n)]

    answer = server.answers[0]
    assert isinstance(answer, httpx2.Response)
    server.answers.append(httpx2.Response(200, content=answer.content))
    with connected(server) as client:
        rows = list(client.stream(n))
    assert awaited(server, read) == rows
    return rows


def test_the_other_ends_of_lines_of_unicode_end_no_row_of_a_stream() -> None:
    """A text with one of them was said to be no row."""
    rows = [{"a": "x\u2028y\u2029z\x85"}, {"a": 1}]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert streamed(Server(httpx2.Response(200, text=text)), 2) == rows


def test_rows_that_an_answer_lacks_are_told() -> None:
    """They were left out without a word; filled-in rows stood in the places of others."""
    with pytest.warns(RuntimeWarning, match="1 of 3 rows had no valid draw"):
        assert sync_sample(Server(httpx2.Response(200, json={"rows": [{}, {}], "given_up": [1]}))) == [{}, {}]
    with pytest.warns(RuntimeWarning, match="2 of 3 rows had no valid draw"):
        assert streamed(Server(httpx2.Response(200, text='{"a": 1}\n')), 3) == [{"a": 1}]
    with (
        pytest.warns(RuntimeWarning, match="1 of 3 rows had no valid draw"),
        connected(Server(httpx2.Response(200, content=b"a", headers={"X-Difflm-Given-Up": "1"}))) as client,
    ):
        assert client.file(3, format="csv") == b"a"
    with connected(Server(httpx2.Response(200, json={"rows": [{}], "given_up": [1]}))) as client:
        with pytest.raises(ServerError, match=r"1 rows have no valid completion, the first of them is row 1"):
            client.impute([{"a": 1}, {"a": 2}])
    with connected(Server(httpx2.Response(200, text='{"a": 1}\n{"a"'))) as client:
        with pytest.raises(ServerError, match="cut within a row"):
            list(client.stream(3))
