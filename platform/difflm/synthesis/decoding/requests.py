"""What goes into a decoding and what comes out of it: addresses, prompts, where these wait, and decoded records.

Shape legend: N prompts, T most tokens of a record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from difflm.models.prompt import Prompt

Failure = Literal["unfinished", "not_finite", "dead_end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Which draw a record is: the attempt at an index, and which of the candidates that one record is chosen of."""

    index: int
    attempt: int
    candidate: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """Prompts of N records, the uniform numbers that their tokens are drawn from, and their temperatures, if any.

    `corrected_N` says whose scores are corrected, where there are corrections: by default all. With `scored`, decoded
    records tell how likely they were.
    """

    addresses: list[Address]
    prompt: Prompt
    uniforms_NT: Tensor
    temperatures_N: Tensor | None = None
    corrected_N: Tensor | None = None
    scored: bool = False


class PromptSource(Protocol):
    """Where prompts wait."""

    def take(self, most: int, *, idle: bool) -> Prompts | None:
        """Take the next prompts, None when none waits now.

        With `idle` no record is under way, so there is nothing to hold prompts back for.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A record's token ids, or what kept it from ending: `unfinished` (more than T tokens), `not_finite` (scores of
    NaN or infinity), `dead_end` (the grammar allows nothing). `nats` is minus the logarithm of the probability that its
    tokens were drawn with, 0 where that was not asked for.
    """

    address: Address
    tokens: list[int]
    failure: Failure | None = None
    nats: float = 0.0
