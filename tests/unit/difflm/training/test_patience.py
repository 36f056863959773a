"""A training ends where validation stands still at a low learning rate, or got clearly worse at any."""

import pytest

from difflm.training.loop import LoopConfig
from difflm.training.patience import Patience, rate_share


def ended_at(objectives: list[float], rates: list[float] | float, evaluations: int = 3) -> int | None:
    """Which evaluation ends the training, from 0; None where none does."""
    patience = Patience(evaluations=evaluations)
    shares = rates if isinstance(rates, list) else [rates] * len(objectives)
    for place, (objective, rate) in enumerate(zip(objectives, shares, strict=True)):
        if patience.ends(objective, rate=rate):
            return place
    return None


def test_a_standstill_ends_only_once_the_rate_is_low() -> None:
    still = [40.0, 39.0, *[39.1] * 6]
    assert ended_at(still, 1.0) is None
    assert ended_at(still, 0.1) == 4
    assert ended_at(still, [1.0] * 6 + [0.1, 0.1]) == 6, "the rate came down"


def test_a_clear_rise_ends_at_any_rate_and_a_rise_that_passes_does_not() -> None:
    assert ended_at([40.0, 39.0, 40.5, 41.0, 42.0, 43.0], 1.0) == 4
    assert ended_at([40.0, 39.0, 40.5, 41.0, 38.9, 40.5, 40.5], 1.0) is None


def test_what_falls_on_is_never_ended() -> None:
    assert ended_at([40.0 - step for step in range(20)], 0.01) is None


def test_hardly_any_nats_rise_by_noise_alone() -> None:
    assert ended_at([0.001, 0.0, 0.004, 0.005, 0.003, 0.006], 1.0) is None


def test_it_goes_on_counting_where_a_killed_training_stopped() -> None:
    first, second = Patience(evaluations=2), Patience(evaluations=2)
    assert [first.ends(value, rate=0.1) for value in (40.0, 40.0)] == [False, False]
    second.load_state_dict(first.state_dict())
    assert second.ends(40.0, rate=0.1)


@pytest.mark.parametrize(("step", "share"), [(25, 0.5), (50, 1.0), (1000, 0.01)])
def test_the_share_of_the_peak_follows_warm_up_and_decay(step: int, share: float) -> None:
    assert rate_share(step, 1000, LoopConfig(warmup_steps=50)) == pytest.approx(share, abs=0.01)


def test_a_constant_rate_is_no_reason_to_wait() -> None:
    assert rate_share(10, 1000, LoopConfig(schedule="constant")) == 0.0
