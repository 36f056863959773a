"""The moving average in closed form."""

import math

import pytest
import torch
from torch import nn

from difflm.training.averages import ExponentialMovingAverage


def test_it_is_the_weighted_sum_of_all_parameters_so_far() -> None:
    module = nn.Linear(1, 1, bias=False)
    values = [0.5, -1.0, 2.0, 4.0, 8.0]
    module.weight.data.fill_(values[0])
    average = ExponentialMovingAverage(module, decay=0.25)
    for step, value in enumerate(values[1:], start=1):
        module.weight.data.fill_(value)
        average.update(module, step)
    decays = [min(0.25, (1 + step) / (10 + step)) for step in range(1, 5)]
    assert decays[0] == pytest.approx(2 / 11)  # the warm-up is at work
    wanted = values[0] * math.prod(decays) + sum(
        value * (1 - decay) * math.prod(decays[place + 1 :])
        for place, (value, decay) in enumerate(zip(values[1:], decays, strict=True))
    )
    assert float(average.averages["weight"]) == pytest.approx(wanted, rel=1e-6)


def test_frozen_parameters_are_left_out_and_the_state_round_trips() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    average = ExponentialMovingAverage(module, decay=0.9)
    assert set(average.averages) == {"0.weight", "0.bias"}
    other = ExponentialMovingAverage(nn.Sequential(nn.Linear(2, 2)), decay=0.9)
    other.load_state_dict(average.state_dict())
    torch.testing.assert_close(other.averages, average.averages)
    assert other.averages["0.weight"] is not average.averages["0.weight"]


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_outside_of_its_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay"):
        ExponentialMovingAverage(nn.Linear(1, 1), decay=decay)


def test_the_averages_stand_in_the_modules_place_only_within_the_block() -> None:
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(1.0)
    average = ExponentialMovingAverage(module, decay=0.9)
    module.weight.data.fill_(3.0)
    with pytest.raises(KeyError), average.in_place(module):
        assert module.weight.item() == 1.0
        raise KeyError
    assert module.weight.item() == 3.0
    assert float(average.averages["weight"]) == 1.0
