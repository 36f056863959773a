"""Automaton over token ids: the one structure that constrained decoding runs on.

Shape legend: S states, A active tokens (those that occur on any transition), V vocabulary.
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
        active = sorted({token for row in self.transitions for token in row})
        column = {token: index for index, token in enumerate(active)}
        table = np.full((len(self.transitions), len(active)), DEAD, dtype=np.int64)
        for state, row in enumerate(self.transitions):
            table[state, [column[token] for token in row]] = list(row.values())
        closing_S, limit_S = torch.arange(len(self.transitions)), torch.full((len(self.transitions),), UNBOUNDED)
        for state, (closing, limit) in self.bounds.items():
            closing_S[state], limit_S[state] = closing, limit
        return Automaton(
            tokens_A=torch.tensor(active),
            next_SA=torch.from_numpy(table),
            closing_S=closing_S,
            limit_S=limit_S,
            start=start,
            final=final,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Automaton:
    """`next_SA[s, a]` is the state that active token `a` leads to, or DEAD; a walk ends in `final`.

    A walk that has spent `limit_S[s]` steps in a row in bounded states, like `s`, moves to `closing_S[s]` without a
    token.
    """

    tokens_A: Tensor
    next_SA: Tensor
    closing_S: Tensor
    limit_S: Tensor
    start: int
    final: int

    def allowed_SA(self) -> Tensor:
        return self.next_SA != DEAD

    def accepts(self, tokens: Sequence[int]) -> bool:
        """Whether a sequence of token ids leads from start to final."""
        column = {int(token): index for index, token in enumerate(self.tokens_A)}
        state = self.start
        for token in tokens:
            state = int(self.next_SA[state, column[token]]) if token in column else DEAD
            if state == DEAD:
                return False
        return state == self.final
