"""One contract for every engine: the same curve, the same resumption, frozen parameters untouched; on two ranks."""

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
Seen = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What rank 0 saw of every engine."""
    folder = tmp_path_factory.mktemp("engines")
    names = FLOAT32 + BFLOAT16
    ranks = [
        ChildProcess.start(
            [sys.executable, str(SCRIPT), str(rank), "2", str(folder / "rendezvous"), str(folder), *names],
            output=folder / f"rank-{rank}.log",
        )
        for rank in range(2)
    ]
    for child in ranks:
        assert child.wait(timeout_s=240) == 0, child.tail()
    return {name: json.loads((folder / f"{name}-0.json").read_text()) for name in names}


def losses(seen: Seen, name: str) -> list[float]:
    return [event["loss"] for event in seen[name]["whole"]["curve"]]


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
    assert losses(seen, name) == pytest.approx(losses(seen, "plain"), rel=2e-2)
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
