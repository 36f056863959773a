"""What streaming evaluators keep, each against a plain computation over all values at once."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from difflm.records.kinds.inference import infer_schema
from difflm_evaluators.columns.coding import bin_edges
from difflm_evaluators.columns.column_counts import count_column, fit_ruler
from difflm_evaluators.columns.columns import Column, read_columns
from difflm_evaluators.columns.labels import Labels
from difflm_evaluators.columns.moments import PairMoments, RunningMean
from difflm_evaluators.columns.row_keys import KnownRows, RowNumbering, row_hashes
from difflm_evaluators.columns.value_counts import DistinctRows, ValueCounts

coarse = st.integers(-4, 4).map(float)


def _numeric(values: list[float]) -> Column:
    return Column(name="x", kind="numeric", numbers_N=np.array(values, dtype=float), labels_N=())


@given(real=st.lists(coarse, min_size=1, max_size=30), other=st.lists(coarse | st.floats(-5, 5), min_size=1))
def test_gap_counts_give_the_exact_kolmogorov_smirnov_statistic(real: list[float], other: list[float]) -> None:
    ruler = fit_ruler(_numeric(real))
    statistic = ruler.distance(count_column(ruler, _numeric(real)), count_column(ruler, _numeric(other)))
    # the definition: the largest distance of the two distribution functions, which only change where there are values
    points = [*real, *other]
    gaps = [abs(np.mean(np.array(real) <= x) - np.mean(np.array(other) <= x)) for x in points]
    assert statistic == pytest.approx(max(gaps), abs=1e-12)


@given(st.floats(-1.5e308, 1.5e308), st.floats(-1.5e308, 1.5e308), st.integers(1, 30))
def test_bins_of_any_numbers_are_finite_ordered_and_cover_them(one: float, other: float, bins: int) -> None:
    values = np.sort([one, other])
    edges = bin_edges(values, bins)
    assert len(edges) == bins + 1
    assert np.all(np.isfinite(edges))
    assert np.all(edges[1:] > edges[:-1])
    assert edges[0] <= values[0]
    assert edges[-1] >= values[1]


def test_whole_numbers_beside_2_to_the_62_have_bins() -> None:
    values = 2.0**62 + 1024.0 * np.arange(4)
    ruler = fit_ruler(Column(name="x", kind="numeric", numbers_N=values, labels_N=()))
    column = Column(name="x", kind="numeric", numbers_N=values[:1], labels_N=())
    assert (
        ruler.distance(
            count_column(ruler, Column(name="x", kind="numeric", numbers_N=values, labels_N=())),
            count_column(ruler, column),
        )
        == 0.75
    )


def test_labels_read_like_a_tuple_and_compare_like_one() -> None:
    texts = ("b", None, "a", "b")
    labels = Labels.of(texts)
    assert labels == texts
    assert list(labels) == list(texts)
    assert (labels[0], labels[1], labels[-1]) == ("b", None, "b")
    assert labels[1:3] == (None, "a")
    assert labels.take(np.array([2, 0])) == ("a", "b")
    assert labels != ("b", None, "a")
    assert labels.missing_N.tolist() == [False, True, False, False]
    assert Labels.of(()) == ()


values = arrays.arrays(float, st.tuples(st.integers(1, 20), st.just(3)), elements=st.floats(-100, 100).map(lambda v: v))


@given(table_NM=values, gone=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 2)), max_size=10))
def test_moments_of_two_halves_are_those_of_the_whole(table_NM: np.ndarray, gone: list[tuple[int, int]]) -> None:
    table_NM = np.round(table_NM, 3)
    for row, column in gone:
        table_NM[row % len(table_NM), column] = math.nan
    middle = len(table_NM) // 2
    merged, whole = PairMoments.of(table_NM[:middle]), PairMoments.of(table_NM)
    merged.merge(PairMoments.of(table_NM[middle:]))
    for first, second in ((0, 1), (1, 2), (0, 2)):
        both = table_NM[~np.isnan(table_NM[:, [first, second]]).any(axis=1)][:, [first, second]]
        constant = len(both) < 2 or (both == both[0]).all(axis=0).any()
        found = [moments.correlation(first, second) for moments in (merged, whole)]
        if constant:
            assert found == [None, None]
        else:
            assert found == pytest.approx([np.corrcoef(both.T)[0, 1]] * 2, abs=1e-6)


def test_moments_keep_a_small_spread_around_a_large_mean() -> None:
    random = np.random.default_rng(0)
    noise = random.normal(size=(3000, 2))
    noise[:, 1] += noise[:, 0]
    expected = np.corrcoef(noise.T)[0, 1]
    table_NM = 1e6 + noise * 1e-2
    merged = PairMoments.empty(2)
    for part_NM in np.array_split(table_NM, 17):
        merged.merge(PairMoments.of(part_NM))
    assert merged.correlation(0, 1) == pytest.approx(expected, abs=1e-7)  # what 1e6 + 1e-2 x leaves of x
    scaled = PairMoments.empty(2)
    for place, part_NM in enumerate(np.array_split(noise, 5)):
        factor = 10.0 ** (-300 + place)  # each batch is larger than all before
        scaled.merge(PairMoments.of(part_NM * factor))
    last = np.array_split(noise, 5)[-1]
    assert scaled.correlation(0, 1) == pytest.approx(np.corrcoef(last.T)[0, 1], abs=0.05)


def test_a_running_mean_by_hand() -> None:
    mean = RunningMean()
    for values_N in ([], [1.0, 2.0], [6.0]):
        mean.update(np.array(values_N))
    assert (mean.count, mean.mean) == (3, pytest.approx(3.0))
    assert mean.standard_error == pytest.approx(math.sqrt(7.0) / math.sqrt(3))  # variance (4 + 1 + 9) / 2
    assert RunningMean().standard_error is None


def test_quantiles_are_numpys_while_counts_are_exact() -> None:
    distances_N = np.random.default_rng(0).gamma(2, 0.2, 999).astype(np.float32)
    counts = ValueCounts.empty()
    for part_N in np.array_split(distances_N, 4):
        counts.update(part_N)
    assert counts.relative_error == 0.0
    for share in (0.0, 0.1, 0.5, 0.99, 1.0):
        assert counts.quantile(share) == pytest.approx(float(np.quantile(distances_N.astype(float), share)), abs=1e-12)
    edges = np.linspace(0, 0.8, 5)
    expected, _ = np.histogram(np.minimum(distances_N.astype(float), 0.8), edges)
    assert counts.shares(edges) == pytest.approx((expected / 999).tolist())


@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 2000), max_size=4).map(sorted))
def test_rounded_counts_do_not_depend_on_the_order_and_keep_their_bound(seed: int, cuts: list[int]) -> None:
    distances_N = np.random.default_rng(seed).gamma(2, 0.2, 2000).astype(np.float32)
    whole, merged = ValueCounts.empty(most=100), ValueCounts.empty(most=100)
    whole.update(distances_N)
    for part_N in reversed(np.split(distances_N, cuts)):
        part = ValueCounts.empty(most=100)
        part.update(part_N)
        merged.merge(part)
    assert (whole.patterns_K == merged.patterns_K).all()
    assert (whole.counts_K == merged.counts_K).all()
    assert len(whole.counts_K) <= 100
    assert 0 < whole.relative_error == merged.relative_error < 0.2
    for share in (0.0, 0.25, 0.5, 1.0):
        exact = float(np.quantile(distances_N.astype(float), share))
        assert exact * (1 - whole.relative_error) - 1e-12 <= whole.quantile(share) <= exact + 1e-12


def test_distinct_rows_are_exact_up_to_the_limit_and_near_beyond() -> None:
    random = np.random.default_rng(0)
    hashes_N = random.integers(0, 2**64, 20_000, dtype=np.uint64)
    stream_N = np.concatenate([hashes_N, hashes_N[:5000]])
    exact, sketch, merged = DistinctRows.empty(), DistinctRows.empty(most=1000), DistinctRows.empty(most=1000)
    exact.update(stream_N)
    assert (exact.distinct, exact.relative_error, exact.counts_K.sum()) == (20_000, 0.0, 25_000)
    sketch.update(stream_N)
    for part_N in np.array_split(random.permutation(stream_N), 7):
        part = DistinctRows.empty(most=1000)
        part.update(part_N)
        merged.merge(part)
    assert (sketch.hashes_K == merged.hashes_K).all()
    assert (sketch.counts_K == merged.counts_K).all()
    assert sketch.relative_error == pytest.approx(1 / math.sqrt(998))
    assert sketch.distinct == merged.distinct == pytest.approx(20_000, rel=4 * sketch.relative_error)
    assert not merged.complete


def test_a_full_sketch_that_missed_nothing_is_exact() -> None:
    sketch = DistinctRows.empty(most=4)
    sketch.update(np.array([5, 6, 7, 8, 8], dtype=np.uint64))
    assert (sketch.complete, sketch.distinct) == (True, 4.0)
    sketch.update(np.array([9], dtype=np.uint64))
    assert not sketch.complete


def test_equal_rows_have_equal_hashes_and_others_do_not() -> None:
    table = pa.table({"x": [1.25, 1.25, None, 1.5, -0.0, 0.0], "c": ["a", "a", "a", None, "b", "b"]})
    columns = read_columns(table, infer_schema(table), "t")
    first, second, *others, minus, plus = row_hashes(columns, infer_schema(table)).tolist()
    assert first == second
    assert minus == plus
    assert len({first, *others, minus}) == 4
    swapped = pa.table({"a": ["x", "y"], "b": ["y", "x"]})
    schema = infer_schema(pa.table({"a": ["x", "y"] * 9, "b": ["x", "y"] * 9}))
    one, other = row_hashes(read_columns(swapped, schema, "t"), schema).tolist()
    assert one != other


@pytest.mark.parametrize("columns", [0, 1, 3, 40])
def test_rows_are_numbered_exactly_also_where_64_bits_do_not_do(columns: int) -> None:
    random = np.random.default_rng(columns)
    reference = random.integers(0, 50, (300, columns))
    reference[:, 1:] = reference[:, :1]  # rows that differ in all columns or in none
    numbering = RowNumbering(reference, (50,) * columns)
    queries = np.concatenate([reference[:20], random.integers(0, 50, (20, columns))])
    if columns > 1:
        queries[0, -1] = -1
        queries[1, 0] = (queries[1, 0] + 1) % 50
    known = {tuple(row) for row in reference.tolist()}
    numbers = numbering.number(queries)
    assert (numbers >= 0).tolist() == [tuple(row) in known for row in queries.tolist()]
    for row, number in zip(queries.tolist(), numbers.tolist(), strict=True):
        same = (queries == row).all(axis=1)
        assert (numbers[same] == number).all()
    assert len(numbering) == len(known)


def test_copies_are_found_among_many_wide_rows() -> None:
    random = np.random.default_rng(0)
    table = pa.table({f"x{number}": random.normal(size=200) for number in range(15)})  # 200 ** 15 is far over 64 bits
    schema = infer_schema(table)
    known = KnownRows(read_columns(table, schema, "t"), schema)
    assert known.holds(read_columns(table, schema, "t")).all()
    mixed = pa.table({name: table.column(name).take(random.permutation(200)) for name in table.column_names})
    assert not known.holds(read_columns(mixed, schema, "t")).any()
