"""Shard maps on Ray Data: accounts stream back, a killed actor is replaced, errors and silence end the map."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from difflm.errors import ClusterError, RunError, SynthesisError
from difflm.runtime.batch_actors import ActorPoolConfig, MapSummary, Shard, map_shards
from difflm.runtime.cluster import ClusterContext
from difflm.testing.processes import kill_pid, wait_until
from difflm.testing.toy_shards import ToyShardWorker

pytestmark = [pytest.mark.distributed, pytest.mark.usefixtures("cluster")]

SHARDS = [Shard(id=f"part-{number}", start=10 * number, stop=10 * number + 10) for number in range(5)]


def run(
    folder: Path, *, timeout_s: float = 120, max_failures: int = 3, **toy: Any
) -> tuple[MapSummary, dict[str, Any]]:
    accounts: dict[str, Any] = {}
    summary = map_shards(
        SHARDS,
        ToyShardWorker,
        {"folder": str(folder), **toy},
        ActorPoolConfig(max_actors=2, max_failures=max_failures),
        lambda account: accounts.update({str(account["shard"]): account}),
        timeout_s,
    )
    return summary, accounts


def test_a_killed_actor_is_replaced_and_every_shard_is_done_once(cluster: ClusterContext, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_the_holder() -> None:
        pid = int(wait_until(lambda: (tmp_path / "held.pid").exists() and (tmp_path / "held.pid").read_text(),
                             what="the actor to hold", timeout_s=100))  # fmt: skip
        (tmp_path / "go").touch()
        kill_pid(pid)
        killed.append(pid)

    killer = threading.Thread(target=kill_the_holder, daemon=True)
    killer.start()
    summary, accounts = run(tmp_path, hold="part-2")
    killer.join()
    assert set(accounts) == {shard.id for shard in SHARDS}
    assert summary.shards == 5
    assert {pid: peak > 0 for pid, peak in summary.peak_rss_mib.items()}
    for shard in SHARDS:
        assert accounts[shard.id]["total"] == sum(range(shard.start, shard.stop))
        assert (tmp_path / f"{shard.id}.txt").read_text().split() == [str(n) for n in range(shard.start, shard.stop)]


def test_an_error_on_purpose_keeps_its_class_and_names_its_shard(tmp_path: Path) -> None:
    with pytest.raises(
        SynthesisError, match=r"^shard part-3 failed after 2 attempts: no draw of rows 30 to 40 is valid$"
    ):
        run(tmp_path, raise_on="part-3")


def test_any_other_error_is_one_line_with_its_class(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^shard part-1 failed after 2 attempts: ValueError: broken on purpose$"):
        run(tmp_path, break_on="part-1")


def test_a_shard_that_kills_its_process_ends_the_map(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"^shard part-4 failed after 2 attempts: its process died every time"):
        run(tmp_path, die_on="part-4", max_failures=1)


def test_silence_ends_the_map(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"no shard finished within 8 s; . are missing"):
        run(tmp_path, hold="part-0", timeout_s=8)
    (tmp_path / "go").touch()
    names = [thread.name for thread in threading.enumerate()]
    wait_until(
        lambda: not any(thread.name == "map-shards" for thread in threading.enumerate()),
        what=f"the end of the abandoned map among {names}",
        timeout_s=60,
    )


def test_no_shards_need_no_cluster(tmp_path: Path) -> None:
    nothing = map_shards([], ToyShardWorker, {}, ActorPoolConfig(), print, timeout_s=1)
    assert nothing.shards == 0


def test_shards_with_the_same_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="only 1 different ids"):
        map_shards([SHARDS[0], SHARDS[0]], ToyShardWorker, {}, ActorPoolConfig(), print, timeout_s=1)
