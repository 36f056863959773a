"""One contract for every engine: the same curve, the same resumption, frozen parameters untouched; on two ranks.

With a toy, and with the autoencoder around a tiny Mistral, which other numbers of workers take over.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from difflm.testing.processes import ChildProcess

pytestmark = pytest.mark.distributed

SCRIPT = Path(__file__).with_name("run_engines.py")
FLOAT32 = ["plain", "zero0", "zero1", "zero2", "zero3"]
BFLOAT16 = ["plain-autocast", "zero2-autocast", "zero3-autocast", "zero2-weights16-autocast"]
STAGES = ["zero2", "zero3"]
INJECTORS = ["soft_prompt", "kv_memory", "embedding"]
MISTRAL = [f"mistral-{stage}-{injector}" for injector in INJECTORS for stage in STAGES]
LORA = ["mistral-zero2-embedding-lora", "mistral-zero3-embedding-lora-checkpointing"]
RESUMED = [*MISTRAL[:2], "mistral-zero2-kv_memory", LORA[1]]
Seen = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What rank 0 saw of every engine."""
    folder = tmp_path_factory.mktemp("engines")
    names = FLOAT32 + BFLOAT16 + MISTRAL + LORA
    ranks = [
        ChildProcess.start(
            [sys.executable, str(SCRIPT), str(rank), "2", str(folder / "rendezvous"), str(folder), *names],
            output=folder / f"rank-{rank}.log",
        )
        for rank in range(2)
    ]
    for child in ranks:
        assert child.wait(timeout_s=240) == 0, child.tail()
    read = {name: json.loads((folder / f"{name}-0.json").read_text()) for name in names}
    for name in MISTRAL[:2]:
        read[name]["by_one_worker"] = json.loads((folder / f"{name}-one-worker.json").read_text())
    return read


def losses(seen: Seen, name: str) -> list[float]:
    return [event["loss"] for event in seen[name]["whole"]["curve"]]


def held_out(seen: Seen, name: str, life: str) -> list[float]:
    return [event["loss"] for event in seen[name][life]["curve"] if event["kind"] == "validation"]


@pytest.mark.parametrize("name", FLOAT32[1:])
def test_float32_engines_follow_the_plain_curve(seen: Seen, name: str) -> None:
    assert losses(seen, name) == pytest.approx(losses(seen, "plain"), rel=1e-6)
    norms = [
        [event["grad_norm"] for event in seen[key]["whole"]["curve"] if event["kind"] == "train"]
        for key in (name, "plain")
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


@pytest.mark.parametrize("name", BFLOAT16)
def test_bfloat16_engines_stay_near_the_float32_curve(seen: Seen, name: str) -> None:
    assert losses(seen, name) == pytest.approx(losses(seen, "plain"), rel=2.5e-2)  # kernels of torch 2.9 round more
    assert losses(seen, name) != losses(seen, "plain")


@pytest.mark.parametrize("name", FLOAT32 + BFLOAT16)
def test_a_resumed_engine_repeats_the_curve_bit_for_bit(seen: Seen, name: str) -> None:
    lives = seen[name]
    assert lives["resumed"]["curve"][0]["step"] == 9
    assert lives["stopped"]["curve"] + lives["resumed"]["curve"] == lives["whole"]["curve"]
    assert lives["resumed"]["best"] == lives["whole"]["best"]


@pytest.mark.parametrize("name", [name for name in FLOAT32 + BFLOAT16 if "weights16" not in name])
def test_frozen_parameters_keep_their_bytes_and_stay_out_of_the_best_state(seen: Seen, name: str) -> None:
    for life in ("whole", "resumed"):
        assert seen[name][life]["frozen_unchanged"]
        assert seen[name][life]["best_names"] == seen["plain"]["whole"]["best_names"]
        assert not any(key.startswith("frozen") for key in seen[name][life]["best_names"])


@pytest.mark.parametrize("name", MISTRAL + LORA)
def test_a_loss_falls_around_a_frozen_mistral_whose_bytes_stay(seen: Seen, name: str) -> None:
    """The loss is that of held-out text: nats of a record behind its latent."""
    events = [event for event in seen[name]["whole"]["curve"] if event["kind"] == "validation"]
    found = [event["metrics"]["reconstruction_nats"] for event in events]
    assert found == sorted(found, reverse=True)
    assert found[-1] < found[0]
    assert seen[name]["whole"]["frozen_unchanged"]
    assert seen[name]["whole"]["best_names"]
    assert not any(key.startswith("decoder") for key in seen[name]["whole"]["best_names"])
    if name in LORA:
        own = [key for key in seen[name]["whole"]["best_names"] if key.startswith("encoder")]
        assert own
        assert all("lora_" in key for key in own), "the encoder below its adapters is frozen, too"


@pytest.mark.parametrize("injector", INJECTORS)
def test_a_mistral_follows_one_curve_whether_it_is_sharded_or_not(seen: Seen, injector: str) -> None:
    whole, sharded = (losses(seen, f"mistral-{stage}-{injector}") for stage in STAGES)
    assert sharded == pytest.approx(whole, rel=1e-5)


def test_adapters_follow_one_curve_whether_layers_are_recomputed_in_shards_or_not(seen: Seen) -> None:
    whole, saving = (losses(seen, name) for name in LORA)
    assert saving == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("name", RESUMED)
def test_a_mistrals_training_is_resumed_bit_for_bit(seen: Seen, name: str) -> None:
    whole, resumed = seen[name]["whole"], seen[name]["resumed"]
    assert resumed["curve"] == [event for event in whole["curve"] if event["step"] > 3]
    assert resumed["best"] == whole["best"]


@pytest.mark.parametrize("name", MISTRAL[:2])
def test_a_mistrals_training_is_resumed_by_other_workers(seen: Seen, name: str) -> None:
    lives = seen[name]
    begun = held_out(seen, name, "whole")[0]
    for life in ("from_one_worker", "by_one_worker"):  # two workers go on from one, and one from two
        steps = [event["step"] for event in lives[life]["curve"] if event["kind"] == "train"]
        assert steps == [4, 5], "it goes on where the others stopped"
        assert lives[life]["frozen_unchanged"]
        assert held_out(seen, name, life)[-1] < begun


def test_two_ways_of_sharding_take_over_one_state_alike(seen: Seen) -> None:
    """What ZeRO-2 and ZeRO-3 make of the checkpoint of one worker, moments and all."""
    two, three = ([event["loss"] for event in seen[name]["from_one_worker"]["curve"]] for name in MISTRAL[:2])
    assert three == pytest.approx(two, rel=1e-6)
    one, other = ([event["loss"] for event in seen[name]["by_one_worker"]["curve"]] for name in MISTRAL[:2])
    assert one == pytest.approx(other, rel=1e-6)
