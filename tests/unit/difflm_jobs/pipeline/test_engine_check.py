"""An engine that cannot run is refused before any work, and another engine makes another artifact."""

import sys
from typing import Any

import pytest
import torch

from difflm.config import apply_overrides, validate
from difflm.errors import ConfigError
from difflm.testing.vllm_double import vllm_double
from difflm_jobs.config import ExperimentConfig, SynthesisSettings
from difflm_jobs.pipeline.engine_check import check_engine, check_json, check_room
from difflm_jobs.pipeline.stage import section
from difflm_jobs.stages.stages import build_stages

VLLM = "sampling.engine.kind=vllm"
ONE_GPU = "runtime.synthesis.pool.gpus_per_actor=1"


def _settings(*overrides: str) -> SynthesisSettings:
    return validate(SynthesisSettings, apply_overrides({}, overrides), "--set", overrides)


def _check(*overrides: str) -> None:
    settings = _settings(*overrides)
    check_engine(settings.sampling, settings.runtime)


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", vllm_double())


def test_the_builtin_engine_needs_nothing() -> None:
    _check()
    _check("sampling.engine.constraint=llguidance")


def test_json_needs_a_grammar_that_knows_its_schema() -> None:
    check_json(_settings().sampling, holds_json=False)
    check_json(_settings("sampling.engine.constraint=llguidance").sampling, holds_json=True)
    check_json(_settings(VLLM).sampling, holds_json=True)
    with pytest.raises(ConfigError, match=r"only llguidance knows; give --set sampling\.engine\.constraint=llguidance"):
        check_json(_settings().sampling, holds_json=True)


def test_vllm_has_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match=r"kind is vllm, which is not installed here; pip install vllm, or leave out"):
        _check(VLLM, ONE_GPU)


@pytest.mark.usefixtures("_installed")
def test_a_gpu_is_looked_for_where_the_actors_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no GPU was found; use a machine with one"):
        _check(VLLM, ONE_GPU)
    _check(VLLM, ONE_GPU, "runtime.cluster.address='10.0.0.1:6379'")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    _check(VLLM, ONE_GPU)
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    _check(VLLM, ONE_GPU)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], r"gpus_per_actor is 0: its actors would see no GPU; give --set .*gpus_per_actor=1"),
        (["sampling.engine.tensor_parallel_size=4", ONE_GPU], r"is 4, and .* is 1; give --set .*gpus_per_actor=4"),
        (["runtime.synthesis.pool.gpus_per_actor=0.5"], r"is 0\.9, and .* is 0\.5: actors .* give at most 0\.5"),
    ],
)
def test_actors_without_room_for_vllm_are_named(overrides: list[str], message: str) -> None:
    settings = _settings(VLLM, *overrides)
    with pytest.raises(ConfigError, match=message):
        check_room(settings.sampling, settings.runtime)


def test_actors_may_share_a_gpu() -> None:
    settings = _settings(
        VLLM, "sampling.engine.gpu_memory_utilization=0.4", "runtime.synthesis.pool.gpus_per_actor=0.5"
    )
    check_room(settings.sampling, settings.runtime)


@pytest.mark.parametrize("injector", ["kv_memory", "embedding"])
def test_vllm_reads_soft_prompts_only(injector: str) -> None:
    data = {
        "name": "x",
        "data": {"train": "x.csv"},
        "autoencoder": {"encoder": {"kind": "compact"}, "injector": {"kind": injector}},
    }
    with pytest.raises(ConfigError, match=rf"reads soft prompts only, and .*injector\.kind is {injector}; train with"):
        validate(ExperimentConfig, apply_overrides(data, [VLLM]), "x", [VLLM])


def hashed(stage: str, *overrides: str) -> Any:
    data = apply_overrides({"name": "x", "data": {"train": "x.csv"}}, overrides)
    stages = {each.name: each for each in build_stages(validate(ExperimentConfig, data, "x", overrides))}
    return section(stages[stage])


def test_variants_of_the_denoiser_make_other_artifacts() -> None:
    def prior(*overrides: str) -> Any:
        return hashed("train-diffusion", *overrides)["prior"]

    assert prior("prior.noise_embedding=fourier")["noise_embedding"] == "fourier"
    assert prior("prior.denoiser.kind=transformer")["denoiser"]["kind"] == "transformer"
    assert prior("prior.denoiser.kind=mlp") == prior()
    with pytest.raises(ConfigError, match=r"prior: width 100 must be a multiple of denoiser\.heads \(8\)"):
        prior("prior.denoiser.kind=transformer", "prior.width=100")


def test_another_engine_makes_another_artifact() -> None:
    plain = hashed("synthesize")
    assert plain == hashed("synthesize", "sampling.engine.kind=builtin")
    assert plain != hashed("synthesize", "sampling.engine.constraint=llguidance") != hashed("synthesize", VLLM) != plain
