"""Joint counts: what is summed out of tables over couples of columns is what counting each pair gives."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from difflm_evaluators.columns import contingency as joint_counts
from difflm_evaluators.columns.contingency import JointCounts


def counted(sizes: dict[str, int], batches: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = [{name: random.integers(0, size, length) for name, size in sizes.items()} for length in batches]
    pairs = frozenset(pair for pair in combinations(sizes, 2) if sizes[pair[0]] * sizes[pair[1]] <= 4096)
    counts = JointCounts(sizes=sizes, pairs=pairs)
    for codes in rows:
        counts.update(codes)
    taken = dict(counts.totals())
    assert taken.keys() == pairs if batches else not taken
    for first, second in taken:
        cells = np.concatenate([codes[first] * sizes[second] + codes[second] for codes in rows])
        expected = np.bincount(cells, minlength=sizes[first] * sizes[second])
        assert np.array_equal(taken[first, second], expected), (first, second)


@given(
    st.lists(st.sampled_from([2, 3, 4, 12, 12, 44, 181, 300, 5000]), min_size=0, max_size=7),
    st.lists(st.integers(0, 40), max_size=3),
    st.integers(0, 100),
)
def test_every_pair_is_counted_as_if_alone(sizes: list[int], batches: list[int], seed: int) -> None:
    counted({f"c{place}": size for place, size in enumerate(sizes)}, batches, seed)


def test_few_tables_hold_the_pairs_of_many_columns() -> None:
    sizes = {f"c{place}": 12 for place in range(15)}
    counts = JointCounts(sizes=sizes, pairs=frozenset(combinations(sizes, 2)))
    counts.update({name: np.zeros(5, dtype=np.int64) for name in sizes})
    assert len(counts._tables) == 28


def test_many_columns_are_not_coupled_where_their_tables_would_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {f"c{place}": 12 for place in range(6)}
    monkeypatch.setattr(joint_counts, "MAX_CELLS_IN_ALL", 3 * 12**4 - 1)
    counts = JointCounts(sizes=sizes, pairs=frozenset(combinations(sizes, 2)))
    counts.update({name: np.zeros(5, dtype=np.int64) for name in sizes})
    assert [table.size for table in counts._tables.values()] == [144] * 15
    counted(sizes, [30, 1], 0)
