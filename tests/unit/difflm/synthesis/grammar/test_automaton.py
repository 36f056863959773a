"""Automata: forced runs, and walks that take them against walks token by token."""

from collections.abc import Container

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from difflm.synthesis.grammar.automaton import Automaton, AutomatonBuilder, forced_runs

LONGEST = 40


def _run(transitions: list[dict[int, int]], state: int, *, bounded: Container[int] = ()) -> tuple[list[int], int]:
    run_SR, length_S, end_S = forced_runs(transitions, bounded)
    return run_SR[state, : int(length_S[state])].tolist(), int(end_S[state])


def test_a_run_ends_at_a_choice_and_where_nothing_follows() -> None:
    transitions: list[dict[int, int]] = [{5: 1}, {6: 2}, {7: 3, 8: 4}, {9: 4}, {}]
    assert _run(transitions, 0) == ([5, 6], 2)
    assert _run(transitions, 1) == ([6], 2)
    assert _run(transitions, 2) == ([], 2)
    assert _run(transitions, 3) == ([9], 4)
    assert _run(transitions, 4) == ([], 4)


def test_a_run_stops_in_bounded_states_and_goes_round_a_circle_once() -> None:
    assert _run([{5: 1}, {6: 2}, {7: 3}, {}], 0, bounded={1}) == ([5], 1)
    assert _run([{5: 1}, {6: 2}, {7: 0}], 0) == ([5, 6, 7], 0)
    assert _run([{5: 1}, {6: 2}, {7: 0}], 1) == ([6, 7], 0)
    assert _run([{5: 0}, {4: 0}], 0) == ([5], 0)
    assert _run([{5: 0}, {4: 0}], 1) == ([4, 5], 0)


@st.composite
def _automata(draw: st.DrawFn) -> Automaton:
    """Forward tokens and a few backward ones, some states bounded; every state leads on, so that walks may end."""
    count = draw(st.integers(2, 9))
    builder = AutomatonBuilder()
    for _ in range(count):
        builder.state()
    for state in range(count - 1):
        onward = draw(st.integers(state + 1, count - 1))
        builder.transitions[state][draw(st.integers(0, 4))] = onward
        for token in draw(st.lists(st.integers(0, 4), max_size=2)):
            builder.transitions[state].setdefault(token, draw(st.integers(0, count - 1)))
        if draw(st.booleans()) and draw(st.booleans()):
            builder.bounds[state] = (onward, draw(st.integers(1, 3)))
    return builder.build(start=0, final=count - 1)


class OneByOne:
    """A single walk, token by token, as the automaton's docstring has it."""

    def __init__(self, automaton: Automaton) -> None:
        self.automaton, self.state, self.spent = automaton, automaton.start, 0

    def allowed(self) -> list[bool]:
        row: list[bool] = self.automaton.allowed_BA(torch.tensor([self.state]))[0].tolist()
        return row

    def take(self, place: int) -> int:
        automaton = self.automaton
        self.state = int(automaton.next_B(torch.tensor([self.state]), torch.tensor([place])))
        closing = int(automaton.closing_S[self.state])
        self.spent = self.spent + 1 if closing != self.state else 0
        if self.spent > int(automaton.limit_S[self.state]):
            self.state = closing
        return int(automaton.tokens_A[place])


@settings(max_examples=100, deadline=None)
@given(_automata(), st.integers(0, 2**32))
def test_walks_that_jump_are_walks_token_by_token(automaton: Automaton, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    slots_N = torch.tensor([2, 0])
    walks = automaton.walks(3)
    single = [OneByOne(automaton) for _ in slots_N]
    runs = walks.begin(slots_N, [7, 8])
    for _ in range(LONGEST):
        for row, walk in enumerate(single):
            tokens = runs.tokens_NF[row, : int(runs.lengths_N[row])].tolist()
            for token in tokens:
                # A forced token is the only one.
                (place,) = [place for place, allowed in enumerate(walk.allowed()) if allowed]
                assert walk.take(place) == token
        ended = walks.final_N(slots_N)
        assert ended.tolist() == [walk.state == automaton.final for walk in single]
        slots_N, single = slots_N[~ended], [walk for walk, end in zip(single, ended.tolist(), strict=True) if not end]
        if not single:
            return
        allowed_NA = walks.allowed_BA()[slots_N]
        assert allowed_NA.tolist() == [walk.allowed() for walk in single]
        choice_N = torch.multinomial(allowed_NA.double(), 1, generator=generator).squeeze(1)
        runs = walks.advance(slots_N, choice_N)
        for row, walk in enumerate(single):
            assert walk.take(int(choice_N[row])) == int(runs.tokens_NF[row, 0])
        runs = type(runs)(tokens_NF=runs.tokens_NF[:, 1:], lengths_N=runs.lengths_N - 1)


def test_kept_slots_are_renumbered() -> None:
    builder = AutomatonBuilder()
    for _ in range(3):
        builder.state()
    builder.transitions[0] |= {4: 1, 5: 2}
    builder.transitions[1] |= {4: 2, 6: 2}
    automaton = builder.build(start=0, final=2)
    walks = automaton.walks(4)
    walks.begin(torch.arange(4), [0, 1, 2, 3])
    walks.advance(torch.tensor([3, 1]), torch.tensor([0, 1]))
    assert walks.final_N(torch.arange(4)).tolist() == [False, True, False, False]
    walks.keep(torch.tensor([3, 0]))
    assert walks.allowed_BA().tolist() == [[True, False, True], [True, True, False]]
