"""The learning-rate schedule and the parameter groups."""

from __future__ import annotations

import pytest
from torch import nn

from difflm.training.optimizer import FINAL_SHARE, Schedule, learning_rate_at, parameter_groups


def rates(total: int, warmup: int, schedule: Schedule) -> list[float]:
    return [learning_rate_at(s, total, peak=2.0, warmup_steps=warmup, schedule=schedule) for s in range(total)]


def test_the_warm_up_is_linear_and_reaches_the_peak() -> None:
    assert rates(100, 4, "cosine")[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])


def test_the_cosine_falls_monotonically_to_its_final_share() -> None:
    values = rates(1000, 10, "cosine")[10:]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(2.0 * FINAL_SHARE, rel=1e-2)


def test_the_constant_schedule_stays_at_the_peak() -> None:
    assert set(rates(20, 5, "constant")[5:]) == {2.0}


@pytest.mark.parametrize("total", [1, 2, 5, 50])
def test_a_run_shorter_than_its_warm_up_still_reaches_the_peak(total: int) -> None:
    assert max(rates(total, 50, "cosine")) == pytest.approx(2.0)


def test_matrices_decay_and_vectors_do_not() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    decayed, plain = parameter_groups(module, 0.1)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert [tuple(p.shape) for p in decayed["params"]] == [(2, 3)]
    assert len(plain["params"]) == 3


def test_frozen_parameters_are_in_no_group() -> None:
    module = nn.Linear(3, 2)
    module.weight.requires_grad = False
    groups = parameter_groups(module, 0.1)
    assert [p.ndim for group in groups for p in group["params"]] == [1]
