"""The budget is never exceeded, whatever requests use, and pacing lets no minute see more than its limit."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difflm_evaluators.judge.answers import Answer
from difflm_evaluators.judge.budget import BudgetReached, Ledger, Pacer, Tokens, max_tokens, pacer_of
from difflm_evaluators.judge.settings import BudgetSettings, LimitSettings, PriceSettings

PRICES = PriceSettings(input=1e6, output=2e6)  # a dollar and two per token: easy sums


def _line(tokens: int, dollars: float | None) -> Answer:
    return Answer(
        key="k", item="i", variant="v", repeat=0, values=None, requests=1, input_tokens=tokens, dollars=dollars
    )


@given(
    cap=st.integers(1, 200),
    requests=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.floats(0, 1)), max_size=20),
)
def test_no_order_of_requests_exceeds_the_budget(cap: int, requests: list[tuple[int, int, float]]) -> None:
    ledger = Ledger(BudgetSettings(dollars=float(cap), tokens=cap), PRICES)

    async def one(most: Tokens, used: Tokens) -> bool:
        try:
            await ledger.reserve(most)
        except BudgetReached:
            return False
        await asyncio.sleep(0)
        await ledger.settle(most, used)
        return True

    async def together() -> list[bool]:
        tasks = []
        for read, written, share in requests:
            used = Tokens(input=int(read * share), output=int(written * share))
            tasks.append(one(Tokens(input=read, output=written), used))
        return await asyncio.gather(*tasks)

    sent = asyncio.run(together())
    assert ledger.spent.total <= cap
    assert ledger.dollars <= cap
    if sum(read + 2 * written for read, written, _ in requests) <= cap:
        assert all(sent)  # what fits in is not held back


def test_a_request_waits_for_those_under_way_before_it_gives_up() -> None:
    async def scene() -> int:
        ledger = Ledger(BudgetSettings(tokens=100), PriceSettings())
        most = Tokens(input=40, output=40)
        await ledger.reserve(most)
        second = asyncio.create_task(ledger.reserve(most))
        await asyncio.sleep(0)
        assert not second.done()
        await ledger.settle(most, Tokens(input=10, output=10))
        await second
        with pytest.raises(BudgetReached, match="20 of 100 tokens"):
            await asyncio.gather(ledger.settle(most, Tokens()), ledger.reserve(Tokens(input=81)))
        return ledger.spent.total

    assert asyncio.run(scene()) == 20


def test_what_earlier_runs_spent_counts_at_the_prices_of_its_time() -> None:
    ledger = Ledger(BudgetSettings(dollars=10.0), PRICES, [_line(3, 7.0), _line(2, None)])
    assert ledger.spent.total == 5
    assert ledger.dollars == 7 + 2
    with pytest.raises(BudgetReached, match=r"\$9\.0000 of \$10"):
        asyncio.run(ledger.reserve(Tokens(input=2)))


@given(st.text(max_size=50))
def test_no_text_has_more_tokens_than_its_bytes(text: str) -> None:
    assert max_tokens([text, text], 7).input >= 2 * len(text.encode("utf-8", "surrogatepass"))
    assert max_tokens([text], 7).output == 7


class _Recorder:
    """A limiter that lets everything pass and writes it down."""

    def __init__(self) -> None:
        self.amounts: list[float] = []

    async def acquire(self, amount: float = 1) -> None:
        self.amounts.append(amount)


def test_a_request_takes_one_request_and_its_tokens_in_parts_that_the_limiter_knows() -> None:
    requests, tokens = _Recorder(), _Recorder()
    asyncio.run(Pacer(requests, tokens, 100).wait(input_bytes=400, max_output_tokens=150))
    assert requests.amounts == [1]
    assert tokens.amounts == [100, 100, 50]


def test_the_limits_of_the_settings_hold_in_any_minute() -> None:
    async def scene() -> tuple[float, float, float]:
        pacer = pacer_of(LimitSettings(requests_per_minute=30, tokens_per_minute=1000))
        requests, tokens = pacer._requests, pacer._tokens
        assert requests is not None
        assert tokens is not None
        # a bucket lets its capacity pass at once, and then what flows out of it in a minute
        spacing = requests.time_period / requests.max_rate  # type: ignore[attr-defined]
        capacity = tokens.max_rate  # type: ignore[attr-defined]
        return spacing, capacity, capacity + 60 * capacity / tokens.time_period  # type: ignore[attr-defined]

    spacing, capacity, in_a_minute = asyncio.run(scene())
    assert spacing == 2
    assert capacity == 100
    assert in_a_minute == pytest.approx(1000)
    asyncio.run(pacer_of(LimitSettings()).wait(10**9, 10**9))  # without limits nobody waits
