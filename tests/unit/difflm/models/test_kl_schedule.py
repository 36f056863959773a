"""Schedules of beta and of a capacity, step by step."""

import pytest

from difflm.models.kl_schedule import AdaptiveBeta, CapacityKl, ConstantBeta, CyclicalBeta, KlSchedule


def test_the_backtracking_rule_move_by_move() -> None:
    schedule = KlSchedule(AdaptiveBeta(start=0.1, minimum=0.03, factor=0.5, backtracking_interval=2))
    seen = []
    for nats in (10.0, 9.0, 9.5, 9.4, 9.3, 8.0, 8.0, 8.0, 8.1, 8.2, 8.3):
        moved = schedule.observe(nats, 50.0)
        seen.append((moved, round(schedule.beta(0), 6)))
    assert seen == [
        (False, 0.1),  # the first is always the best
        (False, 0.1),  # better
        (False, 0.1),  # once without improvement
        (True, 0.05),  # twice
        (False, 0.05),  # counting starts again
        (False, 0.05),  # better
        (False, 0.05),  # as good is no improvement
        (True, 0.03),  # never below the minimum
        (False, 0.03),
        (False, 0.03),  # at the minimum nothing moves
        (False, 0.03),
    ]


def test_a_minimum_improvement_is_relative() -> None:
    schedule = KlSchedule(AdaptiveBeta(start=0.1, backtracking_interval=1, minimum_improvement=0.1))
    assert [schedule.observe(nats, 50.0) for nats in (10.0, 9.5, 8.9)] == [False, True, False]


def test_cycles_rise_and_stay() -> None:
    schedule = KlSchedule(CyclicalBeta(maximum=0.2, cycle_steps=8))
    assert [schedule.beta(step) for step in range(10)] == pytest.approx(
        [0.0, 0.05, 0.1, 0.15, 0.2, 0.2, 0.2, 0.2, 0.0, 0.05]
    )
    assert not schedule.observe(1.0, 50.0)


def test_a_constant_is_constant() -> None:
    schedule = KlSchedule(ConstantBeta(value=0.3))
    assert not any(schedule.observe(nats, 50.0) for nats in (1.0, 2.0, 3.0, 4.0))
    assert {schedule.beta(step) for step in range(5)} == {0.3}


def test_the_state_round_trips() -> None:
    config = AdaptiveBeta(backtracking_interval=2)
    first, second = KlSchedule(config), KlSchedule(config)
    for nats in (5.0, 6.0, 6.0, 6.0):
        first.observe(nats, 50.0)
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    assert (
        [first.observe(6.0, 50.0), first.beta(0)]
        == [second.observe(6.0, 50.0), second.beta(0)]
        == [True, 0.1 * 0.7 * 0.7]
    )


def test_beta_moves_until_kl_is_at_the_capacity() -> None:
    schedule = KlSchedule(CapacityKl(nats=4.0, start=0.01))
    seen = []
    for kl in (100.0, 9.0, 4.4, 1.0, 0.01, 4.0):
        moved = schedule.observe(10.0, kl)
        seen.append((moved, round(schedule.beta(0) / 0.01, 3), schedule.settled))
    assert seen == [
        (True, 2.0, False),  # at most twice
        (True, 3.0, False),
        (True, 3.146, True),  # near enough
        (True, 1.573, True),
        (True, 0.787, True),  # at least half
        (False, 0.787, True),
    ]
    other = KlSchedule(CapacityKl(nats=4.0))
    other.load_state_dict(schedule.state_dict())
    assert other.settled
    assert other.beta(0) == schedule.beta(0)


def test_a_capacity_of_nothing_raises_beta_to_its_bound() -> None:
    schedule = KlSchedule(CapacityKl(nats=0.0))
    assert sum(schedule.observe(10.0, 0.5) for _ in range(20)) == 12
    assert schedule.beta(0) == 10.0
    assert not schedule.observe(10.0, 0.0)


def test_with_a_capacity_the_best_state_keeps_to_it_and_reconstructs() -> None:
    schedule = KlSchedule(CapacityKl(nats=4.0))
    silent, steered, verbose = (schedule.objective(*nats) for nats in ((28.0, 0.0), (24.5, 4.0), (8.0, 40.0)))
    assert steered < silent < verbose
    assert KlSchedule(ConstantBeta(value=0.1)).objective(8.0, 40.0) == 8.0
