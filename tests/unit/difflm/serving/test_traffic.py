"""Traffic: bounded, closed for new requests at the end, and waited for as long as was said."""

from __future__ import annotations

import asyncio

import pytest

from difflm.serving.limits import Traffic
from difflm.serving.problems import Problem


def test_no_more_than_the_most_are_let_in() -> None:
    traffic = Traffic(most=1)
    with traffic.one():
        with pytest.raises(Problem, match="1 requests are under way") as refused, traffic.one():
            pass
        assert refused.value.status == 429
    with traffic.one():
        assert traffic.requests == 1


def test_a_server_that_closes_waits_for_what_is_under_way_and_lets_no_more_in() -> None:
    async def closed() -> int:
        traffic, begun, going = Traffic(most=9), asyncio.Event(), asyncio.Event()

        async def request() -> None:
            with traffic.one():
                begun.set()
                await going.wait()

        under_way = asyncio.create_task(request())
        await begun.wait()
        closing = asyncio.create_task(traffic.close(within_s=60))
        while not traffic.closing:
            await asyncio.sleep(0)
        with pytest.raises(Problem, match="about to end") as refused, traffic.one():
            pass
        assert refused.value.status == 503
        assert not closing.done()
        going.set()
        await under_way
        return await closing

    assert asyncio.run(closed()) == 0


def test_what_takes_longer_than_was_said_is_left() -> None:
    async def closed() -> int:
        traffic = Traffic(most=9)
        with traffic.one():
            return await traffic.close(within_s=0.0)

    assert asyncio.run(closed()) == 1
