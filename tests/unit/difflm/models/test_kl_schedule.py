"""Schedules of beta and of a capacity, step by step."""

import math

import pytest

from difflm.models.kl_schedule import AdaptiveBeta, AutoKl, CapacityKl, ConstantBeta, CyclicalBeta, KlSchedule, KlTerm


def test_the_backtracking_rule_move_by_move() -> None:
    schedule = KlSchedule(AdaptiveBeta(start=0.1, minimum=0.03, factor=0.5, backtracking_interval=2))
    seen = []
    for nats in (10.0, 9.0, 9.5, 9.4, 9.3, 8.0, 8.0, 8.0, 8.1, 8.2, 8.3):
        moved = schedule.observe(nats)
        seen.append((moved, round(schedule.term(0).beta, 6)))
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
    assert [schedule.term(step).beta for step in range(10)] == pytest.approx(
        [0.0, 0.05, 0.1, 0.15, 0.2, 0.2, 0.2, 0.2, 0.0, 0.05]
    )
    assert not schedule.observe(1.0)


def test_a_constant_is_constant() -> None:
    schedule = KlSchedule(ConstantBeta(value=0.3))
    assert not any(schedule.observe(nats) for nats in (1.0, 2.0, 3.0, 4.0))
    assert {schedule.term(step).beta for step in range(5)} == {0.3}


def test_the_state_round_trips() -> None:
    config = AdaptiveBeta(backtracking_interval=2)
    first, second = KlSchedule(config), KlSchedule(config)
    for nats in (5.0, 6.0, 6.0, 6.0):
        first.observe(nats)
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    assert (
        [first.observe(6.0), first.term(0).beta]
        == [second.observe(6.0), second.term(0).beta]
        == [True, 0.1 * 0.7 * 0.7]
    )


def test_kl_is_free_at_first_then_a_capacity_falls_and_stays() -> None:
    schedule = KlSchedule(CapacityKl(nats=4.0, start=44.0, weight=2.0, fall_steps=8, free_share=0.25))
    found = [schedule.term(step).capacity_nats for step in (0, 1, 2, 5, 8, 100)]
    assert found == pytest.approx([math.inf, math.inf, 44.0, 14.0, 4.0, 4.0])
    assert {schedule.term(step).beta for step in range(10)} == {2.0}
    assert [schedule.settled(step) for step in (7, 8)] == [False, True]
    assert not schedule.observe(1.0)
    assert [str(schedule.term(step)) for step in (1, 5)] == ["KL is free", "capacity 14 nats"]


def test_a_capacity_of_nothing_is_reached_and_one_above_the_start_is_kept() -> None:
    nothing = KlSchedule(CapacityKl(nats=0.0, fall_steps=4))
    assert nothing.term(4).capacity_nats == 0.0
    wide = KlSchedule(CapacityKl(nats=100.0, start=64.0, fall_steps=4))
    assert [wide.term(step).capacity_nats for step in (1, 2, 9)] == pytest.approx([100.0] * 3)


def test_with_a_capacity_the_best_state_keeps_to_it_and_reconstructs() -> None:
    schedule = KlSchedule(CapacityKl(nats=4.0, weight=2.0))
    silent, steered, verbose = (schedule.objective(*nats) for nats in ((28.0, 0.0), (24.5, 4.0), (8.0, 40.0)))
    assert steered < silent < verbose
    assert KlSchedule(ConstantBeta(value=0.1)).objective(8.0, 40.0) == 8.0


@pytest.mark.parametrize(("decoder", "conditions"), [("pretrained", False), ("compact", True)])
def test_a_latent_that_has_to_carry_records_gets_the_papers_beta(decoder: str, conditions: bool) -> None:
    adaptive = KlSchedule(AutoKl().chosen(decoder_kind=decoder, conditions=conditions))
    assert adaptive.term(0) == KlTerm(beta=0.01)
    assert adaptive.settled(0)


def test_a_compact_decoder_gets_a_capacity() -> None:
    assert isinstance(AutoKl().chosen(decoder_kind="compact", conditions=False), CapacityKl)
