"""The seam between the decoding loop and a grammar: which tokens a slot may take, and which it must.

Shape legend: B slots, N of them, A active tokens (those that some record has), F tokens of the longest run.

A slot holds one record under way. The loop knows nothing of a grammar but what is here, so an automaton over tokens and
a matcher that keeps a parser per slot serve it alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Tokens that follow without a choice: row n has `lengths_N[n]` of them, the rest of `tokens_NF` means nothing."""

    tokens_NF: Tensor
    lengths_N: Tensor


class Walks(Protocol):
    """Where the record of every slot stands in its grammar."""

    def begin(self, slots_N: Tensor, indices: Sequence[int]) -> Runs:
        """Start the records of these indices in these slots; the tokens that every one of them must begin with (maybe
        none). The index is given because records of one batch may have grammars of their own.
        """
        ...

    def allowed_BA(self) -> Tensor:
        """Which active tokens may come next in every slot; a slot that is final, or holds no record, has any answer."""
        ...

    def advance(self, slots_N: Tensor, choice_N: Tensor) -> Runs:
        """Move on by the chosen places of `tokens_A`, and by all that is forced behind them: the chosen token first."""
        ...

    def final_N(self, slots_N: Tensor) -> Tensor:
        """Whether the record of each slot is complete."""
        ...

    def keep(self, slots_N: Tensor) -> None:
        """Forget all slots but these, which are numbered 0 to N - 1 from now on."""
        ...

    def grow(self, slots: int) -> None:
        """Have so many slots more, none of which holds a record, numbered behind those there are."""
        ...


class Constraint(Protocol):
    """A grammar of records."""

    @property
    def tokens_A(self) -> Tensor:
        """Ids of the active tokens, without repetition."""
        ...

    def walks(self, slots: int) -> Walks:
        """Walks for so many slots, none of which holds a record."""
        ...
