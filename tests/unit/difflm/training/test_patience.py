"""A training ends where validation stands still at a low learning rate, or got clearly worse at any."""

import pytest

from difflm.training.loop import LoopConfig
from difflm.training.patience import Lengthening, Patience, rate_share


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


def lengthened(objectives: list[float], *, most: float = 3.0, every: int = 100, planned: int = 1000) -> list[int]:
    """Return how many steps the training is to have, after each evaluation."""
    lengthening, totals = Lengthening(most=most), list[int]()
    for place, objective in enumerate(objectives):
        total = round(planned * lengthening.times)
        lengthening.observe(objective, step=(place + 1) * every, total=total)
        totals.append(round(planned * lengthening.times))
    return totals


def test_what_gets_better_late_is_given_more_steps_up_to_a_limit() -> None:
    falling = [40.0 * 0.99**place for place in range(30)]
    totals = lengthened(falling)
    assert totals[:7] == [1000] * 6 + [1500], "nothing is known before seven tenths of the steps"
    assert totals[10:12] == [2250] * 2, "and then of those that there are now"
    assert totals[-1] == 3000
    assert lengthened(falling, most=1.0)[-1] == 1000
    assert lengthened(falling[:6])[-1] == 1000


def test_what_stands_still_or_was_learned_by_heart_is_not() -> None:
    still = [40.0, 38.0, 37.5, 37.2, 37.1, 37.05, 37.02, 37.0, 36.99, 36.985]
    assert lengthened(still)[-1] == 1000
    assert lengthened([40.0, 36.0, 35.0, 35.5, 36.0, 36.5, 37.0, 37.5, 38.0, 38.5])[-1] == 1000
    assert lengthened([36.0] * 5 + [38.0, 37.0, 36.9, 36.88, 36.87])[-1] == 1000, "one bad evaluation is no trend"


def test_a_killed_training_knows_how_long_it_was_to_become() -> None:
    first, second = Lengthening(most=3.0), Lengthening(most=3.0)
    for step, objective in ((600, 30.0), (700, 29.0)):
        first.observe(objective, step=step, total=1000)
    second.load_state_dict(first.state_dict())
    assert second.times == first.times == 1.5
    second.observe(28.0, step=1100, total=1500)
    assert second.times == 2.25
