"""The ledger: whatever dies or raises, every index is done or given up once, and nothing is tried for ever."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from difflm.runtime.ledger import DIED, Order, ShardLedger

TRIES = 20_000


def work_off(ledger: ShardLedger, start: int, stop: int, deadly: set[int], breaking: set[int]) -> Order:
    """What processes would do with one shard: those given a deadly index die, those given a breaking one raise."""
    for _ in range(TRIES):
        order = ledger.take("a", start, stop)
        if order.action != "work":
            return order
        assert order.piece is not None
        indices = set(range(order.piece.start, order.piece.stop))
        if indices & deadly:
            continue
        if indices & breaking:
            stopped = ledger.fail("a", "ValueError", "broken")
            if stopped is not None:
                return stopped
            continue
        ledger.finish("a", {"start": order.piece.start, "stop": order.piece.stop})
    raise AssertionError("it never ends")


def indices_of(order: Order) -> list[int]:
    return sorted(index for account in order.accounts for index in range(int(account["start"]), int(account["stop"])))


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 300), st.data(), st.integers(0, 3), st.integers(1, 3))
def test_one_bad_index_is_given_up_and_all_others_are_done(
    size: int, data: st.DataObject, max_failures: int, attempts: int
) -> None:
    bad = data.draw(st.integers(0, size - 1))
    kills = data.draw(st.booleans())
    ledger = ShardLedger(attempts=attempts, max_failures=max_failures, max_given_up=1)
    order = work_off(ledger, 0, size, {bad} if kills else set(), set() if kills else {bad})
    assert order.action == "finished"
    assert indices_of(order) == list(range(size))
    given_up = [account for account in order.accounts if "given_up" in account]
    reason = DIED if kills else "ValueError: broken"
    assert given_up == [{"start": bad, "stop": bad + 1, "given_up": reason}]


@settings(deadline=None, max_examples=50)
@given(st.sets(st.integers(0, 63), min_size=1), st.sets(st.integers(0, 63)))
def test_it_ends_whatever_is_bad(deadly: set[int], breaking: set[int]) -> None:
    ledger = ShardLedger(attempts=2, max_failures=3, max_given_up=4)
    order = work_off(ledger, 0, 64, deadly, breaking)
    if order.action == "finished":
        assert indices_of(order) == list(range(64))
        assert len(deadly | breaking) <= 4
    else:
        assert order.action == "stop"
        assert order.reason


def test_a_death_by_chance_cuts_nothing() -> None:
    ledger = ShardLedger(attempts=2, max_failures=1, max_given_up=4)
    assert ledger.take("a", 0, 10).piece == ledger.take("a", 0, 10).piece
    ledger.finish("a", {"start": 0, "stop": 10})
    assert ledger.take("a", 0, 10).accounts == ({"start": 0, "stop": 10},)


def test_a_shard_that_is_done_is_not_done_again() -> None:
    """Ray runs a call once more when the node with its answer is lost."""
    ledger = ShardLedger(attempts=2, max_failures=1, max_given_up=4)
    ledger.take("a", 0, 10)
    ledger.finish("a", {"rows": 10})
    first = ledger.take("a", 0, 10)
    assert first.action == "finished"
    assert ledger.take("a", 0, 10) == first


def test_without_giving_up_the_first_bad_shard_ends_the_map() -> None:
    ledger = ShardLedger(attempts=2, max_failures=1, max_given_up=0)
    order = work_off(ledger, 0, 10, {3}, set())
    assert (order.action, order.error, order.reason, order.attempts) == ("stop", "ClusterError", DIED, 2)
    order = work_off(ShardLedger(attempts=2, max_failures=1, max_given_up=0), 0, 10, set(), {3})
    assert (order.action, order.error, order.reason, order.attempts) == ("stop", "ValueError", "broken", 2)


def test_loading_that_kills_is_not_blamed_on_indices() -> None:
    ledger = ShardLedger(attempts=2, max_failures=1, max_given_up=4)
    assert ledger.load("a", 0, 10) is None
    assert ledger.load("a", 0, 10) is None
    order = ledger.load("a", 0, 10)
    assert order is not None
    assert order.reason.startswith("while it was loading, its process died")
    assert ledger.load("b", 0, 10) is None
    assert ledger.take("b", 0, 10).action == "work"
