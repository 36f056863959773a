"""The budget of a judge: before a request its largest possible cost is set aside, afterwards the real one counts.

Pacing: at most so many requests and tokens in any minute, by two leaky buckets.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from aiolimiter import AsyncLimiter

from difflm.errors import EvaluationError
from difflm_evaluators.judge.answers import Answer
from difflm_evaluators.judge.settings import BudgetSettings, LimitSettings, PriceSettings

_BURST_SHARE = 0.1
"""Of a minute's tokens this much may go out at once; the rest flows in evenly, so that no minute sees more than all."""


class Limiter(Protocol):
    """Waits until so much may pass."""

    async def acquire(self, amount: float = 1) -> None: ...


class Pacer:
    """Waits before every request until both limits allow it."""

    def __init__(self, requests: Limiter | None, tokens: Limiter | None, largest_amount: float = math.inf) -> None:
        """`largest_amount` is what the limiter of tokens lets pass at a time; more is waited for in parts."""
        self._requests, self._tokens, self._largest_amount = requests, tokens, largest_amount

    async def wait(self, input_bytes: int, max_output_tokens: int) -> None:
        """Until one request with so much text may go out."""
        if self._requests is not None:
            await self._requests.acquire()
        if self._tokens is not None:
            left: float = math.ceil(input_bytes / 4) + max_output_tokens
            while left > 0:
                part = min(left, self._largest_amount)
                await self._tokens.acquire(part)
                left -= part


def pacer_of(limits: LimitSettings) -> Pacer:
    """Make the pacer of the settings; call it inside the event loop that uses it."""
    requests = tokens = None
    burst = math.inf
    if limits.requests_per_minute is not None:
        requests = AsyncLimiter(1, 60 / limits.requests_per_minute)  # evenly, one by one
    if limits.tokens_per_minute is not None:
        burst = _BURST_SHARE * limits.tokens_per_minute
        tokens = AsyncLimiter(burst, 60 * burst / (limits.tokens_per_minute - burst))
    return Pacer(requests, tokens, burst)


_TOKENS_OF_A_MESSAGE = 32  # roles and separators of any known chat template


class BudgetReached(EvaluationError):
    """The next request could cost more than is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Tokens read and written by a model."""

    input: int = 0
    output: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(input=self.input + other.input, output=self.output + other.output)

    def __sub__(self, other: Tokens) -> Tokens:
        return Tokens(input=self.input - other.input, output=self.output - other.output)

    @property
    def total(self) -> int:
        """Both."""
        return self.input + self.output


def max_tokens(texts: Iterable[str], max_output_tokens: int) -> Tokens:
    """No less than a request can use: a token of any vocabulary in use is at least one byte of its text."""
    texts = list(texts)
    size = sum(len(text.encode("utf-8", "surrogatepass")) + _TOKENS_OF_A_MESSAGE for text in texts)
    return Tokens(input=size, output=max_output_tokens)


class Ledger:
    """What was spent by all runs so far, what the requests under way may cost, and whether another one fits in."""

    def __init__(self, budget: BudgetSettings, prices: PriceSettings, past: Iterable[Answer] = ()) -> None:
        """`past` are all lines of the log, answered or not."""
        past = list(past)
        self.spent = sum(
            (Tokens(input=answer.input_tokens, output=answer.output_tokens) for answer in past), start=Tokens()
        )
        # At the prices of their time, which may have been others; without any, at those of today.
        self.dollars = sum(
            answer.dollars if answer.dollars is not None else self._priced(prices, answer) for answer in past
        )
        self._budget, self._prices = budget, prices
        self._reserved = Tokens()
        self._under_way = 0
        self._changed = asyncio.Condition()

    async def reserve(self, most: Tokens) -> None:
        """Set the largest cost of a request aside; waits while requests under way may yet cost less than feared.

        Raises:
            BudgetReached: it does not fit in, and nothing under way could change that.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._fits(most) or not self._under_way)
            if not self._fits(most):
                raise BudgetReached(self._what_is_left())
            self._reserved += most
            self._under_way += 1

    async def settle(self, most: Tokens, used: Tokens) -> None:
        """Replace what was set aside by what was used."""
        async with self._changed:
            self._reserved -= most
            self._under_way -= 1
            self.spent += used
            self.dollars += self._prices.dollars(used.input, used.output) or 0.0
            self._changed.notify_all()

    def _fits(self, most: Tokens) -> bool:
        coming = self._reserved + most
        if self._budget.tokens is not None and self.spent.total + coming.total > self._budget.tokens:
            return False
        cost = self._prices.dollars(coming.input, coming.output)
        return self._budget.dollars is None or cost is None or self.dollars + cost <= self._budget.dollars

    def _what_is_left(self) -> str:
        caps = []
        if self._budget.dollars is not None:
            caps.append(f"${self.dollars:.4f} of ${self._budget.dollars:g}")
        if self._budget.tokens is not None:
            caps.append(f"{self.spent.total:,} of {self._budget.tokens:,} tokens")
        return f"the budget is used up: {' and '.join(caps)} spent, and the next request could exceed it"

    @staticmethod
    def _priced(prices: PriceSettings, answer: Answer) -> float:
        return prices.dollars(answer.input_tokens, answer.output_tokens) or 0.0
