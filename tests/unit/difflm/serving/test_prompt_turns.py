"""Turns of prompting and decoding, with a clock that is set by hand."""

from __future__ import annotations

import pytest

from difflm.serving.engine_loop import GATHERED, PromptTurns


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def prompted(clock: Clock, seconds: float) -> PromptTurns:
    turns = PromptTurns(clock)
    with turns.prompting():
        clock.now += seconds
    return turns


def test_the_first_prompts_wait_for_nothing() -> None:
    assert PromptTurns(Clock()).due(1)


def test_few_draws_wait_for_as_long_as_the_last_prompts_took() -> None:
    clock = Clock()
    turns = prompted(clock, 0.5)
    clock.now += 0.4
    assert not turns.due(1)
    clock.now += 0.2
    assert turns.due(1)


def test_many_draws_do_not_wait() -> None:
    turns = prompted(Clock(), 0.5)
    assert not turns.due(GATHERED - 1)
    assert turns.due(GATHERED)


def test_prompts_that_fail_take_their_turn_as_well() -> None:
    clock = Clock()
    turns = PromptTurns(clock)

    def fail() -> None:
        with turns.prompting():
            clock.now += 1.0
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert not turns.due(1)
