"""What an actor's process sees of the machine's GPUs."""

import os

import pytest

from difflm.runtime.batch_actors import ActorPoolConfig, _ActorCall
from difflm.testing.toy_shards import ToyShardWorker


@pytest.mark.parametrize(("gpus", "seen"), [(0.0, ""), (0.5, "0,1")])
def test_an_actor_without_a_gpu_sees_none(monkeypatch: pytest.MonkeyPatch, gpus: float, seen: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    _ActorCall(ToyShardWorker, {}, ActorPoolConfig(gpus_per_actor=gpus), starts=None)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen
