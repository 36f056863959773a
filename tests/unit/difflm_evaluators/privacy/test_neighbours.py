"""Distances by hand, and the embedding against the definition written out."""

import math
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from difflm.records.schema import RecordSchema
from difflm_evaluators.columns.columns import Column, Columns, read_columns
from difflm_evaluators.columns.mixed_rows import mixed_rows
from difflm_evaluators.privacy import neighbours
from difflm_evaluators.privacy.distances import StreamingDistances
from difflm_evaluators.privacy.neighbours import nearest


def _table(numbers: list[float], labels: list[str | None]) -> Columns:
    return {
        "x": Column(name="x", kind="numeric", numbers_N=np.array(numbers), labels_N=()),
        "c": Column(name="c", kind="category", numbers_N=np.zeros(0), labels_N=tuple(labels)),
        "t": Column(name="t", kind="text", numbers_N=np.ones(len(labels)), labels_N=("free",) * len(labels)),
    }


def _distances(train: Columns, query: Columns, count: int = 2) -> list[list[float]]:
    reference, queries = mixed_rows(train, [query])
    found: list[list[float]] = nearest(queries, reference, count, threads=1).tolist()
    return found


def test_distances_by_hand() -> None:
    train = _table([0.0, 10.0], ["a", "b"])
    # to (0, a): 0.2 and equal; to (10, b): 0.8 and different
    assert _distances(train, _table([2.0], ["a"])) == [pytest.approx([0.2, 2.8])]
    # an unknown category differs from every known one; beyond the range the scale goes on
    assert _distances(train, _table([20.0], ["z"])) == [pytest.approx([3.0, 4.0])]
    assert _distances(train, _table([0.0], [None])) == [pytest.approx([2.0, 3.0])]
    assert _distances(_table([0.0, 10.0], [None, "b"]), _table([0.0], [None])) == [pytest.approx([0.0, 3.0])]


def test_a_missing_number_is_one_from_every_number_and_zero_from_another() -> None:
    train = _table([0.0, 10.0, math.nan], ["a", "a", "a"])
    assert _distances(train, _table([math.nan, 4.0], ["a", "a"]), 3) == [
        pytest.approx([0.0, 1.0, 1.0]),
        pytest.approx([0.4, 0.6, 1.0]),
    ]


def test_every_two_of_many_categories_are_two_apart() -> None:
    labels: list[str | None] = [str(number) for number in range(7)]
    rows, _ = mixed_rows(_table([0.0] * 7, labels), [_table([0.0], ["0"])])
    vectors = rows.embed(0, 7)
    apart = np.abs(vectors[:, None] - vectors[None, :]).sum(axis=2)
    assert (apart == 2 - 2 * np.eye(7)).all()
    assert rows.width == 1 + 4  # half of one-hot


def _written_out(train: Columns, query: Columns) -> np.ndarray:
    """Eq. 15 with loops over columns and plain one-hot comparison."""
    total = np.zeros((len(query["label"].labels_N), len(train["label"].labels_N)))
    for name, column in train.items():
        if column.kind == "category":
            a, b = np.array(query[name].labels_N, dtype=object), np.array(column.labels_N, dtype=object)
            total += 2.0 * (a[:, None] != b[None, :])
        elif column.kind == "numeric":
            span = np.nanmax(column.numbers_N) - np.nanmin(column.numbers_N)
            gap = np.abs(query[name].numbers_N[:, None] - column.numbers_N[None, :]) / span
            missing = query[name].missing_N[:, None] | column.missing_N[None, :]
            both = query[name].missing_N[:, None] & column.missing_N[None, :]
            total += np.where(both, 0.0, np.where(missing, 1.0, gap))
    return np.sort(total, axis=1)


@pytest.mark.parametrize("block", [2**24, 600])
def test_blocks_and_embedding_give_the_definition(
    train: pa.Table,
    schema: RecordSchema,
    make_table: Callable[..., pa.Table],
    monkeypatch: pytest.MonkeyPatch,
    block: int,
) -> None:
    monkeypatch.setattr(neighbours, "BLOCK_FLOATS", block)
    real = read_columns(train, schema, "t")
    query = read_columns(make_table(50, 9, missing=True), schema, "t")
    inside = query["income"].numbers_N <= np.nanmax(real["income"].numbers_N)
    found = np.array(_distances(real, query, 3))
    expected = _written_out(real, query)[:, :3]
    assert np.allclose(found[inside], expected[inside], atol=1e-5)


def test_wild_numbers_give_finite_distances() -> None:
    train = _table([-1.7e308, 1.7e308], ["a", "a"])
    assert np.isfinite(_distances(train, _table([1e308, -1.7e308], ["a", "a"]))).all()
    assert np.isfinite(_distances(_table([5.0, 5.0], ["a", "a"]), _table([1e300], ["a"]))).all()


def _random_rows(rows: int, seed: int, *, numbers: int, categories: int, sizes: int) -> Columns:
    random = np.random.default_rng(seed)
    columns: dict[str, Column] = {}
    for place in range(numbers):
        values_N = np.round(random.gamma(1, 1, rows), 1)
        values_N[random.random(rows) < 0.1 * (place % 2)] = math.nan
        columns[f"x{place}"] = Column(name=f"x{place}", kind="numeric", numbers_N=values_N, labels_N=())
    for place in range(categories):
        labels = [str(label) if label else None for label in random.integers(0, sizes, rows)]
        columns[f"c{place}"] = Column(name=f"c{place}", kind="category", numbers_N=np.zeros(0), labels_N=labels)
    return columns


@pytest.mark.parametrize(
    ("numbers", "categories", "sizes"),
    [(3, 0, 1), (0, 3, 4), (2, 1, 300), (2, 3, 3), (3, 8, 4), (1, 6, 2), (40, 2, 3)],
)
def test_the_index_finds_what_comparing_all_with_all_finds(numbers: int, categories: int, sizes: int) -> None:
    train = _random_rows(400, 1, numbers=numbers, categories=categories, sizes=sizes)
    other = _random_rows(120, 2, numbers=numbers, categories=categories, sizes=sizes + 1)
    reference, queries = mixed_rows(train, [other])
    found = nearest(queries, reference, 3, threads=1)
    everything = np.abs(queries.embed(0, 120)[:, None] - reference.embed(0, 400)[None]).sum(axis=2)
    assert np.allclose(found, np.sort(everything, axis=1)[:, :3], atol=1e-5)
    assert nearest(queries, reference.take(np.arange(2)), 3, threads=1).shape == (120, 2)
    assert nearest(queries.take(np.arange(0)), reference, 3, threads=1).shape == (0, 3)


def test_numbers_missing_only_in_queries_have_the_distances_of_the_definition() -> None:
    train, batch = _table([0.0, 10.0], ["a", "b"]), _table([math.nan, 2.0], ["a", "a"])
    stream = StreamingDistances.fit(train, None, seed=0, threads=1, max_test_rows=1)
    stream.update(batch)
    quantiles = stream.result().details["dcr"]["quantiles_synthetic"]  # type: ignore[index, call-overload]
    assert (quantiles["0%"], quantiles["100%"]) == (pytest.approx(0.2), pytest.approx(1.0))
