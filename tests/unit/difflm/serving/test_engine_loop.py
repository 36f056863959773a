"""The engine loop: the records of the offline job, whoever shares the batch, and places that are given back."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from difflm.errors import OverloadError, SynthesisError
from difflm.records.kinds.codes_of_form import refuse_unnamed
from difflm.records.schema import IdentifierField, Record, read_schema
from difflm.serving.backend import BundleRef, RowsWanted, bundle_ref
from difflm.serving.config import ServeConfig, ServedConfig
from difflm.serving.loaded_bundle import LocalBackend
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.calibration import CalibrationConfig, calibrate_bundle
from difflm.synthesis.decoding.engines import BuiltinEngineConfig
from difflm.synthesis.decoding.requests import Decoded
from difflm.synthesis.draws import Draw
from difflm.synthesis.plans.draw_plans import DrawPlans
from difflm.synthesis.plans.request import GivenRecords, Impute, PlanRequest, Vary
from difflm.synthesis.synthesizer import Synthesizer
from difflm.testing.bundles import TINY_POOLED_SHAPE, StageFolders, untrained_stages
from difflm.training.record_data import read_split

Rows = list[tuple[int, Record]]
Run = Callable[..., Any]

WHERE = PlanRequest(where='age >= 40 and city == "Oslo"')


def wanted(ref: BundleRef, rows: int, *, start: int = 0, seed: int = 1, **more: Any) -> RowsWanted:
    return RowsWanted(bundle=ref, start=start, stop=start + rows, seed=seed, deadline_s=60.0, **more)


async def collected(backend: LocalBackend, request: RowsWanted) -> Rows:
    rows: Rows = []
    async for chunk in backend.sample(request):
        assert chunk.failure is None
        rows += chunk.rows
    return rows


def test_rows_are_those_of_the_offline_job(run: Run, backend: LocalBackend, ref: BundleRef, offline: Run) -> None:
    assert run(collected(backend, wanted(ref, 40, start=5, seed=3))) == offline(range(5, 45), seed=3)


def test_requests_of_every_kind_share_a_batch_and_do_not_touch_each_other(
    run: Run, backend: LocalBackend, ref: BundleRef, offline: Run, some_rows: pa.Table
) -> None:
    gaps = some_rows.set_column(2, "city", pa.array([None, "Oslo", None], pa.string()))
    vary = PlanRequest(given=GivenRecords(use=Vary(strength=0.5), sha256="a"))
    impute = PlanRequest(given=GivenRecords(use=Impute(columns=("city",)), sha256="b"))
    asked: list[tuple[int, int, dict[str, Any]]] = [
        (40, 1, {}),
        (1, 2, {}),
        (30, 3, {"temperature": 0.4}),
        (20, 4, {"plan": WHERE}),
        (9, 5, {"plan": vary, "given": some_rows}),
        (3, 6, {"plan": impute, "given": gaps}),
    ]

    async def together() -> list[Rows]:
        return await asyncio.gather(
            *(collected(backend, wanted(ref, rows, seed=seed, **more)) for rows, seed, more in asked)
        )

    for (rows, seed, more), found in zip(asked, run(together()), strict=True):
        assert found == offline(range(rows), seed=seed, **more)


def test_a_request_that_is_left_frees_its_places(run: Run, backend: LocalBackend, ref: BundleRef) -> None:
    async def leave() -> int:
        chunks = backend.sample(wanted(ref, 700))
        assert (await anext(chunks)).rows
        queue = backend._loaded[ref].queue
        assert queue.unfinished_rows > 0
        await chunks.aclose()
        return queue.held_rows + queue.unfinished_rows

    assert run(leave()) == 0
    assert len(run(collected(backend, wanted(ref, 3)))) == 3


def test_too_many_rows_at_a_time_are_refused(run: Run, backend: LocalBackend, ref: BundleRef) -> None:
    with pytest.raises(OverloadError, match="801 more would exceed 800"):
        run(collected(backend, wanted(ref, 801)))


def test_a_deadline_that_has_passed_ends_a_request(run: Run, backend: LocalBackend, ref: BundleRef) -> None:
    async def last() -> Any:
        return [chunk async for chunk in backend.sample(replace(wanted(ref, 700), deadline_s=1e-9))][-1]

    assert run(last()).failure == "deadline"


def test_a_plan_that_breaks_costs_its_own_request_only(
    run: Run, backend: LocalBackend, ref: BundleRef, offline: Run, some_rows: pa.Table
) -> None:
    broken = PlanRequest(given=GivenRecords(use=Impute(), sha256="a"))  # of no records: there is none to take turns

    async def both() -> list[Any]:
        async def failing() -> Any:
            return [chunk.failure async for chunk in backend.sample(wanted(ref, 5, plan=broken, given=some_rows[:0]))]

        return await asyncio.gather(failing(), collected(backend, wanted(ref, 20)))

    failures, rows = run(both())
    assert failures == ["engine"]
    assert rows == offline(range(20), seed=1)


def test_a_record_that_cannot_be_read_costs_its_own_request_only(
    run: Run, backend: LocalBackend, ref: BundleRef, offline: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse = Synthesizer.parse

    def without_names(self: Synthesizer, decoded: Decoded) -> Draw:
        if decoded.address.index >= 900:
            raise SynthesisError("row 900 has no name")
        return parse(self, decoded)

    async def both() -> list[Any]:
        async def failing() -> Any:
            return [chunk.failure async for chunk in backend.sample(wanted(ref, 5, start=900))]

        return await asyncio.gather(failing(), collected(backend, wanted(ref, 20)))

    monkeypatch.setattr(Synthesizer, "parse", without_names)
    failures, rows = run(both())
    assert failures == ["engine"]
    assert rows == offline(range(20), seed=1)
    assert backend.alive


def test_a_version_that_is_not_asked_for_any_more_leaves_the_memory(
    run: Run, config: Any, ref: BundleRef, tmp_path: Path
) -> None:
    later = []
    for name in ("v2", "v3"):
        folder = Path(shutil.copytree(ref.folder, tmp_path / name))
        (folder / "README.md").write_text(name)
        later.append(bundle_ref("tiny", folder))
    own = LocalBackend(config.model_copy(update={"replicas": config.replicas.model_copy(update={"loaded_bundles": 1})}))

    async def replaced() -> Rows:
        old = own.sample(wanted(ref, 60))
        first = await anext(old)
        await own.load(later[0])  # while the old version is in use, both are there
        rows = first.rows + [row async for chunk in old for row in [chunk.rows]]
        assert len(own._loaded) == 2
        await own.load(later[1])
        assert [*own._loaded] == later[1:]
        return rows

    assert run(replaced())
    own.close()


def test_the_batch_grows_under_llguidance_too(run: Run, config: Any, spelled_stages: Any) -> None:
    sampling = config.sampling.model_copy(update={"engine": BuiltinEngineConfig(constraint="llguidance")})
    own = LocalBackend(config.model_copy(update={"sampling": sampling}))
    bundle = load_bundle(spelled_stages.bundle, solver=sampling.solver_settings())
    drawn, _ = Synthesizer(bundle, sampling).draw_valid(range(12), seed=1)
    spelled = bundle_ref("spelled", spelled_stages.bundle)
    assert run(collected(own, wanted(spelled, 12))) == drawn
    own.close()


def test_a_calibrated_bundle_corrects_plain_draws_and_no_conditions_in_a_batch_of_both(
    run: Run, config: ServeConfig, any_order_stages: StageFolders, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(any_order_stages.bundle, tmp_path / "bundle"))
    train = read_split(any_order_stages.prepared, "train", read_schema(any_order_stages.prepared))
    assert calibrate_bundle(folder, train, CalibrationConfig(rows=80), seed=1)
    sampling = config.sampling
    bundle = load_bundle(folder, solver=sampling.solver_settings)
    plans = DrawPlans(bundle, text_tokens=sampling.text_tokens)
    asked: list[tuple[int, dict[str, Any]]] = [(1, {}), (2, {"plan": WHERE})]
    wished = [
        Synthesizer(bundle, sampling, plan=more.get("plan", PlanRequest()).plan(plans, None)).draw_valid(
            range(20), seed=seed
        )[0]
        for seed, more in asked
    ]
    plain = load_bundle(any_order_stages.bundle, solver=sampling.solver_settings)
    assert Synthesizer(plain, sampling).draw_valid(range(20), seed=1)[0] != wished[0]
    own = LocalBackend(config.model_copy(update={"bundles": [ServedConfig(name="own", path=str(folder))]}))
    ref = bundle_ref("own", folder)

    async def together() -> list[Rows]:
        return await asyncio.gather(*(collected(own, wanted(ref, 20, seed=seed, **more)) for seed, more in asked))

    try:
        assert run(together()) == wished
    finally:
        own.close()


def test_a_request_that_is_left_while_candidates_wait_leaves_the_engine_as_it_was(
    run: Run, config: ServeConfig, any_order_stages: StageFolders
) -> None:
    few = config.sampling.model_copy(update={"batch_size": 20})  # slots, of which a draw takes eight
    served = [ServedConfig(name="own", path=str(any_order_stages.bundle))]
    own = LocalBackend(config.model_copy(update={"bundles": served, "sampling": few}))
    ref = bundle_ref("own", any_order_stages.bundle)

    async def leave_and_ask() -> Rows:
        left = [own.sample(wanted(ref, 200, seed=seed, plan=WHERE)) for seed in (7, 8)]
        for chunks in left:
            assert (await anext(chunks)).rows
        last = asyncio.ensure_future(collected(own, wanted(ref, 30, seed=3, plan=WHERE)))
        for chunks in left:
            await chunks.aclose()
        return await last

    try:
        rows = run(leave_and_ask())
        assert own.alive
        assert own.unfinished_rows == 0
    finally:
        own.close()
    bundle = load_bundle(any_order_stages.bundle, solver=few.solver_settings)
    plan = WHERE.plan(DrawPlans(bundle, text_tokens=few.text_tokens))
    assert rows == Synthesizer(bundle, few, plan=plan).draw_valid(range(30), seed=3)[0]


def test_a_row_without_a_name_left_costs_its_own_request_and_is_refused_before(
    run: Run, config: ServeConfig, tmp_path: Path
) -> None:
    keys = [f"u{row * 7:05d}-{'abc'[row % 3]}" for row in range(200)]
    table = pa.table({"key": keys, "city": [("Rome", "Oslo")[row % 2] for row in range(200)]})
    folder = untrained_stages(tmp_path, table, shape=TINY_POOLED_SHAPE).bundle
    (field, _) = read_schema(folder).fields
    assert isinstance(field, IdentifierField)
    assert field.start is None, "names of a form"
    own = LocalBackend(config.model_copy(update={"bundles": [ServedConfig(name="own", path=str(folder))]}))
    ref = bundle_ref("own", folder)

    async def last(start: int) -> Any:
        return [chunk async for chunk in own.sample(wanted(ref, 2, start=start))][-1]

    try:
        assert run(last(999_999_990)).failure == "engine"
        assert len(run(collected(own, wanted(ref, 2)))) == 2, "the engine goes on"
    finally:
        own.close()
    with pytest.raises(SynthesisError, match=r"column 'key': there are [\d,]+ different names of its form"):
        refuse_unnamed(read_schema(folder), 999_999_992)
    refuse_unnamed(read_schema(folder), 100)
