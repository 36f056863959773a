"""Fixtures of the server's tests: a tiny bundle, what the offline job draws from it, and a backend in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx2
import pyarrow as pa
import pytest

from difflm.records.json_codec import JsonRecordCodec
from difflm.records.schema import Record, read_schema
from difflm.serving.app import create_app
from difflm.serving.backend import BundleRef, bundle_ref
from difflm.serving.config import LimitsConfig, ReplicasConfig, ServeConfig, ServedConfig
from difflm.serving.limits import KeyRing
from difflm.serving.loaded_bundle import LocalBackend
from difflm.serving.service import Service
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.plans.draw_plans import DrawPlans
from difflm.synthesis.plans.request import PlanRequest
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.testing.bundles import StageFolders
from difflm.testing.tables import mixed_table

SAMPLING = SamplingConfig(steps=3, precision="float32", text_tokens=8, batch_size=16)


@pytest.fixture(scope="session")
def ref(tiny_stages: StageFolders) -> BundleRef:
    return bundle_ref("tiny", tiny_stages.bundle)


@pytest.fixture(scope="session")
def config(tiny_stages: StageFolders) -> ServeConfig:
    return ServeConfig(
        bundles=[ServedConfig(name="tiny", path=str(tiny_stages.bundle))],
        sampling=SAMPLING,
        limits=LimitsConfig(rows_per_request=500, outstanding_rows=800, given_rows=20, body_bytes=20_000),
        replicas=ReplicasConfig(opening_rows=4),
    )


@pytest.fixture(scope="session")
def backend(config: ServeConfig) -> Iterator[LocalBackend]:
    local = LocalBackend(config)
    yield local
    local.close()


@pytest.fixture(scope="session")
def run() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Run a coroutine; all tests share one event loop, as the requests of a server do."""
    loop = asyncio.new_event_loop()
    yield loop.run_until_complete
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture(scope="session")
def offline(tiny_stages: StageFolders, config: ServeConfig) -> Callable[..., list[tuple[int, Record]]]:
    """A function that draws records of a plan as the offline job does."""
    bundle = load_bundle(tiny_stages.bundle, solver=config.sampling.solver_settings())
    plans = DrawPlans(bundle, text_tokens=config.sampling.text_tokens)

    def draw(
        indices: range,
        *,
        seed: int,
        plan: PlanRequest | None = None,
        given: pa.Table | None = None,
        temperature: float = 1.0,
    ) -> list[tuple[int, Record]]:
        sampling = config.sampling.model_copy(update={"temperature": temperature})
        wanted = (plan or PlanRequest()).plan(plans, given)
        rows, _ = Synthesizer(bundle, sampling, plan=wanted).draw_valid(indices, seed=seed)
        return rows

    return draw


@pytest.fixture(scope="session")
def some_rows(tiny_stages: StageFolders) -> pa.Table:
    """Three records that the bundle can write."""
    schema = read_schema(tiny_stages.bundle)
    return JsonRecordCodec(schema).normalize_table(mixed_table(3, seed=5)).table


@pytest.fixture(scope="session")
def serving() -> Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]:
    """`async with serving(config, backend) as client`: the HTTP interface without a network."""

    @asynccontextmanager
    async def serve(
        config: ServeConfig, backend: Any, *, ring: KeyRing | None = None, loaded: bool = True
    ) -> AsyncIterator[httpx2.AsyncClient]:
        service = Service(config, backend, ring=ring)
        if loaded:
            await service.registry.refresh()
        transport = httpx2.ASGITransport(app=create_app(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client

    return serve


@pytest.fixture(scope="session")
def ask(
    run: Callable[..., Any],
    config: ServeConfig,
    backend: LocalBackend,
    serving: Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]],
) -> Callable[..., httpx2.Response]:
    """`ask("POST", "/v1/samples", json={...})` of a server that is ready."""

    def call(method: str, path: str, **more: Any) -> httpx2.Response:
        async def asked() -> httpx2.Response:
            async with serving(config, backend) as client:
                return await client.request(method, path, **more)

        answer: httpx2.Response = run(asked())
        return answer

    return call
