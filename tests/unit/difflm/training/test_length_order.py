"""Batches of equally long rows: every row comes, padding is small, bounds are kept."""

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from difflm.training.record_data import LengthOrder


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 8), st.integers(1, 60), st.integers(1, 3))
def test_every_row_once_before_any_row_twice(lengths: list[int], most: int, tokens: int, world_size: int) -> None:
    order = LengthOrder(lengths_N=torch.tensor(lengths), most=most, tokens=tokens, seed=1)
    batches = order.steps(most=10**6, epochs=1, floor=1)
    seen = Counter[int]()
    for place in range(2 * batches):
        step, rank = divmod(place, world_size)
        rows = order.rows(step, 0, rank, world_size).tolist()
        assert 1 <= len(rows) <= most
        assert len(rows) == 1 or len(rows) * max(lengths[row] for row in rows) <= tokens
        seen.update(rows)
        if place + 1 == batches:
            assert seen == Counter(range(len(lengths)))
    assert seen == Counter(2 * list(range(len(lengths))))


def test_rows_do_not_depend_on_what_was_asked_before() -> None:
    lengths_N = torch.arange(50) % 7 + 1
    asked, fresh = (LengthOrder(lengths_N=lengths_N, most=4, tokens=16, seed=3) for _ in range(2))
    for step in range(150):
        asked.rows(step, 0, 0, 1)
    torch.testing.assert_close(asked.rows(4, 1, 1, 2), fresh.rows(4, 1, 1, 2))
    assert [asked.rows(step, 0, 0, 1).tolist() for step in range(9)] != [
        asked.rows(step, 1, 0, 1).tolist() for step in range(9)
    ]


def test_one_long_record_makes_no_other_batch_small() -> None:
    order = LengthOrder(lengths_N=torch.tensor([10] * 64 + [1000]), most=32, tokens=1000, seed=0)
    assert sorted(len(order.rows(step, 0, 0, 1)) for step in range(3)) == [1, 32, 32]
    assert order.batch_size == 1
    assert order.steps(most=600, epochs=2.5, floor=1) == 8
    assert order.steps(most=600, epochs=2.5, floor=50) == 50
    assert order.steps(most=6, epochs=2.5, floor=50) == 6
