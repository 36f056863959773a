"""Serving on Ray without Ray: calls that go on with another replica, scaling by rows, and the deployable file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import RayActorError, RayTaskError

from difflm.errors import ClusterError, OverloadError
from difflm.runtime import serving
from difflm.runtime.serving import HandleBackend
from difflm.runtime.serving_scaling import QueuedRowsPolicy
from difflm.serving.backend import BundleRef, RowsWanted, bundle_ref
from difflm.serving.config import HttpConfig, ServeConfig, ServedConfig
from difflm.serving.fair_queue import Chunk
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.testing.bundles import StageFolders

# Ray Serve's own models declare their fields in a way that pydantic is about to give up.
pytestmark = pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`:DeprecationWarning")

WANTED = RowsWanted(
    bundle=BundleRef(name="a", folder="/a", version="1"), start=10, stop=16, seed=1, deadline_s=60.0
)  # fmt: skip


class Calls:
    """What a handle gives for a streaming call."""

    def __init__(self, chunks: AsyncGenerator[Chunk, None], log: list[str]) -> None:
        self.chunks, self.log = chunks, log

    def __aiter__(self) -> AsyncGenerator[Chunk, None]:
        return self.chunks

    def cancel(self) -> None:
        self.log.append("cancelled")


@dataclass
class Handle:
    """A handle whose replicas make so many rows each before they end in a given way; None: they do not."""

    lives: list[tuple[int, Exception | str | None]]
    asked: list[RowsWanted] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def options(self, *, stream: bool) -> Handle:
        assert stream
        return self

    @property
    def sample(self) -> Any:
        return SimpleNamespace(remote=lambda wanted: Calls(self._chunks(wanted), self.log))

    async def _chunks(self, wanted: RowsWanted) -> AsyncGenerator[Chunk, None]:
        self.asked.append(wanted)
        rows, end = self.lives.pop(0)
        for index in range(wanted.start, min(wanted.stop, wanted.start + rows)):
            last = index == wanted.stop - 1
            given_up = [index] if index % 4 == 3 else []
            yield Chunk(rows=[] if given_up else [(index, {"i": index})], given_up=given_up, done=last)
        if isinstance(end, Exception):
            raise end
        if end is not None:
            yield Chunk(rows=[], given_up=[], failure="engine")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_AGAIN_S", 0.0)


def collected(handle: Handle) -> list[Chunk]:
    async def all_of() -> list[Chunk]:
        return [chunk async for chunk in HandleBackend(handle).sample(WANTED)]

    return asyncio.run(all_of())


def indices(chunks: list[Chunk]) -> list[int]:
    return [index for chunk in chunks for index in [*(row for row, _ in chunk.rows), *chunk.given_up]]


def test_a_request_goes_on_behind_the_rows_that_are_there_when_its_replica_dies_or_breaks() -> None:
    handle = Handle([(2, RayActorError()), (0, RayActorError()), (1, "engine"), (9, None)])
    chunks = collected(handle)
    assert indices(chunks) == list(range(10, 16))
    assert [wanted.start for wanted in handle.asked] == [10, 12, 12, 13]
    assert [chunk.done for chunk in chunks].count(True) == 1
    assert handle.log == ["cancelled"] * 4


def test_replicas_that_end_again_and_again_are_an_error() -> None:
    handle = Handle([(0, RayActorError())] * (serving.LOSSES + 1))
    with pytest.raises(ClusterError, match="RayActorError"):
        collected(handle)
    assert len(handle.asked) == serving.LOSSES + 1


def test_a_request_that_breaks_engines_breaks_few_of_them() -> None:
    """One request ended six engines, one after the other, of which each had to be started and loaded anew."""
    handle = Handle([(0, "engine")] * (serving.LOSSES + 1))
    assert [chunk.failure for chunk in collected(handle)] == ["engine"]
    assert len(handle.asked) == serving.BREAKS + 1 < serving.LOSSES
    mixed = Handle([(1, RayActorError())] * serving.LOSSES + [(0, "engine")])
    assert [chunk.failure for chunk in collected(mixed)][-1] == "engine"


def test_errors_raised_on_purpose_come_through_and_are_not_tried_again() -> None:
    class Remote(OverloadError):
        """As Ray wraps an error of another process: of its class, with the traceback as its text."""

        def __init__(self, cause: Exception) -> None:
            super().__init__("Traceback ...")
            self.cause = cause

    handle = Handle([(0, Remote(OverloadError("full")))])
    with pytest.raises(OverloadError, match=r"^full$"):
        collected(handle)
    assert len(handle.asked) == 1


def context(rows: Mapping[str, float], requests: float, least: int, most: int) -> Any:
    return SimpleNamespace(
        aggregated_metrics={"queued_rows": rows} if rows else None,
        total_num_requests=requests,
        capacity_adjusted_min_replicas=least,
        capacity_adjusted_max_replicas=most,
    )


@pytest.mark.parametrize(
    ("rows", "requests", "least", "most", "wanted"),
    [
        ({}, 0, 0, 5, 0),
        ({}, 1, 0, 5, 1),
        ({"a": 0.0}, 0, 1, 5, 1),
        ({"a": 0.0}, 3, 0, 5, 1),
        ({"a": 100.0}, 1, 1, 5, 1),
        ({"a": 101.0}, 1, 1, 5, 2),
        ({"a": 150.0, "b": 170.0}, 2, 1, 5, 4),
        ({"a": 9999.0}, 1, 1, 5, 5),
    ],
)
def test_replicas_follow_rows_not_requests(
    rows: dict[str, float], requests: float, least: int, most: int, wanted: int
) -> None:
    assert QueuedRowsPolicy(target_queued_rows=100)(context(rows, requests, least, most)) == (wanted, {})


@given(rows=st.floats(0, 1e9), requests=st.integers(0, 9), least=st.integers(0, 3), more=st.integers(0, 9))
def test_the_number_of_replicas_is_always_within_its_bounds(rows: float, requests: int, least: int, more: int) -> None:
    wanted, _ = QueuedRowsPolicy(target_queued_rows=7)(context({"a": rows}, requests, least, max(1, least + more)))
    assert least <= wanted <= max(1, least + more)


def test_the_deployment_of_a_replica_draws_the_rows_of_the_offline_job(tiny_stages: StageFolders) -> None:
    from ray import serve

    sampling = SamplingConfig(steps=3, precision="float32", text_tokens=8, batch_size=8)
    config = ServeConfig(bundles=[ServedConfig(name="a", path=str(tiny_stages.bundle))], sampling=sampling)
    handle = serve.run(serving.sampler(config), name="local", _local_testing_mode=True)
    backend = HandleBackend(handle)
    ref = bundle_ref("a", tiny_stages.bundle)
    wanted = RowsWanted(bundle=ref, start=2, stop=12, seed=1, deadline_s=60.0)

    async def drawn() -> list[tuple[int, Any]]:
        await backend.load(ref)
        return [row async for chunk in backend.sample(wanted) for row in chunk.rows]

    bundle = load_bundle(tiny_stages.bundle, solver=sampling.solver_settings())
    expected, _ = Synthesizer(bundle, sampling).draw_valid(range(2, 12), seed=1)
    assert asyncio.run(drawn()) == expected


def test_the_application_has_a_gateway_in_front_of_its_replicas() -> None:
    from ray.serve._private.build_app import build_app

    args = ServeConfig(bundles=[ServedConfig(name="a", path="/a")]).model_dump(mode="json")
    built = build_app(serving.application(args), name="difflm")
    assert built.ingress_deployment_name == "gateway"
    assert sorted(deployment.name for deployment in built.deployments) == ["gateway", "sampler"]


def test_what_is_deployed_builds_the_same_server() -> None:
    config = ServeConfig(
        bundles=[ServedConfig(name="a", path="/a")],
        http=HttpConfig(port=8443, certificate_file="/c.pem", key_file="/k.pem"),
    )
    deployable = serving.deployable(config)
    (application,) = deployable["applications"]
    assert application["import_path"] == "difflm.runtime.serving:application"
    assert ServeConfig.model_validate(application["args"]) == config
    assert deployable["http_options"]["ssl_certfile"] == "/c.pem"


def test_what_a_process_of_serve_raised_is_said_without_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        frames = "".join(f'  File "/somewhere/{place}.py", line {place}, in deploy\n' for place in range(20))
        raise RayTaskError("deploy", f"ray::Controller.deploy()\n{frames}AttributeError: no label", AttributeError())

    serve = SimpleNamespace(start=lambda **_: None, run=run)
    monkeypatch.setattr(serving, "_ray_serve", lambda: serve)
    monkeypatch.setattr(serving, "_with_one_precision", lambda config: config)
    monkeypatch.setattr(serving, "application", lambda args: None)
    config = ServeConfig(bundles=[ServedConfig(name="a", path="/a")])
    with pytest.raises(ClusterError, match=r"^the server could not be started \(AttributeError: no label\); look into"):
        serving.start(config)
