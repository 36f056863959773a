"""Automaton over token ids: the grammar of tables, and the first implementation of `Constraint`.

Shape legend: B walks, S states, A active tokens (those that occur on any transition), C classes of such tokens, R
tokens of the longest forced run.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from difflm.synthesis.grammar.constraint import Choices, Runs

DEAD = -1
UNBOUNDED = 2**31
SHORT = 2
"""A list of what may come next is short if it has at most one in so many of all active tokens."""


@dataclass(slots=True)
class AutomatonBuilder:
    """States, transitions and bounds (state -> closing state, most steps) while they are being put together."""

    transitions: list[dict[int, int]] = field(default_factory=list)
    bounds: dict[int, tuple[int, int]] = field(default_factory=dict)

    def state(self) -> int:
        self.transitions.append({})
        return len(self.transitions) - 1

    def follow(self, start: int, token: int) -> int:
        """Return the state that `token` leads to from `start`; add it where there is none."""
        target = self.transitions[start].get(token)
        if target is None:
            target = self.state()
            self.transitions[start][token] = target
        return target

    def chain(self, start: int, tokens: Iterable[int]) -> int:
        """Add a sequence of tokens and return the state after it."""
        for token in tokens:
            start = self.follow(start, token)
        return start

    def join(self, starts: Iterable[int], token: int) -> int:
        """Add one new state that `token` leads to from each of `starts`."""
        target = self.state()
        for start in starts:
            if token in self.transitions[start]:
                raise ValueError(f"token {token} both continues a value and ends it")
            self.transitions[start][token] = target
        return target

    def fuse(self, ends: set[int], *, since: int) -> set[int]:
        """Make one state of `ends`, all of them reached from states no older than `since`, where nothing follows any.

        Returns the state alone; `ends` as they are where something follows one of them.
        """
        if len(ends) < 2 or any(self.transitions[end] for end in ends):
            return ends
        kept = min(ends)
        for row in self.transitions[since:]:
            for token, target in row.items():
                if target in ends:
                    row[token] = kept
        return {kept}

    def build(self, *, start: int, final: int) -> Automaton:
        """Build the automaton; tokens with the same transitions in every state share one column of its table."""
        moves: dict[int, list[tuple[int, int]]] = {}
        for state, row in enumerate(self.transitions):
            for token, target in row.items():
                moves.setdefault(token, []).append((state, target))
        active = sorted(moves)
        classes: dict[tuple[tuple[int, int], ...], int] = {}
        class_A = [classes.setdefault(tuple(moves[token]), len(classes)) for token in active]
        table = np.full((len(self.transitions), len(classes)), DEAD, dtype=np.int32)
        for steps, column in classes.items():
            for state, target in steps:
                table[state, column] = target
        place_of = {token: place for place, token in enumerate(active)}
        listed = [place_of[token] for row in self.transitions for token in sorted(row)]
        count_S = torch.tensor([len(row) for row in self.transitions])
        closing_S, limit_S = torch.arange(len(self.transitions)), torch.full((len(self.transitions),), UNBOUNDED)
        for state, (closing, limit) in self.bounds.items():
            closing_S[state], limit_S[state] = closing, limit
        run_SR, run_length_S, run_end_S = forced_runs(self.transitions, self.bounds)
        return Automaton(
            tokens_A=torch.tensor(active),
            class_A=torch.tensor(class_A),
            next_SC=torch.from_numpy(table),
            choice_X=torch.tensor(listed, dtype=torch.int64),
            choice_start_S=count_S.cumsum(dim=0) - count_S,
            choice_count_S=count_S,
            closing_S=closing_S,
            limit_S=limit_S,
            run_SR=run_SR,
            run_length_S=run_length_S,
            run_end_S=run_end_S,
            start=start,
            final=final,
        )


def forced_runs(transitions: Sequence[Mapping[int, int]], bounded: Container[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Compute, for every state, the forced tokens that follow it: ids (S, R), their number, and the state after them.

    A run ends where there is a choice, where nothing follows, and in a bounded state, whose steps are counted one by
    one. It goes round a circle once at most.
    """
    only = [
        next(iter(row.items())) if len(row) == 1 and state not in bounded else None
        for state, row in enumerate(transitions)
    ]
    length = [-1] * len(only)
    for state in range(len(only)):
        path: list[int] = []
        while length[state] == -1:
            length[state] = 0  # while under way: a state that is met again is the end of the run
            move = only[state]
            if move is None:
                break
            path.append(state)
            state = move[1]
        for behind, earlier in enumerate(reversed(path), start=length[state] + 1):
            length[earlier] = behind
    run_SR = np.zeros((len(only), max(length, default=0)), dtype=np.int64)
    end_S = np.arange(len(only))
    for state in np.argsort(length, kind="stable").tolist():
        move = only[state]
        if length[state] and move is not None:
            token, target = move
            run_SR[state, 0] = token
            run_SR[state, 1 : length[state]] = run_SR[target, : length[state] - 1]
            end_S[state] = end_S[target]
    return torch.from_numpy(run_SR), torch.tensor(length), torch.from_numpy(end_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Automaton:
    """`next_SC[s, class_A[a]]` is the state that active token `a` leads to, or DEAD; a walk ends in `final`.

    A walk that has spent `limit_S[s]` steps in a row in bounded states, like `s`, moves to `closing_S[s]` without a
    token. `run_SR` holds what `forced_runs` gives; `choice_X` lists the places of the tokens that lead on from each
    state, one state after another.
    """

    tokens_A: Tensor
    class_A: Tensor
    next_SC: Tensor
    choice_X: Tensor
    choice_start_S: Tensor
    choice_count_S: Tensor
    closing_S: Tensor
    limit_S: Tensor
    run_SR: Tensor
    run_length_S: Tensor
    run_end_S: Tensor
    start: int
    final: int

    def allowed_BA(self, state_B: Tensor) -> Tensor:
        """Mark the active tokens that lead on from each state."""
        return (self.next_SC[state_B] != DEAD)[:, self.class_A]

    def choices(self, state_B: Tensor) -> Choices | None:
        """List the active tokens that lead on from each state, unless some state has many of them."""
        count_B = self.choice_count_S[state_B]
        longest = int(count_B.max())
        if longest == 0 or longest * SHORT > len(self.tokens_A):
            return None
        offset_L = torch.arange(longest, device=state_B.device)
        real_BL = offset_L < count_B[:, None]
        index_BL = (self.choice_start_S[state_B][:, None] + offset_L) * real_BL
        return Choices(place_BL=self.choice_X[index_BL], real_BL=real_BL)

    def next_B(self, state_B: Tensor, choice_B: Tensor) -> Tensor:
        """Return the states after the tokens at the chosen places of `tokens_A`."""
        return self.next_SC[state_B, self.class_A[choice_B]].long()

    def walks(self, slots: int) -> AutomatonWalks:
        """Return walks for so many slots."""
        state_B = torch.full((slots,), self.start, device=self.next_SC.device)
        return AutomatonWalks(automaton=self, state_B=state_B, in_bounded_B=torch.zeros_like(state_B))

    def to(self, device: torch.device) -> Automaton:
        """Copy the automaton to another device."""
        values = {place.name: getattr(self, place.name) for place in fields(self)}
        moved: dict[str, Any] = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **moved)

    def accepts(self, tokens: Sequence[int]) -> bool:
        """Return whether a sequence of token ids leads from start to final; the bounds on free text are not checked."""
        column = dict(zip(self.tokens_A.tolist(), self.class_A.tolist(), strict=True))
        state = self.start
        for token in tokens:
            state = int(self.next_SC[state, column[token]]) if token in column else DEAD
            if state == DEAD:
                return False
        return state == self.final


@dataclass(slots=True, kw_only=True)
class AutomatonWalks:
    """`Walks` through an automaton: a state per slot, and its steps in a row in bounded states."""

    automaton: Automaton
    state_B: Tensor
    in_bounded_B: Tensor

    def begin(self, slots_N: Tensor, indices: Sequence[int]) -> Runs:
        """Begin records; every index has the same grammar."""
        self.state_B[slots_N], self.in_bounded_B[slots_N] = self.automaton.start, 0
        return self._run(slots_N)

    def allowed_BA(self) -> Tensor:
        return self.automaton.allowed_BA(self.state_B)

    def choices(self) -> Choices | None:
        return self.automaton.choices(self.state_B)

    def advance(self, slots_N: Tensor, choice_N: Tensor) -> Runs:
        self._enter(slots_N, self.automaton.next_B(self.state_B[slots_N], choice_N))
        run = self._run(slots_N)
        chosen_N1 = self.automaton.tokens_A[choice_N][:, None]
        return Runs(tokens_NF=torch.cat([chosen_N1, run.tokens_NF], dim=1), lengths_N=run.lengths_N + 1)

    def final_N(self, slots_N: Tensor) -> Tensor:
        return self.state_B[slots_N] == self.automaton.final

    def keep(self, slots_N: Tensor) -> None:
        self.state_B, self.in_bounded_B = self.state_B[slots_N], self.in_bounded_B[slots_N]

    def grow(self, slots: int) -> None:
        new = self.automaton.walks(slots)
        self.state_B = torch.cat([self.state_B, new.state_B])
        self.in_bounded_B = torch.cat([self.in_bounded_B, new.in_bounded_B])

    def _run(self, slots_N: Tensor) -> Runs:
        """Follow the forced run of each slot."""
        automaton, state_N = self.automaton, self.state_B[slots_N]
        lengths_N = automaton.run_length_S[state_N]
        # The states inside of a run are not bounded: where there are any, the steps in a row begin anew.
        self.in_bounded_B[slots_N[lengths_N > 1]] = 0
        moving_N = lengths_N > 0
        self._enter(slots_N[moving_N], automaton.run_end_S[state_N[moving_N]])
        return Runs(tokens_NF=automaton.run_SR[state_N, : int(lengths_N.max())], lengths_N=lengths_N)

    def _enter(self, slots_N: Tensor, state_N: Tensor) -> None:
        """Enter states by a token; a walk that has spent its steps in bounded states moves to the closing one."""
        bounded_N = self.automaton.closing_S[state_N] != state_N
        spent_N = torch.where(bounded_N, self.in_bounded_B[slots_N] + 1, 0)
        closed_N = torch.where(spent_N > self.automaton.limit_S[state_N], self.automaton.closing_S[state_N], state_N)
        self.in_bounded_B[slots_N], self.state_B[slots_N] = spent_N, closed_N
