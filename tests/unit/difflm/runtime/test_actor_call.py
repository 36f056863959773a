"""The shard actor: what its process sees of the machine's GPUs, and the rows it makes of work, errors and deaths."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

import pytest

from difflm.artifacts.dataset import Shard
from difflm.errors import StorageError
from difflm.runtime.ledger import DIED, ShardLedger
from difflm.runtime.shard_actor import KERNEL_CACHES, ActorCall, ActorPoolConfig
from difflm.testing.toys import ToyShardWorker

BATCH = {"id": ["part-0"], "start": [0], "stop": [8]}


class Died(BaseException):
    """Stands for the end of a process: nothing in it may catch it."""


class Worker:
    """Does what it is told on chosen indices."""

    def __init__(self, args: dict[str, Any]) -> None:
        self.args = args
        if args.get("full"):
            raise StorageError("disk: no space left")
        if args.get("unbuildable"):
            raise ValueError("not\nloaded")

    def run(self, shard: Shard) -> dict[str, Any]:
        indices = set(range(shard.start, shard.stop))
        if indices & set(self.args.get("deadly", ())):
            raise Died
        if indices & set(self.args.get("breaking", ())):
            raise ValueError("broken\non purpose")
        return {"rows": len(indices)}


def in_process(ledger: ShardLedger) -> Any:
    """The ledger as an actor's handle that answers at once."""
    names = ("load", "take", "finish", "fail")
    return SimpleNamespace(**{name: SimpleNamespace(remote=getattr(ledger, name)) for name in names})


@pytest.fixture(autouse=True)
def _answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.get", lambda answer: answer)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    for name in KERNEL_CACHES:  # set first, so that what an actor sets is taken back
        monkeypatch.setenv(name, "7")


def rows(given_up: int = 4, **args: Any) -> list[dict[str, Any]]:
    """The rows of one shard; each death is followed by a fresh process, as Ray does it."""
    config = ActorPoolConfig(attempts=2, max_failures=1, max_given_up=given_up)
    ledger = in_process(ShardLedger(attempts=2, max_failures=1, max_given_up=given_up))
    for _ in range(100):
        try:
            answer = ActorCall(Worker, args, config, ledger)(BATCH)
        except Died:
            continue
        return [json.loads(text) for text in answer["json"]]
    raise AssertionError("it never ends")


@pytest.mark.parametrize(("gpus", "seen"), [(0.0, ""), (0.5, "0,1")])
def test_an_actor_without_a_gpu_sees_none(gpus: float, seen: str) -> None:
    ActorCall(ToyShardWorker, {}, ActorPoolConfig(gpus_per_actor=gpus), ledger=None)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


def test_an_actor_bounds_the_caches_of_compiled_kernels_unless_told_how(monkeypatch: pytest.MonkeyPatch) -> None:
    told, free = KERNEL_CACHES
    monkeypatch.delenv(free)
    ActorCall(ToyShardWorker, {}, ActorPoolConfig(), ledger=None)
    assert (os.environ[told], os.environ[free]) == ("7", KERNEL_CACHES[free])


def test_a_shard_is_one_account() -> None:
    (row,) = rows()
    assert (row["shard"], row["start"], row["stop"], row["rows"], row["pid"]) == ("part-0", 0, 8, 8, os.getpid())
    assert row["seconds"] >= 0
    assert row["peak_rss_mib"] > 0


@pytest.mark.parametrize(("how", "reason"), [("deadly", DIED), ("breaking", "ValueError: broken on purpose")])
def test_a_bad_index_is_given_up_and_the_rest_is_kept(how: str, reason: str) -> None:
    found = rows(**{how: [5]})
    given_up = [row for row in found if "given_up" in row]
    assert given_up == [{"start": 5, "stop": 6, "given_up": reason, "shard": "part-0"}]
    done = sorted(index for row in found if "rows" in row for index in range(row["start"], row["stop"]))
    assert done == [0, 1, 2, 3, 4, 6, 7]


@pytest.mark.parametrize(
    ("args", "error", "reason", "attempts"),
    [
        ({"given_up": 0, "deadly": [5]}, "ClusterError", DIED, 2),
        ({"given_up": 0, "breaking": [5]}, "ValueError", "broken on purpose", 2),
        ({"given_up": 1, "breaking": [0, 5]}, "ValueError", "broken on purpose, on more than 1 indices", 2),
        ({"full": True}, "StorageError", "disk: no space left", 1),
        ({"unbuildable": True}, "ValueError", "not loaded", 2),
    ],
)
def test_what_ends_the_map_is_one_row(args: dict[str, Any], error: str, reason: str, attempts: int) -> None:
    (row,) = rows(**args)
    assert (row["error"], row["attempts"], row["shard"]) == (error, attempts, "part-0")
    assert row["reason"].startswith(reason)


def test_a_worker_is_built_once_for_many_shards() -> None:
    built: list[Worker] = []

    class Counted(Worker):
        def __init__(self, args: dict[str, Any]) -> None:
            built.append(self)
            super().__init__(args)

    ledger = in_process(ShardLedger(attempts=2, max_failures=1, max_given_up=4))
    call = ActorCall(Counted, {}, ActorPoolConfig(), ledger)
    for start in (0, 8, 16):
        call({"id": [f"part-{start}"], "start": [start], "stop": [start + 8]})
    assert len(built) == 1
