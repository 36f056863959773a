"""Automaton over token ids: the one structure that constrained decoding runs on.

Shape legend: B walks, S states, A active tokens (those that occur on any transition), C classes of such tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

DEAD = -1
UNBOUNDED = 2**31


@dataclass(slots=True)
class AutomatonBuilder:
    """States, transitions and bounds (state -> closing state, most steps) while they are being put together."""

    transitions: list[dict[int, int]] = field(default_factory=list)
    bounds: dict[int, tuple[int, int]] = field(default_factory=dict)

    def state(self) -> int:
        self.transitions.append({})
        return len(self.transitions) - 1

    def follow(self, start: int, token: int) -> int:
        """The state that `token` leads to from `start`; added where there is none."""
        target = self.transitions[start].get(token)
        if target is None:
            target = self.state()
            self.transitions[start][token] = target
        return target

    def chain(self, start: int, tokens: Iterable[int]) -> int:
        """The state behind a sequence of tokens."""
        for token in tokens:
            start = self.follow(start, token)
        return start

    def join(self, starts: Iterable[int], token: int) -> int:
        """One new state that `token` leads to from each of `starts`."""
        target = self.state()
        for start in starts:
            if token in self.transitions[start]:
                raise ValueError(f"token {token} both continues a value and ends it")
            self.transitions[start][token] = target
        return target

    def build(self, *, start: int, final: int) -> Automaton:
        """The automaton; tokens that do the same in every state share one column of its table."""
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
        closing_S, limit_S = torch.arange(len(self.transitions)), torch.full((len(self.transitions),), UNBOUNDED)
        for state, (closing, limit) in self.bounds.items():
            closing_S[state], limit_S[state] = closing, limit
        return Automaton(
            tokens_A=torch.tensor(active),
            class_A=torch.tensor(class_A),
            next_SC=torch.from_numpy(table),
            closing_S=closing_S,
            limit_S=limit_S,
            start=start,
            final=final,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Automaton:
    """`next_SC[s, class_A[a]]` is the state that active token `a` leads to, or DEAD; a walk ends in `final`.

    A walk that has spent `limit_S[s]` steps in a row in bounded states, like `s`, moves to `closing_S[s]` without a
    token.
    """

    tokens_A: Tensor
    class_A: Tensor
    next_SC: Tensor
    closing_S: Tensor
    limit_S: Tensor
    start: int
    final: int

    def allowed_BA(self, state_B: Tensor) -> Tensor:
        """Which active tokens lead on from each state."""
        return (self.next_SC[state_B] != DEAD)[:, self.class_A]

    def next_B(self, state_B: Tensor, choice_B: Tensor) -> Tensor:
        """The states behind the chosen places of `tokens_A`."""
        return self.next_SC[state_B, self.class_A[choice_B]].long()

    def to(self, device: torch.device) -> Automaton:
        """The same on another device."""
        return Automaton(
            tokens_A=self.tokens_A.to(device),
            class_A=self.class_A.to(device),
            next_SC=self.next_SC.to(device),
            closing_S=self.closing_S.to(device),
            limit_S=self.limit_S.to(device),
            start=self.start,
            final=self.final,
        )

    def accepts(self, tokens: Sequence[int]) -> bool:
        """Whether a sequence of token ids leads from start to final; the bounds on free text are not looked at."""
        column = dict(zip(self.tokens_A.tolist(), self.class_A.tolist(), strict=True))
        state = self.start
        for token in tokens:
            state = int(self.next_SC[state, column[token]]) if token in column else DEAD
            if state == DEAD:
                return False
        return state == self.final
