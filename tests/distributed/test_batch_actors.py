"""Shard maps on Ray Data: accounts stream back, a killed actor is replaced, errors and silence end the map."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from difflm.artifacts.dataset import Shard
from difflm.errors import ClusterError, RunError, SynthesisError
from difflm.runtime.batch_actors import map_shards
from difflm.runtime.cluster import ClusterContext
from difflm.runtime.ledger import DIED
from difflm.runtime.shard_actor import ActorPoolConfig, MapSummary
from difflm.testing.processes import kill_pid, wait_until
from difflm.testing.toys import ToyShardWorker

pytestmark = [pytest.mark.distributed, pytest.mark.usefixtures("cluster")]

SHARDS = [Shard(id=f"part-{number}", start=10 * number, stop=10 * number + 10) for number in range(5)]


def run(
    folder: Path, *, timeout_s: float = 120, max_failures: int = 3, given_up: int = 0, smallest: int = 2, **toy: Any
) -> tuple[MapSummary, list[dict[str, Any]]]:
    accounts: list[dict[str, Any]] = []
    summary = map_shards(
        SHARDS,
        ToyShardWorker,
        {"folder": str(folder), **toy},
        ActorPoolConfig(min_actors=smallest, max_actors=2, max_failures=max_failures, max_given_up=given_up),
        accounts.append,
        timeout_s,
    )
    return summary, accounts


def indices(accounts: list[dict[str, Any]]) -> list[int]:
    """Every index of every account, in order."""
    return sorted(index for account in accounts for index in range(account["start"], account["stop"]))


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
    assert sorted(account["shard"] for account in accounts) == [shard.id for shard in SHARDS]
    assert summary.shards == 5
    assert {pid: peak > 0 for pid, peak in summary.peak_rss_mib.items()}
    assert {account["shard"]: account["total"] for account in accounts} == {
        shard.id: sum(range(shard.start, shard.stop)) for shard in SHARDS
    }
    for shard in SHARDS:
        text = (tmp_path / f"{shard.id}.{shard.start}-{shard.stop}.txt").read_text()
        assert text.split() == [str(n) for n in range(shard.start, shard.stop)]


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


def test_what_kills_or_breaks_its_process_is_cut_down_to_the_index(tmp_path: Path) -> None:
    _, accounts = run(tmp_path, deadly=[23], breaking=[47], max_failures=0, given_up=2)
    assert indices(accounts) == list(range(50))
    given_up = {account["start"]: account["given_up"] for account in accounts if "given_up" in account}
    assert given_up == {23: DIED, 47: "ValueError: broken on one of 47 to 48"}
    assert sum(account.get("rows", 0) for account in accounts) == 48


def test_more_actors_come_while_there_is_work(tmp_path: Path) -> None:
    held: list[int] = []

    def go_when_another_works() -> None:
        wait_until(lambda: len(list(tmp_path.glob("part-*.txt"))) == 4, what="the other shards", timeout_s=100)
        held.append(1)
        (tmp_path / "go").touch()

    helper = threading.Thread(target=go_when_another_works, daemon=True)
    helper.start()
    _, accounts = run(tmp_path, hold="part-0", smallest=1)
    helper.join()
    assert held
    assert len({account["pid"] for account in accounts}) == 2


def test_a_worker_that_cannot_be_built_ends_the_map(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"failed after 1 attempts: while it was loading, its process died"):
        run(tmp_path, unbuildable=True, max_failures=0, given_up=5)


def test_silence_ends_the_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("difflm.runtime.batch_actors.CLOSING_S", 0.1)
    with pytest.raises(ClusterError, match=r"no shard finished within 5 s; . are missing"):
        run(tmp_path, hold="part-0", timeout_s=5)
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
