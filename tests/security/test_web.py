"""Pages in a browser against a server on the same machine, and what every answer bears."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pyarrow as pa
import pytest

from difflm.errors import OverloadError
from difflm.serving import service as service_module
from difflm.serving.app import create_app
from difflm.serving.backend import BundleRef, RowsWanted
from difflm.serving.config import HttpConfig, LimitsConfig, ServeConfig, ServedConfig
from difflm.serving.fair_queue import Chunk
from difflm.serving.jobs import Jobs, JobSpec
from difflm.serving.limits import KeyConfig, KeyRing, hash_key
from difflm.serving.problems import Problem
from difflm.serving.registry import ServedBundle
from difflm.serving.service import Service
from difflm.testing.bundles import StageFolders

KEY = "difflm_alice"


class Full:
    """A backend that has enough to do."""

    async def sample(self, wanted: RowsWanted) -> AsyncGenerator[Chunk, None]:
        raise OverloadError("enough to do")
        yield

    async def encode(self, bundle: BundleRef, table: pa.Table) -> list[list[float]]:
        raise ZeroDivisionError

    async def load(self, bundle: BundleRef) -> None:
        pass


Ask = Callable[..., httpx2.Response]


@pytest.fixture(scope="module")
def ask(stages: StageFolders) -> Ask:
    """`ask(method, path, http={...}, **more)` of a server without keys on this machine."""
    apps: dict[str, Any] = {}

    def call(method: str, path: str, *, http: dict[str, Any] | None = None, **more: Any) -> httpx2.Response:
        async def asked() -> httpx2.Response:
            if str(http) not in apps:
                served = [ServedConfig(name="tiny", path=str(stages.bundle))]
                service = Service(ServeConfig(bundles=served, http=HttpConfig(**(http or {}))), Full())
                await service.registry.refresh()
                apps[str(http)] = create_app(service)
            transport = httpx2.ASGITransport(app=apps[str(http)], raise_app_exceptions=False)
            async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
                return await client.request(method, path, **more)

        return asyncio.run(asked())

    return call


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/bundles", "/openapi.json", "/playground/main.js"])
def test_a_name_that_somebody_lets_lead_here_is_none_of_the_server(ask: Ask, path: str) -> None:
    for host in ("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1"):
        answer = ask("GET", path, headers={"Host": host})
        assert answer.status_code == 403, host
        assert answer.json()["error"]["field"] == "host"
    for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:9", "[::1]:8000"):
        assert ask("GET", path, headers={"Host": host}).status_code == 200


def test_names_that_were_allowed_are_the_only_ones(ask: Ask) -> None:
    http = {"allowed_hosts": ["rows.example.org"]}
    assert ask("GET", "/v1/bundles", http=http, headers={"Host": "rows.example.org"}).status_code == 200
    assert ask("GET", "/v1/bundles", http=http).status_code == 403


def test_a_page_of_another_origin_makes_no_rows(ask: Ask) -> None:
    body = {"n": 5}
    for origin in ("https://evil.example", "null", "http://localhost:9000"):
        answer = ask("POST", "/v1/samples", json=body, headers={"Origin": origin})
        assert (answer.status_code, answer.json()["error"]["field"]) == (403, "origin")
    assert ask("POST", "/v1/samples", json=body, headers={"Origin": "http://localhost:8000"}).status_code == 429
    http = {"cors_origins": ["https://mine.example"]}
    answer = ask("POST", "/v1/samples", json=body, http=http, headers={"Origin": "https://mine.example"})
    assert answer.status_code == 429


@pytest.mark.parametrize("twice", ["Host", "Authorization", "Origin"])
def test_what_a_proxy_looks_at_comes_once(ask: Ask, twice: str) -> None:
    """Of two the last counted here, and elsewhere the first may."""
    given = {"Host": "localhost", "Authorization": "Bearer x", "Origin": "http://localhost:8000"}
    headers = [("Host", "localhost"), ("Authorization", "Bearer x"), (twice, given[twice])]
    headers = headers if twice != "Origin" else [*headers, (twice, given[twice])]
    answer = ask("GET", "/healthz", headers=headers)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, twice.lower())


@pytest.mark.parametrize("media", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_what_a_page_may_send_without_asking_is_no_request(ask: Ask, media: str | None) -> None:
    headers = {} if media is None else {"Content-Type": media}
    answer = ask("POST", "/v1/samples", content=b'{"n": 5}', headers=headers)
    assert answer.status_code == 422
    assert "Content-Type: application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/healthz"),
        ("GET", "/openapi.json"),
        ("GET", "/v1/bundles"),
        ("GET", "/v1/bundles/"),
        ("GET", "/v1/schema"),
        ("GET", "/v1/schema?bundle=none"),
        ("GET", "/metrics"),
        ("GET", "/nowhere"),
        ("PUT", "/v1/samples"),
        ("POST", "/v1/encode"),
        ("POST", "/v1/samples"),
        ("OPTIONS", "/v1/samples"),
        ("GET", "/v1/jobs/x"),
        ("GET", "//evil.example/..;/v1/bundles/"),
    ],
)
def test_no_answer_is_kept_taken_for_something_else_or_leads_away(ask: Ask, method: str, path: str) -> None:
    preflight = {"Origin": "https://mine.example", "Access-Control-Request-Method": "POST"}
    http = {"cors_origins": ["https://mine.example"]}
    for answer in (
        ask(method, path),
        ask(method, path, http=http, headers=preflight),
        ask(method, path, json={"n": 1}),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "location" not in answer.headers
        if answer.status_code >= 400:
            assert set(answer.json()) == {"error"}
            assert set(answer.json()["error"]) == {"code", "message", "field"}


@pytest.mark.parametrize(
    ("origin", "method", "headers", "field"),
    [
        ("https://evil.example", "POST", None, "origin"),
        ("https://mine.example", "PUT", None, "method"),
        ("https://mine.example", "POST", "x-evil", "headers"),
    ],
)
def test_a_refused_preflight_is_told_in_one_form(
    ask: Ask, origin: str, method: str, headers: str | None, field: str
) -> None:
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    asked |= {} if headers is None else {"Access-Control-Request-Headers": headers}
    answer = ask("OPTIONS", "/v1/samples", http={"cors_origins": ["https://mine.example"]}, headers=asked)
    assert answer.status_code == 400
    assert answer.json()["error"] == {"code": "cors", "message": f"pages may not ask so: {field}", "field": field}
    assert "Origin" in answer.headers["vary"]
    assert ("access-control-allow-origin" in answer.headers) is (origin == "https://mine.example")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("range_", "status", "code"), [("bytes=x", 400, "refused"), ("bytes=99-", 416, "range"), ("bytes=0-0", 206, None)]
)
def test_a_part_of_a_file_that_cannot_be_is_told_in_one_form(
    stages: StageFolders, tmp_path: Path, range_: str, status: int, code: str | None
) -> None:
    """Starlette's answers about ranges were plain text."""
    facts: dict[str, Any] = {"owner": "anonymous", "bundle": "b", "version": "v", "folder": "/b", "n": 1, "seed": 1}
    spec = JobSpec(**facts, where=None, sampling="{}", format="csv")
    config = ServeConfig(bundles=[ServedConfig(name="tiny", path=str(stages.bundle))])

    async def asked() -> httpx2.Response:
        jobs = Jobs(tmp_path, most=1)
        name = jobs.submit(spec).id
        (tmp_path / name / "data.csv").write_text("a\n1\n")
        transport = httpx2.ASGITransport(app=create_app(Service(config, Full(), jobs=jobs)))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(f"/v1/jobs/{name}/data", headers={"Range": range_})

    answer = asyncio.run(asked())
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert code is None or answer.json()["error"]["code"] == code
    assert status != 416 or answer.headers["content-range"] == "bytes */4"


def test_a_fault_bears_the_same_headers(ask: Ask) -> None:
    row = {"age": 3, "wage": 1.0}
    schema = ask("GET", "/v1/schema").json()["schema"]
    row = {field["name"]: None for field in schema["fields"]}
    answer = ask("POST", "/v1/encode", json={"rows": [row]})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_refused_rows_and_refused_jobs_are_not_paid_for(stages: StageFolders, tmp_path: Path) -> None:
    """A refused job of a million rows made the next single row wait for more than an hour and a half."""
    ring = KeyRing([KeyConfig(name="alice", sha256=hash_key(KEY), rows_per_minute=10_000)], lambda: 0.0)
    config = ServeConfig(
        bundles=[ServedConfig(name="tiny", path=str(stages.bundle))], keys_file="keys.yaml", limits=LimitsConfig(jobs=1)
    )

    async def asked() -> list[httpx2.Response]:
        jobs = Jobs(tmp_path / "jobs", most=1, owners=ring.owners)
        (tmp_path / "jobs").mkdir()
        service = Service(config, Full(), ring=ring, jobs=jobs)
        await service.registry.refresh()
        jobs._room.add("alice", 1)  # the queue is full
        transport = httpx2.ASGITransport(app=create_app(service))
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://any", headers=headers) as client:
            bodies = [{"n": 1_000_000}, {"n": 9_000}, {"n": 9_000}, {"n": 9_000, "format": "ndjson"}, {"n": 1}]
            return [await client.post("/v1/samples", json=body) for body in bodies]

    for answer in asyncio.run(asked()):
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "overloaded"


def test_a_job_that_cannot_be_written_down_is_not_paid_for(stages: StageFolders, tmp_path: Path) -> None:
    """A disk that was full cost the rows of the job, and said that the server has a fault."""
    ring = KeyRing([KeyConfig(name="alice", sha256=hash_key(KEY), rows_per_minute=10_000)], lambda: 0.0)
    config = ServeConfig(bundles=[ServedConfig(name="tiny", path=str(stages.bundle))], keys_file="keys.yaml")

    async def asked() -> list[tuple[int, str]]:
        jobs = Jobs(tmp_path / "nowhere", most=5, owners=ring.owners)  # the folder is not there
        service = Service(config, Full(), ring=ring, jobs=jobs)
        await service.registry.refresh()
        transport = httpx2.ASGITransport(app=create_app(service))
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://any", headers=headers) as client:
            answers = [await client.post("/v1/samples", json={"n": n}) for n in (1_000_000, 1_000_000, 1)]
            return [(answer.status_code, answer.json()["error"]["code"]) for answer in answers]

    assert asyncio.run(asked()) == [(503, "unavailable"), (503, "unavailable"), (429, "overloaded")]


def test_refused_records_are_not_paid_for(stages: StageFolders) -> None:
    """Records whose latents nobody computed, for want of room or because they were wrong, counted as rows."""

    class FullForAll(Full):
        async def encode(self, bundle: BundleRef, table: pa.Table) -> list[list[float]]:
            raise OverloadError("enough to do")

    ring = KeyRing([KeyConfig(name="alice", sha256=hash_key(KEY), rows_per_minute=100)], lambda: 0.0)
    limits = LimitsConfig(rows_per_request=50, outstanding_rows=50)
    config = ServeConfig(
        bundles=[ServedConfig(name="tiny", path=str(stages.bundle))], keys_file="keys.yaml", limits=limits
    )

    async def asked() -> list[str]:
        service = Service(config, FullForAll(), ring=ring)
        await service.registry.refresh()
        row = dict.fromkeys(service.registry.get(None).schema.names)
        transport = httpx2.ASGITransport(app=create_app(service))
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://any", headers=headers) as client:
            bodies = [{"rows": [row] * count} for count in (40, 40, 40, 80, 80)]
            answers = [await client.post("/v1/encode", json=body) for body in bodies]
            return [answer.json()["error"]["code"] for answer in answers]

    assert asyncio.run(asked()) == ["overloaded"] * 5


def test_tables_of_given_records_are_made_off_the_event_loop(
    stages: StageFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a bundle with many columns 3 KB of empty records kept everybody waiting for most of a second."""
    threads: list[threading.Thread] = []

    def recorded(function: Any) -> Any:
        def call(*given: Any, **more: Any) -> Any:
            threads.append(threading.current_thread())
            return function(*given, **more)

        return call

    for name in ("_text_table", "kept_cells", "GivenRecords"):
        monkeypatch.setattr(service_module, name, recorded(getattr(service_module, name)))
    config = ServeConfig(bundles=[ServedConfig(name="tiny", path=str(stages.bundle))])

    async def asked() -> list[int]:
        service = Service(config, Full())
        await service.registry.refresh()
        names = service.registry.get(None).schema.names
        transport = httpx2.ASGITransport(app=create_app(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            whole = dict.fromkeys(names)
            return [
                (await client.post("/v1/impute", json={"rows": [{}] * 3})).status_code,
                (await client.post("/v1/samples", json={"n": 3, "like": [whole] * 3})).status_code,
            ]

    assert asyncio.run(asked())[0] == 429  # all of it was made before the backend had enough to do
    assert len(threads) >= 5
    assert threading.main_thread() not in threads


def test_columns_of_a_request_are_compared_once_each(stages: StageFolders) -> None:
    """Each name was looked for among all columns, on the event loop."""
    names = [f"c{place}" for place in range(10_000)]
    schema: Any = SimpleNamespace(names=names)
    bundle = ServedBundle(
        ref=BundleRef(name="b", folder="/b", version="v"), schema=schema, codec=cast(Any, None), quality=None
    )
    began = time.process_time()
    bundle.check_columns(names)
    with pytest.raises(Problem, match="no column 'x'"):
        bundle.check_columns([*names, "x"])
    with pytest.raises(Problem, match="named twice"):
        bundle.check_columns(["c1", "c1"])
    assert time.process_time() - began < 2.0


def test_records_that_wait_for_a_bundle_keep_nobody_from_being_read(stages: StageFolders) -> None:
    """Four of one key, for a bundle that was being loaded, and no request of any other key was looked at."""
    config = ServeConfig(bundles=[ServedConfig(name="tiny", path=str(stages.bundle))])

    class Loads(Full):
        waiting = 0

        async def encode(self, bundle: BundleRef, table: pa.Table) -> list[list[float]]:
            self.waiting += 1
            return await asyncio.get_running_loop().create_future()

    async def asked() -> int:
        backend = Loads()
        service = Service(config, backend)
        await service.registry.refresh()
        row = dict.fromkeys(service.registry.get(None).schema.names)
        transport = httpx2.ASGITransport(app=create_app(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client, asyncio.timeout(60):
            posts = [asyncio.ensure_future(client.post("/v1/encode", json={"rows": [row]})) for _ in range(8)]
            while backend.waiting < 4:
                await asyncio.sleep(0)
            answer = await client.post("/v1/samples", json={"n": 1})
            for post in posts:
                post.cancel()
            return answer.status_code

    assert asyncio.run(asked()) == 429
