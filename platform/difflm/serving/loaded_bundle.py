"""A loaded bundle: its engine loop, and the plans of the conditions that were asked for lately."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock

import pyarrow as pa

from difflm.serving.backend import BundleRef, RowsWanted, bundle_ref, refuse_replaced
from difflm.serving.config import ReplicasConfig, ServeConfig
from difflm.serving.engine_loop import EngineLoop
from difflm.serving.fair_queue import Chunk, FairQueue, RowRequest
from difflm.serving.shares import Turns
from difflm.synthesis.bundle import bundle_folder
from difflm.synthesis.open_bundle import OpenBundle
from difflm.synthesis.plans.request import PlanRequest
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer

MAX_PLANS = 64

_log = logging.getLogger(__name__)


class LoadedBundle:
    """One bundle in memory and the batch of its requests."""

    def __init__(self, folder: Path, sampling: SamplingConfig, replicas: ReplicasConfig, *, max_rows: int) -> None:
        self._bundle = OpenBundle(folder, sampling)
        self._plain = self._bundle.synthesizer()
        self._known: OrderedDict[str, Synthesizer] = OrderedDict()
        self._building, self._turns = Lock(), Turns(1)
        self.queue = FairQueue(max_rows=max_rows, opening=replicas.opening_rows)
        self._loop = EngineLoop(self._plain, self.queue)

    @property
    def alive(self) -> bool:
        """Whether its engine still runs."""
        return self._loop.alive

    async def sample(self, wanted: RowsWanted) -> AsyncGenerator[Chunk, None]:
        """See `RowsBackend`."""
        began = time.monotonic()
        synthesizer = self._plain
        if wanted.plan != PlanRequest():
            synthesizer = await self._turns.thread(wanted.owner, lambda: self._planned(wanted.plan, wanted.given))
        chunks: asyncio.Queue[Chunk] = asyncio.Queue()
        request = RowRequest(
            synthesizer=synthesizer,
            start=wanted.start,
            stop=wanted.stop,
            seed=wanted.seed,
            temperature=wanted.temperature,
            deadline=began + wanted.deadline_s,
            owner=wanted.owner,
            deliver=_delivery(asyncio.get_running_loop(), chunks),
        )
        self.queue.submit(request)
        try:
            while True:
                chunk = await chunks.get()
                yield chunk
                self.queue.handed_out(request, len(chunk.rows) + len(chunk.given_up))
                if chunk.done or chunk.failure is not None:
                    return
        finally:
            self.queue.release(request)

    def encode(self, table: pa.Table) -> list[list[float]]:
        """See `RowsBackend`."""
        latents: list[list[float]] = self._bundle.encode(table).tolist()
        return latents

    def close(self) -> None:
        """End its engine; requests under way fail."""
        self.queue.close()
        self._loop.join()

    def _planned(self, plan: PlanRequest, given: pa.Table | None) -> Synthesizer:
        if given is not None:
            return self._bundle.synthesizer(plan, given)
        key = plan.model_dump_json()
        with self._building:
            if key not in self._known:
                self._known[key] = self._bundle.synthesizer(plan)
            self._known.move_to_end(key)
            while len(self._known) > MAX_PLANS:
                self._known.popitem(last=False)
            return self._known[key]


def _delivery(loop: asyncio.AbstractEventLoop, chunks: asyncio.Queue[Chunk]) -> Callable[[Chunk], None]:
    """Put chunks into a queue of another thread's event loop; nothing happens where that has ended."""

    def deliver(chunk: Chunk) -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(chunks.put_nowait, chunk)

    return deliver


class LocalBackend:
    """A `RowsBackend` of this process: bundles are loaded when first asked for, if not before; the one idle for longest
    goes.
    """

    def __init__(self, config: ServeConfig) -> None:
        self._config = config
        self._loaded: OrderedDict[BundleRef, LoadedBundle] = OrderedDict()
        self._loading = asyncio.Lock()

    def load_first(self) -> None:
        """Load as many of the configured bundles as there is room for, before the first request comes."""
        for served in self._config.bundles[: self._config.replicas.loaded_bundles]:
            try:
                ref = bundle_ref(served.name, bundle_folder(Path(served.path)).resolve())
                self._loaded[ref] = self._made(ref)
            except Exception:  # whoever asks for the bundle is told the same; the others can be served
                _log.exception("bundle %s could not be loaded", served.name)

    async def sample(self, wanted: RowsWanted) -> AsyncGenerator[Chunk, None]:
        """See `RowsBackend`."""
        chunks = (await self._bundle(wanted.bundle)).sample(wanted)
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()

    async def encode(self, bundle: BundleRef, table: pa.Table) -> list[list[float]]:
        """See `RowsBackend`."""
        return await asyncio.to_thread((await self._bundle(bundle)).encode, table)

    async def load(self, bundle: BundleRef) -> None:
        """See `RowsBackend`."""
        await self._bundle(bundle)

    @property
    def alive(self) -> bool:
        """Whether the engines of all loaded bundles still run."""
        return all(loaded.alive for loaded in self._loaded.values())

    @property
    def unfinished_rows(self) -> int:
        """Rows that are still to be made."""
        return sum(loaded.queue.unfinished_rows for loaded in self._loaded.values())

    def close(self) -> None:
        """End all engines."""
        for loaded in self._loaded.values():
            loaded.close()

    async def _bundle(self, ref: BundleRef) -> LoadedBundle:
        if ref not in self._loaded:
            async with self._loading:  # those that are there are found meanwhile
                if ref not in self._loaded:
                    await self._load(ref)
        self._loaded.move_to_end(ref)
        return self._loaded[ref]

    async def _load(self, ref: BundleRef) -> None:
        self._loaded[ref] = await asyncio.to_thread(self._made, ref)
        self._drop_idle(keep=ref)

    def _made(self, ref: BundleRef) -> LoadedBundle:
        config = self._config
        made = LoadedBundle(Path(ref.folder), config.sampling, config.replicas, max_rows=config.limits.outstanding_rows)
        try:
            refuse_replaced(ref)
        except BaseException:
            made.close()
            raise
        return made

    def _drop_idle(self, keep: BundleRef) -> None:
        for ref in [*self._loaded]:
            if len(self._loaded) <= self._config.replicas.loaded_bundles:
                return
            if ref != keep and self._loaded[ref].queue.requests == 0:
                self._loaded.pop(ref).close()
