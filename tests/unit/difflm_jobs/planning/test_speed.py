"""The speed of this machine is measured on a sample, by the stages' own trainings, once for a process."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest
import torch

from difflm.errors import ConfigError, DataError
from difflm.training.engine import PlainEngine
from difflm.training.optimizer import Method
from difflm_jobs.config import ExperimentConfig
from difflm_jobs.loading import read_settings
from difflm_jobs.planning import speed
from difflm_jobs.planning.speed import look_at, measure

TINY = [
    "decoder={hidden_size: 16, layers: 1, heads: 1, intermediate_size: 16}",
    "decoder_fit.batch_size=32",
    "autoencoder.batch_size=16",
    "autoencoder.encoder={hidden_size: 16, layers: 1, heads: 2}",
    "prior={width: 16, blocks: 1}",
    "runtime.workers.cpus_per_worker=1",
]


@pytest.fixture
def people(tmp_path: Path) -> str:
    ages = list(range(2000))
    pa.csv.write_csv(pa.table({"age": ages, "city": [f"c{age % 3}" for age in ages]}), tmp_path / "people.csv")
    return str(tmp_path / "people.csv")


def experiment(given: str, *overrides: str) -> ExperimentConfig:
    return read_settings(given, overrides=[*TINY, *overrides]).experiment()


def test_a_few_steps_of_every_training_are_timed_once(people: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment(people)
    sample = look_at(config, None)
    assert 1000 < sample.rows < 2000
    assert sample.columns == 2
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    found = measure(config, sample)
    assert found.prior is not None
    assert min(found.decoder.seconds, found.autoencoder.seconds, found.prior.seconds) > 0
    assert (found.decoder.rows, found.autoencoder.rows, found.prior.rows) == (32, 16, 512)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads

    def refuse(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(speed, "_measure", refuse)
    monkeypatch.setattr(speed, "_look", refuse)
    more = experiment(people, "decoder_fit.steps=9", "sampling.temperature=0.5")
    assert measure(more, look_at(more, None)) == found


def test_the_steps_that_are_timed_are_those_of_the_trainings_own_method(
    people: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods: list[str] = []

    class Watched(PlainEngine):
        def __init__(self, *args: Any, method: Method = "adamw", **settings: Any) -> None:
            methods.append(method)
            super().__init__(*args, method=method, **settings)

    monkeypatch.setattr("difflm.training.engine.PlainEngine", Watched)
    config = experiment(people, "seed=5")
    measure(config, look_at(config, None))
    loops = [section.loop for section in (config.decoder_fit, config.autoencoder)]
    assert methods[:2] == [loop.method for loop in loops]
    assert methods[0] == "muon"


def test_another_constraint_is_another_table(people: str) -> None:
    plain, kept = experiment(people), experiment(people, "relations=[age >= 0]")
    assert look_at(plain, None) is look_at(plain, None)
    assert look_at(kept, None) is not look_at(plain, None)


@pytest.mark.parametrize(
    "overrides", [["prior={kind: gmm}"], ["autoencoder={encoder: {kind: compact}, kl: {kind: adaptive}}"]]
)
def test_other_priors_and_encoders_are_timed_too(people: str, overrides: list[str]) -> None:
    config = experiment(people, *overrides)
    found = measure(config, look_at(config, None))
    assert (found.prior is None) == (config.prior.kind == "gmm")


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.csv"):
        look_at(experiment(str(tmp_path / "missing.csv")), None)


def test_what_runs_elsewhere_is_not_measured(people: str) -> None:
    config = experiment(people)
    sample = look_at(config, None)
    with pytest.raises(ConfigError, match="cannot be predicted: it runs on a cluster"):
        measure(experiment(people, "runtime.cluster.address=auto"), sample)
