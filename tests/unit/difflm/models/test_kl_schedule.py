"""Schedules of beta, step by step, and the capacity of KL that costs nothing."""

import pytest

from difflm.models.kl_schedule import AdaptiveBeta, CapacityKl, ConstantBeta, CyclicalBeta, KlSchedule


def test_the_backtracking_rule_move_by_move() -> None:
    schedule = KlSchedule(AdaptiveBeta(start=0.1, minimum=0.03, factor=0.5, backtracking_interval=2))
    seen = []
    for nats in (10.0, 9.0, 9.5, 9.4, 9.3, 8.0, 8.0, 8.0, 8.1, 8.2, 8.3):
        moved = schedule.observe(nats)
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
    assert [schedule.observe(nats) for nats in (10.0, 9.5, 8.9)] == [False, True, False]


def test_cycles_rise_and_stay() -> None:
    schedule = KlSchedule(CyclicalBeta(maximum=0.2, cycle_steps=8))
    assert [schedule.beta(step) for step in range(10)] == pytest.approx(
        [0.0, 0.05, 0.1, 0.15, 0.2, 0.2, 0.2, 0.2, 0.0, 0.05]
    )
    assert not schedule.observe(1.0)


def test_a_constant_is_constant() -> None:
    schedule = KlSchedule(ConstantBeta(value=0.3))
    assert not any(schedule.observe(nats) for nats in (1.0, 2.0, 3.0, 4.0))
    assert {schedule.beta(step) for step in range(5)} == {0.3}


def test_the_state_round_trips() -> None:
    config = AdaptiveBeta(backtracking_interval=2)
    first, second = KlSchedule(config), KlSchedule(config)
    for nats in (5.0, 6.0, 6.0, 6.0):
        first.observe(nats)
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    assert [first.observe(6.0), first.beta(0)] == [second.observe(6.0), second.beta(0)] == [True, 0.1 * 0.7 * 0.7]


def test_a_capacity_costs_nothing_below_and_its_full_price_above() -> None:
    schedule = KlSchedule(CapacityKl(nats=4.0))
    assert schedule.capacity == 4.0
    assert not any(schedule.observe(nats) for nats in (10.0, 10.0, 10.0))
    assert {schedule.beta(step) for step in range(5)} == {1.0}
    assert schedule.objective(10.0, 3.9) == schedule.objective(10.0, 0.0) == 10.0
    assert schedule.objective(10.0, 6.5) == 12.5


def test_only_a_capacity_is_one() -> None:
    assert [KlSchedule(config).capacity for config in (AdaptiveBeta(), CyclicalBeta(), ConstantBeta())] == [0.0] * 3
    assert KlSchedule(CapacityKl(nats=0.0)).objective(10.0, 2.0) == 12.0  # a decoder that is left alone


def test_with_a_capacity_the_best_state_keeps_to_it_and_reconstructs() -> None:
    schedule = KlSchedule(CapacityKl(nats=4.0))
    silent, steered, verbose = (schedule.objective(*nats) for nats in ((28.0, 0.0), (24.5, 4.0), (8.0, 40.0)))
    assert steered < silent < verbose
    assert KlSchedule(ConstantBeta(value=0.1)).objective(8.0, 40.0) == 8.0
