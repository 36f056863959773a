"""The time of a run around a pretrained decoder is counted from the sizes of its models and this machine's rate."""

import pytest

from difflm_jobs.loading import load_experiment
from difflm_jobs.planning import arithmetic
from difflm_jobs.planning.arithmetic import operations_per_second, rough_time, stage_operations
from difflm_jobs.planning.sizes import Sizes

SETTINGS = ["rows=10", "autoencoder.encoder={kind: compact}", "autoencoder.injector.kind=soft_prompt"]


def sizes(preset: str, *overrides: str) -> Sizes:
    return Sizes.of(load_experiment(preset, overrides=[*SETTINGS, *overrides]), {}, None)


def test_operations_are_those_of_the_frozen_model() -> None:
    settings = ["autoencoder.steps=100", "autoencoder.batch_size=4", "autoencoder.validation_records=7"]
    found = sizes("llm/adult", *settings, "autoencoder.loop.evaluate_every=50")
    assert found.decoder is not None
    assert found.autoencoder is not None
    record = found.tokens + found.autoencoder.positions + 1
    counted = stage_operations(found)
    assert found.decoder.parameters == 134_515_008
    assert counted["train-autoencoder"] == 134_515_008 * record * (4 * 400 + 2 * 3 * 7)
    assert counted["synthesize"] == 3 * 2 * 134_515_008 * record * 10
    assert counted["encode"] == 0
    assert stage_operations(sizes("adult")) == {}


def test_what_is_left_is_said_at_the_rate_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "operations_per_second", lambda threads, precision: 1e9)
    config = load_experiment("llm/adult", overrides=SETTINGS)
    said = rough_time(config, {"encode": 0.0, "train-autoencoder": 6e11})
    assert said is not None
    assert said.startswith("time: roughly 10m on this machine (train-autoencoder 10m), by")
    assert rough_time(config, {"encode": 0.0}) is None
    far = load_experiment("llm/adult", overrides=[*SETTINGS, "runtime.workers.gpus_per_worker=1"])
    assert rough_time(far, {"train-autoencoder": 6e11}) is None


def test_a_machine_computes_at_some_rate() -> None:
    assert 1e8 < operations_per_second(1, "float32") < 1e14
