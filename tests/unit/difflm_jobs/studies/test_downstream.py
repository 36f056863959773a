"""The downstream comparison: its figures by hand, its refusals, its table."""

import math

import numpy as np
import pytest

from difflm.config import validate
from difflm.errors import ConfigError
from difflm_jobs.studies.downstream_config import DownstreamConfig
from difflm_jobs.studies.downstream_scores import HeldOut, markdown

FILES = {key: {"kind": "file", "path": f"{key}.jsonl"} for key in ("real", "synthetic", "held_out")}


def test_perplexity_bits_and_gain_by_hand() -> None:
    base = HeldOut(nats_N=np.array([4.0, 8.0]), tokens_N=np.array([2, 4]), characters=24)
    assert base.perplexity == pytest.approx(math.exp(2))
    assert base.bits_per_character == pytest.approx(0.5 / math.log(2))
    better = HeldOut(nats_N=np.array([3.0, 5.0]), tokens_N=np.array([2, 4]), characters=24)
    gain, error = better.gain(base)
    assert gain == pytest.approx(4 / 6)  # nats over tokens
    assert error == pytest.approx(math.sqrt(2) / math.sqrt(2) / 3)
    assert base.gain(base) == (0.0, 0.0)


@pytest.mark.parametrize("given", [{}, {"model": "m", "scratch": {"texts": {"kind": "file", "path": "x"}}}])
def test_there_is_one_model(given: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="give either model, or scratch with texts"):
        validate(DownstreamConfig, {"name": "a", **FILES, **given}, "lm.yaml")
    assert validate(DownstreamConfig, {"name": "a", **FILES, "model": "m"}, "lm.yaml").training.epochs == 3


def test_the_table_says_what_each_model_saw() -> None:
    base = {"perplexity": 9.0, "bits_per_character": 1.5, "gain_nats_per_token": 0.0, "gain_standard_error": 0.0}
    arm = base | {
        "gain_nats_per_token": 0.25,
        "gain_standard_error": 0.01,
        "texts": 1200,
        "steps": 30,
        "pass_at_1": 2.5,
    }
    text = markdown(
        {"model": "m", "held_out": {"texts": 7}, "models": {"base-model": base | {"pass_at_1": 0.0}, "train-real": arm}}
    )
    assert "| base-model | - | - | 9.00 | 1.500 | - | 0.00 |" in text
    assert "| train-real | 1,200 | 30 | 9.00 | 1.500 | 0.2500 ± 0.0100 | 2.50 |" in text
