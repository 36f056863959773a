"""Draws: what became of one attempt at one index, the account of many, and the queue of those to come.

Shape legend: N prompts, K soft tokens, D embedding width, T most tokens of a record, M noise numbers.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from difflm.records.schema import Record
from difflm.synthesis.critic.judge import CRITIC
from difflm.synthesis.decoding.requests import Address, Prompts

PRIVACY = "privacy"
"""Why a valid record is rejected that a screen takes for too near to a training record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One attempt at one index: a record, or the reason why there is none (`detail` says more where more is known)."""

    index: int
    attempt: int
    record: Record | None
    reason: str | None = None
    detail: str | None = None


@dataclass(slots=True, kw_only=True)
class DrawAccount:
    """What became of the draws of a range of indices."""

    attempts: int = 0
    rejections: Counter[str] = field(default_factory=Counter)
    given_up: list[int] = field(default_factory=list)

    def add(self, draw: Draw, *, attempts: int) -> None:
        """Count a draw of an index that has so many attempts, unless a critic turned it down: it is a valid one."""
        if draw.reason == CRITIC:
            return
        self.attempts += 1
        if draw.reason is not None:
            self.rejections[draw.reason] += 1
            if draw.attempt + 1 == attempts:
                self.given_up.append(draw.index)


class DrawQueue:
    """The source of prompts: indices that were never drawn, and those that are drawn again.

    It holds no more than the rejected draws of the indices under way. Once the fresh indices have run out, rejected
    ones wait until no record is under way, so that they are drawn together and not one by one.
    """

    def __init__(
        self,
        indices: Iterable[int],
        *,
        first_attempt: int,
        prompts: Callable[[Sequence[Address]], Prompts],
        seed: int = 0,
        candidates: int = 1,
    ) -> None:
        """`prompts` makes those of addresses by `seed`, so many of each as there are `candidates` for it."""
        self._fresh = (Address(index=index, attempt=first_attempt) for index in indices)
        self._again: deque[Address] = deque()
        self._prompts, self.seed, self._candidates = prompts, seed, candidates

    @property
    def waits(self) -> bool:
        """Whether a rejected draw waits for its next attempt."""
        return len(self._again) > 0

    def again(self, address: Address) -> None:
        """Queue a draw whose attempt before was rejected."""
        self._again.append(address)

    def take(self, most: int, *, idle: bool) -> Prompts | None:
        most = max(1, most // self._candidates)
        fresh = list(islice(self._fresh, max(0, most - len(self._again))))
        if not fresh and not idle and len(self._again) < most:
            return None
        again = [self._again.popleft() for _ in range(min(most, len(self._again)))]
        addresses = again + fresh
        return self._prompts(addresses) if addresses else None
