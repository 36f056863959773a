"""Interval sets against plain sets of numbers."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from difflm.records.kinds.codes import IntervalSet

SPANS = st.lists(st.tuples(st.integers(-30, 30), st.integers(-30, 30)), max_size=6)


def _plain(spans: list[tuple[int, int]]) -> set[int]:
    return {value for low, high in spans for value in range(low, high + 1)}


@settings(deadline=None)
@given(SPANS, SPANS)
def test_they_are_sets(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    one, other = IntervalSet.of(first), IntervalSet.of(second)
    assert list(one) == sorted(_plain(first))
    assert one.size == len(_plain(first))
    assert bool(one) == bool(_plain(first))
    assert set(one | other) == _plain(first) | _plain(second)
    assert set(one & other) == _plain(first) & _plain(second)
    assert set(one - other) == _plain(first) - _plain(second)
    assert all((value in one) == (value in _plain(first)) for value in range(-31, 32))


@settings(deadline=None)
@given(SPANS)
def test_equal_sets_are_equal(spans: list[tuple[int, int]]) -> None:
    assert IntervalSet.of(spans) == IntervalSet.points(_plain(spans))
    ordered = IntervalSet.of(spans).spans
    assert all(before[1] + 1 < after[0] for before, after in pairwise(ordered))
