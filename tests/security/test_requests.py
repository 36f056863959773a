"""Requests that are made to cost the server more than they cost the client: bounded in time, memory and turns."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difflm.serving import bodies
from difflm.serving.bodies import BODIES, read_body
from difflm.serving.config import LimitsConfig, ServeConfig, ServedConfig
from difflm.serving.limits import KeyConfig, KeyRing, Traffic
from difflm.serving.metrics import ServerMetrics
from difflm.serving.middleware import RequestMiddleware
from difflm.serving.problems import Problem
from difflm.serving.requests import EncodeBody, ImputeBody, SampleBody

SERVED = [ServedConfig(name="tiny", path="/bundles/tiny")]
COLUMNS = ("age", "city")
MANY = 20_000


def refused(model: Any, value: Any) -> Problem:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    with pytest.raises(Problem) as caught:
        read_body(model, content, columns=lambda _: COLUMNS, max_records=1000)
    return caught.value


@pytest.mark.parametrize("model", [EncodeBody, ImputeBody])
def test_records_with_other_columns_cost_no_more_than_their_bytes(model: Any) -> None:
    """Each name became a column of all records: 812 KB came to a gigabyte and 37 s."""
    content = json.dumps({"rows": [{f"c{place}": 1} for place in range(1000)]}).encode()
    wide = json.dumps({"rows": [{f"c{place}": 1 for place in range(MANY)}]}).encode()
    for body in (content, wide):
        tracemalloc.start()
        began = time.process_time()
        problem = refused(model, body)
        spent, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (problem.status, problem.field) == (422, "rows")
        assert problem.message == "record 0: the bundle knows no column 'c0'; leave it out"
        assert spent < 5.0  # with tracemalloc, which slows it down several times
        assert peak < 40 * len(body)


@pytest.mark.parametrize(
    ("model", "body", "field"),
    [
        (SampleBody, {"n": 1, "columns": [1] * 200_000}, "columns"),
        (SampleBody, {"n": 1, "like": [1] * 200_000}, "like"),
        (EncodeBody, {"rows": [[]] * 200_000}, "rows"),
        (EncodeBody, {"rows": [{"age": []}] * 1000}, "rows.0.age"),
        (SampleBody, {"n": 1, "columns": [1] * 9_000}, "columns.0"),
        (SampleBody, {"n": 1, **{f"x{place}": 1 for place in range(200_000)}}, "x0"),
        (SampleBody, {"n": 1, "x" * 1_000_000: 1}, "x" * 64),
        (SampleBody, [[]] * 200_000, "body"),
    ],
)
def test_a_list_of_wrong_things_is_refused_for_its_first(model: Any, body: Any, field: str) -> None:
    content = json.dumps(body).encode()
    began = time.process_time()
    problem = refused(model, content)
    assert time.process_time() - began < 3.0  # .5 alone, 7 before; the collector also walks what other tests have left
    assert problem.status == 422
    assert problem.field == field
    assert len(json.dumps(problem.content)) < 500


@pytest.mark.parametrize("part", [b"[],", b"{},", b'{"a":0},', b'["\\\\"],'])
def test_lists_without_end_are_not_made(monkeypatch: pytest.MonkeyPatch, part: bytes) -> None:
    """The parser gives no turns: 8 MB of empty lists kept everybody else waiting for a second, and four for four."""
    monkeypatch.setattr(bodies, "parse_json", None)
    content = b'{"n": 1, "where": [' + part * (8 * 2**20 // len(part)) + b"0]}"
    began = time.process_time()
    problem = refused(SampleBody, content)
    assert (problem.status, problem.field) == (422, "body")
    assert time.process_time() - began < 1.0


JSON_VALUES = st.recursive(
    st.none() | st.text(alphabet='[]{}"\\,:a\n', max_size=8),
    lambda value: (
        st.lists(value, max_size=4) | st.dictionaries(st.text(alphabet='[{"\\', max_size=4), value, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON_VALUES, st.booleans())
def test_lists_and_objects_are_counted_outside_of_texts(value: Any, ascii_: bool) -> None:
    def held(value: Any) -> int:
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if parts is None else 1 + sum(map(held, parts))

    content = json.dumps(value, ensure_ascii=ascii_).encode()
    assert bodies.containers(content, unless=-1) == held(value)
    assert bodies.containers(content, unless=10_000) >= held(value)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000, b"\xff", b'{"n": 1', b"\0"])
@pytest.mark.parametrize("model", BODIES)
def test_nonsense_is_told_in_one_form(model: Any, content: bytes) -> None:
    problem = refused(model, content)
    assert problem.status in (400, 422)
    assert problem.field is not None


Receive = Callable[[], Any]


def gate(app: Any, *, keys: int = 0, **limits: Any) -> RequestMiddleware:
    config = ServeConfig(bundles=SERVED, limits=LimitsConfig(**limits))
    ring = KeyRing([KeyConfig(name=f"k{n}", sha256="0" * 64) for n in range(keys)], time.monotonic) if keys else None
    return RequestMiddleware(app, config=config, ring=ring, metrics=ServerMetrics(), traffic=Traffic(most=10))


async def asked(served: Any, receive: Receive) -> tuple[int, bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/encode", "headers": headers, "query_string": b""}
    await served(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(len(message["body"])).encode()})


def test_a_body_of_single_bytes_is_read_in_linear_time_and_others_have_their_turns() -> None:
    async def run(pieces: int) -> tuple[float, int, bytes]:
        left, turns = pieces, 0

        async def receive() -> dict[str, Any]:  # never waits, as what has arrived never does
            nonlocal left
            left -= 1
            return {"type": "http.request", "body": b" ", "more_body": left > 0}

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(others())
        began = time.process_time()
        _, body = await asked(gate(echo), receive)
        beside.cancel()
        return time.process_time() - began, turns, body

    took, turns, body = asyncio.run(run(200_000))
    assert body == b"200000"
    assert turns > 1000
    assert took < 5.0  # the sum over all pieces at each of them took minutes


def test_a_body_of_nothing_ends_with_its_time() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": True}

    status, body = asyncio.run(asked(gate(echo, upload_s=0.2), receive))
    assert status == 408
    assert json.loads(body)["error"]["field"] == "body"


def test_a_fault_of_the_server_is_told_like_everything_else() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    status, body = asyncio.run(asked(gate(broken), receive))
    assert status == 500
    assert json.loads(body) == {
        "error": {"code": "internal", "message": "the server has a fault; its log says more", "field": None}
    }
