"""Batch actors: shards of an index range mapped by a pool of Ray Data actors, their small accounts streamed back.

The actors write their own output files; only accounts (small JSON) travel, so the driver never holds records. An
error inside an actor becomes a row and is retried by that actor a bounded number of times; an actor whose process
dies is replaced, also a bounded number of times; and a watchdog outside ends a map that returns nothing for too long.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import Field

from difflm.config import Config
from difflm.errors import ClusterError, DiffLMError, RunError, UserError
from difflm.runtime.cluster import ClusterContext, current_context, require_resources
from difflm.runtime.failures import error_class, last_line
from difflm.telemetry import JSON, peak_rss_mib


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A range of row indices, start <= index < stop, and the name of its output."""

    id: str
    start: int
    stop: int


class ShardWorker(Protocol):
    """A class of an installed package; one instance lives in each actor and keeps its model between shards."""

    def __init__(self, args: dict[str, Any]) -> None:
        """Take JSON-like arguments; loading a model belongs here."""
        ...

    def run(self, shard: Shard) -> dict[str, JSON]:
        """Write the shard's output file by rename and return its account. Running it again must give the same file."""
        ...


class ActorPoolConfig(Config):
    """The processes of a shard map."""

    min_actors: int | None = Field(default=None, ge=1, description="Actors to start with; none: all of them.")
    max_actors: int | None = Field(default=None, ge=1, description="Most actors; none: as many as fit on the cluster.")
    cpus_per_actor: int = Field(default=1, ge=1, description="CPUs, and torch threads, of each actor.")
    gpus_per_actor: float = Field(default=0.0, ge=0.0, description="GPUs of each actor; a fraction shares one.")
    attempts: int = Field(default=2, ge=1, description="How often a shard that raises is tried before the map fails.")
    max_failures: int = Field(default=3, ge=0, description="How often a process may die on the same shard.")


@dataclass(frozen=True, slots=True, kw_only=True)
class MapSummary:
    """What a map did: shards finished, wall seconds, and the peak resident memory of every actor process by pid."""

    shards: int
    seconds: float
    first_result_seconds: float
    peak_rss_mib: dict[int, float]


def map_shards(
    shards: Sequence[Shard],
    actor: type[ShardWorker],
    actor_args: Mapping[str, Any],
    resources: ActorPoolConfig,
    on_result: Callable[[dict[str, JSON]], None],
    timeout_s: float,
) -> MapSummary:
    """Run `actor.run` on every shard and hand each account to `on_result`, in order of completion, in this thread.

    An account is what `run` returned plus "shard", "seconds", "pid" and "peak_rss_mib". Leave out shards that are
    already done: the map itself remembers nothing. `timeout_s` is the longest wait for the next account (loading
    models included).

    Raises the DiffLMError a shard ended in, naming the shard; ClusterError when actors died on the same shard too
    often, when nothing came back within `timeout_s`, or when the cluster cannot hold one actor.
    """
    if not shards:
        return MapSummary(shards=0, seconds=0.0, first_result_seconds=0.0, peak_rss_mib={})
    started, first = time.monotonic(), 0.0
    peaks: dict[int, float] = {}
    pending = {shard.id for shard in shards}
    if len(pending) != len(shards):
        raise ClusterError(f"{len(shards)} shards have only {len(pending)} different ids; every shard needs its own")
    pool_size = _pool_size(current_context(), resources, len(shards))
    with _watched(_rows(shards, actor, dict(actor_args), resources, pool_size), timeout_s, pending) as rows:
        for row in rows:
            if "error" in row:
                _raise(row)
            first = first or time.monotonic() - started
            pending.discard(str(row["shard"]))
            pid, peak = row["pid"], row["peak_rss_mib"]
            peaks[pid] = max(peaks.get(pid, 0.0), peak)
            on_result(row)
    if pending:
        raise ClusterError(f"the map ended without {len(pending)} of its shards ({_names(pending)}); run it again")
    seconds = time.monotonic() - started
    return MapSummary(shards=len(shards), seconds=seconds, first_result_seconds=first, peak_rss_mib=peaks)


def _pool_size(context: ClusterContext, resources: ActorPoolConfig, shards: int) -> int:
    """Most actors: what is asked for, what fits, and no more than there are shards."""
    require_resources(context, cpus=resources.cpus_per_actor, gpus=resources.gpus_per_actor, purpose="an actor")
    fit = context.num_cpus // resources.cpus_per_actor
    if resources.gpus_per_actor:
        fit = min(fit, context.num_gpus / resources.gpus_per_actor)
    return max(1, min(resources.max_actors or int(fit), shards))


def _rows(
    shards: Sequence[Shard],
    actor: type[ShardWorker],
    actor_args: dict[str, Any],
    resources: ActorPoolConfig,
    pool_size: int,
) -> Generator[dict[str, Any], None, None]:
    """The stream of rows from Ray Data: one block, and one call, per shard."""
    import ray.data

    starts: Any = ray.remote(num_cpus=0)(_Starts).remote()
    _quiet(ray.data.DataContext.get_current())
    items = [{"id": shard.id, "start": shard.start, "stop": shard.stop} for shard in shards]
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _ActorCall,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            min_size=min(resources.min_actors or pool_size, pool_size),
            max_size=pool_size,
            max_tasks_in_flight_per_actor=1,
        ),
        fn_constructor_args=(actor, actor_args, resources, starts),
        num_cpus=resources.cpus_per_actor,
        num_gpus=resources.gpus_per_actor or None,
    )
    for batch in dataset.iter_batches(batch_size=1, prefetch_batches=0):  # a prefetched account would arrive late
        for account in batch["json"]:
            yield json.loads(str(account))


class _Starts:
    """An actor that counts how often each shard was started: Ray Data itself replaces dead processes without end."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def begin(self, shard: str) -> int:
        """How often this shard was started, this time included."""
        self._counts[shard] = self._counts.get(shard, 0) + 1
        return self._counts[shard]


class _ActorCall:
    """The callable class that Ray Data instantiates in each actor."""

    def __init__(self, actor: type[ShardWorker], args: dict[str, Any], resources: ActorPoolConfig, starts: Any) -> None:
        os.environ["OMP_NUM_THREADS"] = str(resources.cpus_per_actor)
        if not resources.gpus_per_actor:  # Ray hides none here, and all actors would take the first
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._actor = actor
        self._args = args
        self._resources = resources
        self._starts = starts
        self._worker: ShardWorker | None = None

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        columns = zip(batch["id"], batch["start"], batch["stop"], strict=True)
        shards = [Shard(id=str(name), start=int(start), stop=int(stop)) for name, start, stop in columns]
        return {"json": [json.dumps(self._row(shard)) for shard in shards]}

    def _row(self, shard: Shard) -> dict[str, JSON]:
        import ray

        deaths = ray.get(self._starts.begin.remote(shard.id)) - 1
        if deaths > self._resources.max_failures:
            reason = (
                "its process died every time (killed, out of memory or crashed); use smaller batches or fewer actors"
            )
            row: dict[str, JSON] = {"error": reason, "kind": "ClusterError", "attempts": deaths}
        else:
            row = self._account(shard)
        return {**row, "shard": shard.id, "pid": os.getpid(), "peak_rss_mib": peak_rss_mib()}

    def _account(self, shard: Shard) -> dict[str, JSON]:
        """The shard's account or its last error, as a row: an exception would end the whole map with a long
        traceback.
        """
        row: dict[str, JSON] = {}
        for attempt in range(1, self._resources.attempts + 1):
            started = time.monotonic()
            try:
                if self._worker is None:
                    self._worker = self._actor(self._args)
                row = dict(self._worker.run(shard))
            except Exception as error:  # the boundary of a process: whatever it is travels as a row
                row = {"error": " ".join(str(error).split()) or type(error).__name__, "kind": type(error).__name__}
                row["attempts"] = attempt
                self._worker = None if not isinstance(error, DiffLMError) else self._worker
                if isinstance(error, UserError):
                    break
            else:
                row["seconds"] = time.monotonic() - started
                break
        return row


class _watched:
    """Iterate rows in a thread; the consumer waits for each at most `timeout_s` seconds."""

    def __init__(self, rows: Generator[dict[str, Any], None, None], timeout_s: float, pending: set[str]) -> None:
        self._rows = rows
        self._timeout_s = timeout_s
        self._pending = pending
        self._queue: queue.Queue[dict[str, Any] | BaseException | None] = queue.Queue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._pump, name="map-shards", daemon=True)

    def __enter__(self) -> Iterator[dict[str, Any]]:
        self._thread.start()
        return self._consume()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def _pump(self) -> None:
        try:
            for row in self._rows:
                self._queue.put(row)
                if self._stopped.is_set():
                    break
        except Exception as error:  # handed to the consumer, which raises it
            self._queue.put(error)
        else:
            self._queue.put(None)
        finally:
            self._rows.close()  # ends Ray Data's execution, which an abandoned iterator would keep alive

    def _consume(self) -> Iterator[dict[str, Any]]:
        while True:
            try:
                item = self._queue.get(timeout=self._timeout_s)
            except queue.Empty:
                raise ClusterError(
                    f"no shard finished within {self._timeout_s:g} s; {len(self._pending)} are missing "
                    f"({_names(self._pending)}); use smaller shards or a longer timeout, or look at the cluster"
                ) from None
            if item is None:
                return
            if isinstance(item, BaseException):
                raise ClusterError(
                    f"{len(self._pending)} shards are missing ({_names(self._pending)}): {last_line(item)}"
                ) from item
            yield item


def _raise(row: Mapping[str, Any]) -> None:
    kind = error_class(row["kind"])
    text = row["error"] if kind is not None else f"{row['kind']}: {row['error']}"
    raise (kind or RunError)(f"shard {row['shard']} failed after {row['attempts']} attempts: {text}")


def _quiet(context: Any) -> None:
    """No progress bars and no log lines of Ray Data on the driver's terminal; its log files keep them."""
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # the watchdog here knows how long a shard may take
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def _names(pending: set[str]) -> str:
    shown = sorted(pending)[:3]
    return ", ".join(shown) + (", ..." if len(pending) > len(shown) else "")
