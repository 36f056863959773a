"""Shard ranges: finished ones and gaps tile the whole, whatever was finished before."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from difflm.artifacts.dataset import missing_ranges, part_name, runs_of


def test_a_fresh_job_is_cut_at_the_multiples() -> None:
    assert list(missing_ranges([], 25, 10)) == [(0, 10), (10, 20), (20, 25)]
    assert list(missing_ranges([], 0, 10)) == []


def test_more_rows_begin_where_the_last_part_ends() -> None:
    assert list(missing_ranges([(0, 10), (10, 15)], 25, 10)) == [(15, 20), (20, 25)]
    assert list(missing_ranges([(10, 20)], 20, 10)) == [(0, 10)]
    assert list(missing_ranges([(0, 10), (10, 20)], 20, 10)) == []


@settings(deadline=None)
@given(st.sets(st.integers(0, 80)), st.integers(0, 80), st.integers(1, 30))
def test_finished_and_missing_ranges_tile_the_whole(borders: set[int], total: int, per_shard: int) -> None:
    edges = sorted(borders)
    finished = [pair for pair in zip(edges[::2], edges[1::2], strict=False) if pair[1] <= total]
    missing = list(missing_ranges(finished, total, per_shard))
    indices = [index for start, stop in sorted([*finished, *missing]) for index in range(start, stop)]
    assert indices == list(range(total))
    assert all(start // per_shard == (stop - 1) // per_shard for start, stop in missing)


@settings(deadline=None)
@given(st.sets(st.integers(0, 60)))
def test_runs_hold_every_index_once(indices: set[int]) -> None:
    runs = list(runs_of(sorted(indices)))
    assert [index for start, stop in runs for index in range(start, stop)] == sorted(indices)
    assert all(stop < start for (_, stop), (start, _) in pairwise(runs))


def test_names_sort_like_ranges() -> None:
    assert part_name(0, 2048) == "part-000000000-000002048"
    assert part_name(999_999, 1_000_000) < part_name(1_000_000, 10_000_000)
