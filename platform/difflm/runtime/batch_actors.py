"""Batch actors: shards of an index range mapped by a pool of Ray Data actors, their small accounts streamed back.

The actors write their own output files; only accounts (small JSON) travel, so the driver never holds records. What
raises is tried again by the same actor, an actor whose process dies is replaced, and what fails on and on is cut down
to the index that does it (`ledger.py`); a watchdog outside ends a map that returns nothing for too long.
"""

from __future__ import annotations

import importlib
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from difflm.artifacts.dataset import Shard
from difflm.errors import ClusterError
from difflm.runtime.cluster import ClusterContext, current_context, require_resources
from difflm.runtime.ledger import ShardLedger
from difflm.runtime.process import last_line
from difflm.runtime.shard_actor import ActorCall, ActorPoolConfig, MapSummary, ShardWorker, raise_failure, reachable
from difflm.telemetry import JSON


def map_shards(
    shards: Sequence[Shard],
    actor: type[ShardWorker],
    actor_args: Mapping[str, Any],
    resources: ActorPoolConfig,
    on_result: Callable[[dict[str, JSON]], None],
    timeout_s: float,
    *,
    folders: Mapping[str, Path] | None = None,
) -> MapSummary:
    """Run `actor.run` on every shard and hand each account to `on_result`, in order of completion, in this thread.

    An account is what `run` returned plus "shard", "start", "stop", "seconds", "pid" and "peak_rss_mib". A shard that
    had to be cut gives an account for each piece, and for each index given up one with "given_up", the reason, in
    place of what `run` returns. Leave out shards that are already done: the map itself remembers nothing. `timeout_s`
    is the longest wait for the next account (loading models included). `folders` are further arguments: folders of
    this machine that an actor finds at the path it is given, on whatever node it runs.

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
    context = current_context()
    args = {**actor_args, **reachable(folders or {}, context)}
    pool_size = _pool_size(context, resources, len(shards))
    with _watched(_rows(shards, actor, args, resources, pool_size), timeout_s, pending) as rows:
        for row in rows:
            if "error" in row:
                raise_failure(row)
            first = first or time.monotonic() - started
            pending.discard(str(row["shard"]))
            if "peak_rss_mib" in row:
                peaks[row["pid"]] = max(peaks.get(row["pid"], 0.0), row["peak_rss_mib"])
            on_result(row)
    if pending:
        raise ClusterError(f"the map ended without {len(pending)} of its shards ({_names(pending)}); run it again")
    seconds = time.monotonic() - started
    return MapSummary(shards=len(shards), seconds=seconds, first_result_seconds=first, peak_rss_mib=peaks)


def _pool_size(context: ClusterContext, resources: ActorPoolConfig, shards: int) -> int:
    """Return the most actors to start: what is asked for, what fits, and no more than there are shards."""
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
    """Stream the rows from Ray Data: one block, and one call, per shard."""
    import ray.data

    context = ray.data.DataContext.get_current()
    _quiet(context)
    smallest = min(resources.min_actors or pool_size, pool_size)
    if smallest < pool_size:  # an actor has one shard at a time: it is fully used when it has one
        context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0
    items = [{"id": shard.id, "start": shard.start, "stop": shard.stop} for shard in shards]
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        ActorCall,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            min_size=smallest,
            max_size=pool_size,
            max_tasks_in_flight_per_actor=1,
        ),
        fn_constructor_args=(actor, actor_args, resources, _start_ledger(resources)),
        num_cpus=resources.cpus_per_actor,
        num_gpus=resources.gpus_per_actor or None,
    )
    for batch in dataset.iter_batches(batch_size=1, prefetch_batches=0):  # a prefetched account would arrive late
        for account in batch["json"]:
            yield json.loads(str(account))


def _start_ledger(resources: ActorPoolConfig) -> Any:
    """Start the ledger's actor on the driver's own node: it is lost only together with the driver."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    remote: Any = ray.remote(num_cpus=0)(ShardLedger)
    return remote.options(scheduling_strategy=here).remote(
        attempts=resources.attempts, max_failures=resources.max_failures, max_given_up=resources.max_given_up
    )


CLOSING_S = 10.0  # a map that hangs is left behind after this


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
        """Let Ray Data end before its caller may stop Ray: under a thread that still uses it, Ray ends the process."""
        self._stopped.set()
        self._thread.join(timeout=CLOSING_S)

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
                    f"({_names(self._pending)}), and the cluster has now {_cluster_now()}; use smaller shards or a "
                    "longer timeout, or look at the cluster; what is done is kept"
                ) from None
            if item is None:
                return
            if isinstance(item, BaseException):
                raise ClusterError(
                    f"{len(self._pending)} shards are missing ({_names(self._pending)}): {last_line(item)}"
                ) from item
            yield item


def _quiet(context: Any) -> None:
    """Keep progress bars and log lines of Ray Data off the driver's terminal; its log files keep them."""
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # the watchdog here knows how long a shard may take
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def _cluster_now() -> str:
    """Return the cluster's size at this moment: nodes may be gone, and actors then wait for others."""
    ray: Any = importlib.import_module("ray")  # its functions have no types
    alive = sum(bool(node["Alive"]) for node in ray.nodes())
    total = ray.cluster_resources()
    return f"{alive} nodes with {total.get('CPU', 0.0):g} CPUs and {total.get('GPU', 0.0):g} GPUs"


def _names(pending: set[str]) -> str:
    shown = sorted(pending)[:3]
    return ", ".join(shown) + (", ..." if len(pending) > len(shown) else "")
