"""Map stages: shards of an index range worked on by a pool of actors, those already committed left out."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from difflm.artifacts import ShardFolder, shard_ranges
from difflm.artifacts.atomic import remove_tree
from difflm.telemetry import JSON
from difflm_jobs.stage import StageContext

if TYPE_CHECKING:
    from difflm.runtime.batch_actors import ShardWorker
    from difflm_jobs.config import MapConfig

OUTPUT = "output"
SHARD_FOLDER = "shards"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """The accounts of all shards by id, also of those an earlier run committed, and what this call cost.

    ``compute_seconds`` is that of the busiest actor: with one actor, the time its shards took.
    """

    accounts: Mapping[str, Mapping[str, Any]]
    compute_seconds: float
    peak_rss_mib: Mapping[str, float]

    def total(self, key: str) -> int:
        """The sum of a count over all shards."""
        return sum(int(account[key]) for account in self.accounts.values())


def run_shards(
    context: StageContext, *, rows: int, worker: type[ShardWorker], args: Mapping[str, JSON], config: MapConfig
) -> Mapped:
    """Let actors fill ``context.work / "shards"`` with the shards of ``rows`` rows, or go on where a kill stopped them.

    The worker gets ``args`` with the folder as ``"output"`` and commits each shard there with a ``ShardFolder``.
    Afterwards the folder holds the wanted shards only.
    """
    from difflm.runtime.batch_actors import Shard, map_shards

    folder = ShardFolder(context.work / SHARD_FOLDER)
    folder.clear_temporaries()
    wanted = {shard_id: (start, stop) for shard_id, start, stop in shard_ranges(rows, config.rows_per_shard)}
    done = {shard_id for shard_id in folder.finished() if shard_id in wanted}
    missing = [Shard(id=name, start=start, stop=stop) for name, (start, stop) in wanted.items() if name not in done]
    rows_done = sum(wanted[name][1] - wanted[name][0] for name in done)
    seconds: dict[Any, float] = defaultdict(float)

    def on_result(account: Mapping[str, Any]) -> None:
        nonlocal rows_done
        start, stop = wanted[str(account["shard"])]
        rows_done += stop - start
        seconds[account["pid"]] += float(account["seconds"])
        context.report(rows_done, rows, f"{rows_done:,} of {rows:,} rows")

    peaks: Mapping[int, float] = {}
    if missing:
        context.report(rows_done, rows, "starting actors")
        context.start_cluster()
        given = {**args, OUTPUT: str(folder.folder.resolve())}
        peaks = map_shards(missing, worker, given, config.pool, on_result, config.timeout_s).peak_rss_mib
    accounts = folder.finished()
    for stale in set(accounts) - set(wanted):
        remove_tree(folder.part(stale))
        remove_tree(folder.part(stale).with_suffix(".json"))
    return Mapped(
        accounts={name: accounts[name] for name in wanted},
        compute_seconds=max(seconds.values(), default=0.0),
        peak_rss_mib={f"actor {number}": peak for number, peak in enumerate(peaks.values())},
    )


def deliver_shards(context: StageContext, mapped: Mapped, name: str) -> None:
    """Give the artifact's folder ``name`` the shards too; their accounts stay behind.

    The work folder keeps its own until the artifact is whole: a kill or a full disk before that loses no shard.
    """
    folder = ShardFolder(context.work / SHARD_FOLDER)
    target = context.output / name
    target.mkdir()
    for shard_id in mapped.accounts:
        part = folder.part(shard_id)
        try:
            os.link(part, target / part.name)  # shards are never written to again, so that both may be the same file
        except OSError:  # a file system without links
            shutil.copyfile(part, target / part.name)
