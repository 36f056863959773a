"""What does not fit is refused, with what it needs, what is there, and settings with which it needs less."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from difflm.errors import ConfigError
from difflm_jobs.cli.plan import Plan, plan
from difflm_jobs.loading import load_experiment
from difflm_jobs.planning.lines import PlanLine
from difflm_jobs.planning.machine import Machine
from difflm_jobs.planning.memory import ProcessMemory
from difflm_jobs.planning.room import Room, too_large

Planning = Callable[..., Plan]
GPUS = Machine(memory_mib=1e6, gpus_mib=(81_920.0,) * 8)
LAPTOP = Machine(memory_mib=8192.0, gpus_mib=())


@pytest.fixture
def planned(tmp_path: Path) -> Planning:
    """The plan of a preset with some settings on a machine."""

    def make(preset: str, machine: Machine, *overrides: str) -> Plan:
        return plan(load_experiment(preset, overrides=overrides), tmp_path, machine)

    return make


def refusal(made: Plan) -> str:
    assert made.refused is not None
    return made.refused


def test_what_fits_is_not_refused(planned: Planning) -> None:
    assert planned("adult", LAPTOP).refused is None
    assert planned("paper/adult", GPUS).refused is None


def test_a_preset_with_gpus_is_planned_where_there_are_none_and_refused_with_a_limit(planned: Planning) -> None:
    assert planned("paper/adult", LAPTOP).refused is None
    assert planned("paper/adult", LAPTOP, "runtime.memory.gpu_gib=80").refused is None
    message = refusal(planned("paper/adult", LAPTOP, "runtime.memory.gpu_gib=40"))
    assert re.match(r"train-autoencoder needs about \d\d\.\d GiB \(activations \d", message)
    assert "on a GPU with 40.0 GiB (records of 256 tokens are assumed until the decoder has counted them); " in message
    assert "a smaller model, or machines with more memory" in message


def test_every_proposed_setting_can_be_given_and_does_what_is_said(planned: Planning) -> None:
    message = refusal(planned("paper/adult", LAPTOP, "runtime.memory.gpu_gib=40"))
    proposals = re.findall(r"(?:give |or )(\S+=.*?) \(([\d.,]+) GiB, (which fits|still too much)\)", message)
    assert any("zero_stage: 3" in words for words, _, _ in proposals)
    assert any("offload_optimizer" in words for words, _, _ in proposals)
    assert any("encoder.lora" in words for words, _, _ in proposals)
    assert any("num_workers=16" in words for words, _, _ in proposals)
    assert any("gradient_accumulation=8" in words for words, _, _ in proposals)
    for words, gib, fits in proposals:
        overrides = re.findall(r"\S+=\{.*?\}|\S+=\S+", words)
        made = planned("paper/adult", LAPTOP, *overrides)
        (line,) = [line for line in made.lines if line.stage == "train-autoencoder"]
        assert f"{line.gpu_mib / 1024:,.1f}" == gib
        assert (line.gpu_mib <= 40 * 1024) == (fits == "which fits")


def test_workers_of_one_machine_share_its_memory(planned: Planning) -> None:
    many = ["runtime.workers.num_workers=16", "runtime.synthesis.pool.max_actors=1"]
    message = refusal(planned("adult", LAPTOP, *many))
    assert re.match(r"fit-decoder needs 16 processes of about \d\.\d GiB .* on a machine with 8\.0 GiB", message)
    assert "runtime.workers.num_workers=1 (" in message
    cluster = [*many, "runtime.cluster.address='10.0.0.1:6379'"]
    assert planned("adult", LAPTOP, *cluster).refused is None, "nothing is known of a cluster that need not be there"
    limit = "runtime.memory.node_gib=0.5"
    assert "on a machine with 0.5 GiB" in refusal(planned("adult", LAPTOP, *cluster, limit))


def test_actors_hold_a_model_each(planned: Planning) -> None:
    settings = ["runtime.synthesis.pool.min_actors=2", "runtime.synthesis.pool.max_actors=64", "sampling.batch_size=64"]
    small = Machine(memory_mib=3000.0, gpus_mib=())
    cpus = "runtime.cluster.num_cpus=64"
    message = refusal(planned("adult", small, *settings, cpus))
    assert "encode needs 64 processes" in message
    assert "runtime.encoding.pool.max_actors=1 (" in message
    assert planned("adult", small, cpus, "runtime.encoding.pool.max_actors=1", *settings[:1]).refused is not None


def test_gpus_that_are_not_there_are_refused_where_it_runs() -> None:
    config = load_experiment("paper/adult")
    line = PlanLine(stage="train-autoencoder", state="would run", size="", memory=ProcessMemory(), processes=8, gpus=1)
    message = too_large(config, lambda _: [line], LAPTOP)
    assert message is not None
    assert "needs 8 process(es) with 1 GPU of 1.0 GiB each, and this machine has 0 GPU" in message
    assert message.endswith("give runtime.workers.gpus_per_worker=0 for CPUs alone, or machines with as many "
                            "(runtime.cluster.address)")  # fmt: skip
    two = Machine(memory_mib=8192.0, gpus_mib=(80_000.0, 80_000.0))
    assert "this machine has 2 GPU; give runtime.workers.num_workers=2, or " in str(
        too_large(config, lambda _: [line], two)
    )
    rows = PlanLine(stage="synthesize", state="would run", size="", memory=ProcessMemory(), processes=8, gpus=0.5)
    assert "give runtime.synthesis.pool.max_actors=4, or " in str(too_large(config, lambda _: [rows], two))
    assert "give runtime.synthesis.pool.gpus_per_actor=0 for" in str(too_large(config, lambda _: [rows], LAPTOP))
    finished = PlanLine(
        stage="train-autoencoder", state="finished", size="", memory=ProcessMemory(), processes=8, gpus=1
    )
    assert too_large(config, lambda _: [finished], LAPTOP) is None


def test_a_part_of_a_gpu_has_that_part_of_its_memory() -> None:
    runtime = load_experiment("paper/adult").runtime
    memory = ProcessMemory(frozen=30.0 * 2**30)
    whole, half = (
        PlanLine(stage="synthesize", state="would run", size="", memory=memory, gpus=gpus) for gpus in (1.0, 0.3)
    )
    there = Room.of(runtime, GPUS)
    assert there.shortage(whole) is None
    assert "on 0.3 of a GPU with 80.0 GiB" in str(there.shortage(half))


def test_a_limit_is_more_than_nothing() -> None:
    with pytest.raises(ConfigError, match="expected greater than 0"):
        load_experiment("demo", overrides=["runtime.memory.gpu_gib=0"])


def test_a_pretrained_model_that_does_not_fit_is_refused_before_it_is_loaded(
    planned: Planning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its package nor its weights are needed to say so."""
    monkeypatch.setenv("DIFFLM_CACHE", str(tmp_path / "cache"))
    message = refusal(planned("llm/tools", LAPTOP, "runtime.memory.node_gib=1"))
    assert "frozen weights" in message
    assert "a smaller model" in message
    assert not (tmp_path / "cache").exists()
