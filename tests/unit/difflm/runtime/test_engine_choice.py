"""The engine that `auto` stands for, and what DeepSpeed is told."""

import pytest

from difflm.runtime.deepspeed_engine import MAX_BUCKET_NUMBERS, DeepSpeedEngineConfig, _settings
from difflm.runtime.training import AutoEngineConfig, PlainEngineConfig, chosen_engine


def test_one_worker_has_nothing_to_shard() -> None:
    assert chosen_engine(AutoEngineConfig(zero_stage=3), 1) == PlainEngineConfig()


def test_several_workers_shard_with_deepspeed() -> None:
    assert chosen_engine(AutoEngineConfig(zero_stage=3), 2) == DeepSpeedEngineConfig(zero_stage=3)
    assert chosen_engine(AutoEngineConfig(), 2) == DeepSpeedEngineConfig(zero_stage=2)


def test_a_named_engine_is_taken_at_its_word() -> None:
    assert chosen_engine(DeepSpeedEngineConfig(zero_stage=1), 1) == DeepSpeedEngineConfig(zero_stage=1)
    assert chosen_engine(PlainEngineConfig(), 4) == PlainEngineConfig()


@pytest.mark.parametrize(("trained", "bucket"), [(1, 2), (6, 6), (7, 8), (MAX_BUCKET_NUMBERS + 1, MAX_BUCKET_NUMBERS)])
def test_buckets_hold_an_even_count_whatever_is_trained(trained: int, bucket: int) -> None:
    zero = _settings(DeepSpeedEngineConfig(), trained, clip=1.0, accumulation=1)["zero_optimization"]
    assert zero["allgather_bucket_size"] == zero["reduce_bucket_size"] == bucket
