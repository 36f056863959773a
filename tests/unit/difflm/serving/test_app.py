"""The HTTP interface over a backend in this process: answers, streams, refusals, keys and clients that go away."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from difflm.errors import ClusterError
from difflm.records.values import Record
from difflm.serving.app import create_app
from difflm.serving.backend import BundleRef, RowsWanted
from difflm.serving.config import ServeConfig
from difflm.serving.fair_queue import Chunk
from difflm.serving.keys import KeyConfig, KeyRing, hash_key
from difflm.serving.loaded_bundle import LocalBackend
from difflm.serving.service import Service

Run = Callable[..., Any]
WHERE = 'age >= 40 and city == "Oslo"'


class Slow:
    """A backend whose rows come when the test lets them; what it was asked for and whether it was left."""

    def __init__(self, record: Record) -> None:
        self.record, self.left, self.going = record, False, asyncio.Event()

    async def sample(self, wanted: RowsWanted) -> AsyncGenerator[Chunk, None]:
        try:
            yield Chunk(rows=[(wanted.start, self.record)], given_up=[])
            await self.going.wait()
            raise ClusterError("the replicas are gone")
        finally:
            self.left = True

    async def encode(self, bundle: BundleRef, table: pa.Table) -> list[list[float]]:
        raise ClusterError("the replicas are gone")

    async def load(self, bundle: BundleRef) -> None:
        pass


@asynccontextmanager
async def serving(
    config: ServeConfig, backend: Any, *, ring: KeyRing | None = None, loaded: bool = True
) -> AsyncIterator[httpx2.AsyncClient]:
    service = Service(config, backend, ring=ring)
    if loaded:
        await service.registry.refresh()
    transport = httpx2.ASGITransport(app=create_app(service))
    async with httpx2.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client


@pytest.fixture(scope="session")
def ask(run: Run, config: ServeConfig, backend: LocalBackend) -> Run:
    """`ask("POST", "/v1/samples", json={...})` of a server that is ready."""

    def call(method: str, path: str, **more: Any) -> httpx2.Response:
        async def asked() -> httpx2.Response:
            async with serving(config, backend) as client:
                return await client.request(method, path, **more)

        answer: httpx2.Response = run(asked())
        return answer

    return call


@pytest.fixture(scope="session")
def record(offline: Run) -> Record:
    row: Record = offline(range(1), seed=1)[0][1]
    return row


def test_rows_in_json_are_those_of_the_offline_job(ask: Run, offline: Run) -> None:
    answer = ask("POST", "/v1/samples", json={"n": 9, "seed": 4, "start": 3})
    assert answer.status_code == 200
    found = answer.json()
    expected = [index for index, _ in offline(range(3, 12), seed=4)]
    assert len(found["rows"]) + len(found["given_up"]) == 9
    assert [row["age"] for row in found["rows"]] == [row["age"] for _, row in offline(range(3, 12), seed=4)]
    assert found["given_up"] == [index for index in range(3, 12) if index not in expected]
    assert (found["bundle"], found["seed"], found["start"]) == ("tiny", 4, 3)
    assert len(found["version"]) == 12
    assert answer.headers["x-difflm-seed"] == "4"


def test_every_format_holds_the_same_rows(ask: Run) -> None:
    body = {"n": 12, "seed": 2, "where": WHERE, "columns": ["city", "age"]}
    answers = {
        name: ask("POST", "/v1/samples", json={**body, "format": name})
        for name in ("json", "ndjson", "sse", "csv", "parquet", "arrow")
    }
    rows = answers["json"].json()["rows"]
    assert rows
    assert all(list(row) == ["city", "age"] and row["city"] == "Oslo" and row["age"] >= 40 for row in rows)
    assert [json.loads(line) for line in answers["ndjson"].text.splitlines()] == rows
    events = [block.split("\n") for block in answers["sse"].text.strip().split("\n\n")]
    assert [row for name, data in events[:-1] for row in json.loads(data.removeprefix("data: "))["rows"]] == rows
    assert events[-1][0] == "event: end"
    assert pyarrow.csv.read_csv(io.BytesIO(answers["csv"].content)).to_pylist() == rows
    assert pq.read_table(io.BytesIO(answers["parquet"].content)).to_pylist() == rows
    assert pa.ipc.open_file(answers["arrow"].content).read_all().to_pylist() == rows


def test_without_a_seed_one_is_drawn_and_said(ask: Run) -> None:
    answers = [ask("POST", "/v1/samples", json={"n": 2}) for _ in range(2)]
    seeds = [answer.json()["seed"] for answer in answers]
    assert seeds[0] != seeds[1]
    again = ask("POST", "/v1/samples", json={"n": 2, "seed": seeds[0]})
    assert again.json() == answers[0].json()


def test_records_are_varied_imputed_and_encoded(ask: Run, some_rows: pa.Table) -> None:
    rows = some_rows.to_pylist()
    varied = ask("POST", "/v1/samples", json={"n": 4, "like": rows, "strength": 0.2, "seed": 1}).json()
    assert len(varied["rows"]) + len(varied["given_up"]) == 4
    gaps = [{**row, "city": None} for row in rows[:2]] + [{key: rows[2][key] for key in rows[2] if key != "city"}]
    filled = ask("POST", "/v1/impute", json={"rows": gaps, "columns": ["city"], "seed": 1}).json()
    assert filled["given_up"] == []
    assert [{**row, "city": None} for row in filled["rows"]] == [{**row, "city": None} for row in rows]
    assert all(row["city"] is not None for row in filled["rows"])
    encoded = ask("POST", "/v1/encode", json={"rows": rows}).json()["latents"]
    assert len(encoded) == 3
    assert len({len(latent) for latent in encoded}) == 1


BAD_SAMPLES: list[tuple[dict[str, Any], str, str]] = [
    ({}, "n", "required"),
    ({"n": 0}, "n", "greater than or equal to 1"),
    ({"n": -5}, "n", "greater than or equal to 1"),
    ({"n": 10**30}, "n", "less than or equal to"),
    ({"n": 501}, "n", "501 rows; 500 are the most"),
    ({"n": "5"}, "n", "valid integer"),
    ({"n": 1.5}, "n", "valid integer"),
    ({"n": True}, "n", "valid integer"),
    ({"n": 1, "seed": -1}, "seed", "greater than or equal to 0"),
    ({"n": 1, "seed": 2**63}, "seed", "less than"),
    ({"n": 1, "temperature": 0}, "temperature", "greater than 0"),
    ({"n": 1, "temperature": "warm"}, "temperature", "valid number"),
    ({"n": 1, "start": 999_999_999, "where": None}, "", ""),
    ({"n": 2, "start": 999_999_999}, "start", "is the most"),
    ({"n": 1, "format": "xlsx"}, "format", "'json', 'ndjson'"),
    ({"n": 1, "rows": 3}, "rows", "there is no such field"),
    ({"n": 1, "bundle": "../../etc/passwd"}, "bundle", "bundles are 'tiny'"),
    ({"n": 1, "where": "agee > 3"}, "where", "did you mean 'age'?"),
    ({"n": 1, "where": "age > 40 and age < 30"}, "where", "no value of 'age'"),
    ({"n": 1, "where": "(" * 3000}, "where", "cannot be read"),
    ({"n": 1, "where": "__import__('os')"}, "where", "is not a test"),
    ({"n": 1, "columns": ["nope"]}, "columns", "there is no column 'nope'"),
    ({"n": 1, "columns": ["age", "age"]}, "columns", "named twice"),
    ({"n": 1, "columns": []}, "columns", "at least 1 item"),
    ({"n": 1, "like": []}, "like", "at least 1 item"),
    ({"n": 1, "like": [{"age": 3}]}, "like", "no column 'wage'"),
    ({"n": 1, "like": [{"age": [1]}]}, "like.0.age", "a cell is null, true"),
    ({"n": 1, "like": [{"age": 2**70}]}, "like.0.age", "a cell is null, true"),
    ({"n": 1, "like": [{"age": 3}], "where": "age > 3"}, "like", "leave out where"),
    ({"n": 1, "like": [{"age": 3}] * 21}, "like", "21 records; 20 are the most"),
    ({"n": 1, "like": [{"age": 3}], "strength": 1.5}, "strength", "less than or equal to 1"),
    ({"n": 1, "deadline_s": 0}, "deadline_s", "greater than 0"),
]


@pytest.mark.parametrize(("body", "field", "message"), BAD_SAMPLES)
def test_bad_input_is_refused_with_the_name_of_the_field(
    ask: Run, body: dict[str, Any], field: str, message: str
) -> None:
    answer = ask("POST", "/v1/samples", json=body)
    if not field:
        assert answer.status_code == 200
        return
    assert answer.status_code in (404, 422)
    error = answer.json()["error"]
    assert set(answer.json()) == {"error"}
    assert set(error) == {"code", "message", "field"}
    assert error["field"] == field
    assert message in error["message"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"\xff\xfe{}", 400),
        (b'{"n": NaN}', 422),
        (b'{"n": 1, "temperature": NaN}', 422),
        (b'{"n": 1, "temperature": Infinity}', 422),
        (b'{"n": 1, "where": "\\ud800 > 3"}', 422),
        (b'{"n": 1, "\\ud800": 3}', 422),
        (b'{"n": ' + b"9" * 5000 + b"}", 400),
        (b"[" * 15_000, 400),
        (b"[1]", 422),
        (b"null", 422),
        (b'"text"', 422),
        (b" " * 20_001, 413),
    ],
)
def test_bodies_that_are_no_request_are_refused(ask: Run, content: bytes, status: int) -> None:
    answer = ask("POST", "/v1/samples", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message", "field"}


def test_what_does_not_fit_the_bundle_is_refused_by_impute_and_encode(ask: Run, some_rows: pa.Table) -> None:
    row = {**some_rows.to_pylist()[0], "city": None}
    bad: list[tuple[str, dict[str, Any], str]] = [
        ("impute", {"rows": [{**row, "age": 12345}]}, "rows"),
        ("impute", {"rows": [{**row, "colour": "red"}]}, "rows"),
        ("impute", {"rows": [row], "columns": ["colour"]}, "columns"),
        ("impute", {"rows": [row] * 21}, "rows"),
        ("impute", {"rows": []}, "rows"),
        ("encode", {"rows": [{"age": 3}]}, "rows"),
        ("encode", {"rows": [row], "n": 3}, "n"),
    ]
    for path, body, field in bad:
        answer = ask("POST", f"/v1/{path}", json=body)
        assert (answer.status_code, answer.json()["error"]["field"]) == (422, field), body


def test_facts_and_health(ask: Run) -> None:
    schema = ask("GET", "/v1/schema?bundle=tiny").json()
    assert [field["name"] for field in schema["schema"]["fields"]][:2] == ["age", "wage"]
    assert ask("GET", "/v1/schema?bundle=other").status_code == 404
    assert ask("GET", "/v1/quality").json()["error"]["code"] == "no_evaluation"
    (bundle,) = ask("GET", "/v1/bundles").json()["bundles"]
    assert (bundle["bundle"], bundle["fault"], bundle["version"]) == ("tiny", None, schema["version"])
    assert ask("GET", "/healthz").json() == {"status": "ok"}
    assert ask("GET", "/readyz").json() == {"status": "ready"}
    assert ask("GET", "/v1/jobs/" + "0" * 32).status_code == 404
    assert ask("GET", "/v1/nothing").json()["error"]["code"] == "not_found"
    assert ask("GET", "/v1/samples").json()["error"]["code"] == "method_not_allowed"
    page = ask("GET", "/")
    assert page.headers["content-type"].startswith("text/html")
    assert "https://" not in page.text
    assert "access-control-allow-origin" not in ask("GET", "/healthz", headers={"origin": "http://x"}).headers
    samples = ask("GET", "/openapi.json").json()["paths"]["/v1/samples"]["post"]
    assert {"200", "202", "401", "413", "422", "429", "503"} <= set(samples["responses"])


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/jobs/" + "0" * 32, "GET, DELETE"),
        ("OPTIONS", "/v1/jobs/" + "0" * 32, "GET, DELETE"),
        ("POST", "/v1/jobs/" + "0" * 32 + "/data", "GET"),
        ("GET", "/v1/samples", "POST"),
        ("DELETE", "/readyz", "GET"),
        ("TRACE", "/", "GET"),
    ],
)
def test_a_method_that_a_path_does_not_take_is_answered_with_all_that_it_takes(
    ask: Run, method: str, path: str, allowed: str
) -> None:
    answer = ask(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.json()["error"]["code"] == "method_not_allowed"


def test_until_a_bundle_is_loaded_the_answer_is_503(run: Run, config: ServeConfig, backend: LocalBackend) -> None:
    async def asked() -> list[httpx2.Response]:
        async with serving(config, backend, loaded=False) as client:
            return [await client.get("/readyz"), await client.post("/v1/samples", json={"n": 1})]

    for answer in run(asked()):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert answer.json()["error"]["code"] == "loading"


def test_rows_beyond_what_may_be_outstanding_are_refused_until_others_are_handed_out(
    run: Run, config: ServeConfig, record: Record
) -> None:
    slow = Slow(record)

    async def asked() -> list[httpx2.Response]:
        async with serving(config, slow) as client:
            first = asyncio.create_task(client.post("/v1/samples", json={"n": 500}))
            while "difflm_outstanding_rows 499.0" not in (await client.get("/metrics")).text:
                await asyncio.sleep(0)
            refused = await client.post("/v1/samples", json={"n": 302, "format": "ndjson"})
            slow.going.set()
            broken = await first
            text = (await client.get("/metrics")).text
            assert "difflm_outstanding_rows 0.0" in text
            assert 'difflm_requests_total{path="/v1/samples",status="429"} 1.0' in text
            return [refused, broken]

    refused, broken = run(asked())
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "overloaded"
    assert int(refused.headers["retry-after"]) >= 1
    assert broken.status_code == 503
    assert "the replicas are gone" in broken.json()["error"]["message"]


@pytest.mark.parametrize("format_", ["json", "ndjson"])
def test_a_client_that_goes_away_leaves_nothing_under_way(
    run: Run, config: ServeConfig, record: Record, format_: str
) -> None:
    slow = Slow(record)

    async def asked() -> None:
        service = Service(config, slow)
        await service.registry.refresh()
        app = create_app(service)
        body = json.dumps({"n": 500, "format": format_}).encode()
        sent = [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
            "method": "POST", "path": "/v1/samples", "raw_path": b"/v1/samples", "query_string": b"",
            "root_path": "", "scheme": "http", "headers": [(b"content-type", b"application/json")],
            "client": ("1.2.3.4", 1), "server": ("server", 80), "state": {},
        }  # fmt: skip

        async def receive() -> Any:
            return sent.pop(0) if len(sent) > 1 else sent[0]

        async def send(_: Any) -> None:
            pass

        async with asyncio.timeout(20):
            await app(scope, receive, send)

    run(asked())
    assert slow.left


def test_a_stream_that_breaks_says_so_in_its_last_line(run: Run, config: ServeConfig, record: Record) -> None:
    slow = Slow(record)
    slow.going.set()

    async def asked() -> list[httpx2.Response]:
        async with serving(config, slow) as client:
            return [await client.post("/v1/samples", json={"n": 9, "format": name}) for name in ("ndjson", "sse")]

    lines, events = run(asked())
    first, last = map(json.loads, lines.text.splitlines())
    assert first["age"] == record["age"]
    assert last["error"]["code"] == "unavailable"
    assert events.text.strip().split("\n\n")[-1].startswith("event: error\n")


def test_only_known_keys_are_answered_and_no_more_than_their_limits(
    run: Run, config: ServeConfig, backend: LocalBackend
) -> None:
    now = 0.0
    small = KeyConfig(name="small", sha256=hash_key("difflm_a"), requests_per_minute=3, rows_per_minute=60)
    ring = KeyRing([small, KeyConfig(name="free", sha256=hash_key("difflm_b"))], lambda: now)

    async def asked() -> list[tuple[int, str | None]]:
        nonlocal now
        async with serving(config, backend, ring=ring) as client:

            async def post(key: str | None, n: int) -> tuple[int, str | None]:
                headers = {} if key is None else {"authorization": f"Bearer {key}"}
                answer = await client.post("/v1/samples", json={"n": n}, headers=headers)
                return answer.status_code, answer.headers.get("retry-after")

            found = [await post(None, 1), await post("difflm_c", 1), await post("", 1), await post("difflm_a", 50)]
            found += [await post("difflm_a", 20), await post("difflm_a", 1), await post("difflm_a", 1)]
            now = 20.0
            found += [await post("difflm_a", 1), await post("difflm_b", 100), await post("difflm_b", 100)]
            assert (await client.get("/metrics")).status_code == 401
            assert (await client.get("/healthz")).status_code == 200
            return found

    assert run(asked()) == [
        (401, None), (401, None), (401, None), (200, None),
        (429, "10"), (200, None), (429, "20"),
        (200, None), (200, None), (200, None),
    ]  # fmt: skip
