"""Evaluation of a growing dataset: ranges in order, parts in every format, and what records a screen holds back."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from difflm.artifacts.dataset import Dataset
from difflm.artifacts.formats import FORMATS
from difflm.artifacts.storage import LocalStore
from difflm.errors import StorageError
from difflm.records.kinds.columns import conform_table
from difflm.records.schema import RecordSchema
from difflm_evaluators.columns.real_tables import write_real
from difflm_evaluators.evaluation import EvaluationConfig, RealSplits, evaluate_table
from difflm_evaluators.live.gates import STREAMED_SCORES
from difflm_evaluators.live.live import InOrder
from difflm_evaluators.live.part_scorer import PartScorer
from difflm_evaluators.privacy.screen import PrivacyScreen, ScreenConfig

ONLY_STREAMED = EvaluationConfig(detection=None, fidelity=None, membership=None, utility=None)


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=12), st.randoms(use_true_random=False))
def test_ranges_come_out_in_order_whatever_order_they_came_in(
    sizes: list[tuple[int, bool]], draw: random.Random
) -> None:
    ranges, position = [], 0
    for size, has_rows in sizes:
        ranges.append((position, position + size, has_rows))
        position += size
    shuffled = draw.sample(ranges, len(ranges))
    order, due = InOrder(), []
    for number, (start, stop, has_rows) in enumerate(shuffled):
        due += order.add(start, stop, has_rows=has_rows)
        known = {begin for begin, _, _ in shuffled[: number + 1]}
        gap = next((begin for begin, _, _ in ranges if begin not in known), position)
        assert due == [(begin, end) for begin, end, rows in ranges if rows and begin < gap]
    assert order.add(0, 3, has_rows=True) == [] or not ranges


@pytest.fixture(scope="module")
def real(train: pa.Table, test: pa.Table, schema: RecordSchema, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    write_real(folder, conform_table(train, schema), conform_table(test, schema), schema)
    return folder


@pytest.fixture(scope="module")
def rows(make_table: Callable[..., pa.Table], schema: RecordSchema) -> pa.Table:
    return conform_table(make_table(90, 3, missing=True), schema)


def dataset(folder: Path, table: pa.Table, format_: str = "parquet", per_part: int = 20) -> Dataset:
    made = Dataset(store=LocalStore(folder), format=format_)
    for start in range(0, len(table), per_part):
        part = table.slice(start, per_part)
        made.commit(start, start + len(part), part, account={})
    return made


@pytest.mark.parametrize("format_", FORMATS)
def test_parts_of_any_format_have_the_scores_of_the_table(
    real: Path, rows: pa.Table, train: pa.Table, test: pa.Table, schema: RecordSchema, tmp_path: Path, format_: str
) -> None:
    made = dataset(tmp_path, rows, format_)
    scorer = PartScorer(made, real, share=1.0, seed=0)
    assert scorer.take([(entry.start, entry.stop) for entry in made.entries()]) == 90
    scored = scorer.score()
    splits = RealSplits(train=conform_table(train, schema), test=conform_table(test, schema))
    whole = evaluate_table(rows, splits, schema, ONLY_STREAMED)
    assert scored.rows == 90
    assert set(scored.values) == set(STREAMED_SCORES)
    for name, value in scored.values.items():
        found = whole.score(name)
        assert found is not None
        assert value == pytest.approx(found.value, rel=1e-12)


def test_several_scorers_have_the_scores_of_one(real: Path, rows: pa.Table, tmp_path: Path) -> None:
    made = dataset(tmp_path, rows)
    parts = [(entry.start, entry.stop) for entry in made.entries()]
    one, first, second = (PartScorer(made, real, share=0.5, seed=0) for _ in range(3))
    one.take(parts)
    first.take(parts[::2])
    second.take(parts[1::2])
    assert first.score(second.seen()).values == pytest.approx(one.score().values, rel=1e-12)
    assert first.score().rows == 50  # what it was shown of others it does not keep
    (distances,) = [one for one in one.score().evaluations if one.name == "distances"]
    assert 25 < distances.details["queried_synthetic"] < 65  # type: ignore[operator]


def test_a_part_that_is_gone_is_named(real: Path, rows: pa.Table, tmp_path: Path) -> None:
    scorer = PartScorer(dataset(tmp_path, rows), real, share=1.0, seed=0)
    with pytest.raises(StorageError, match=r"data/part-000000090-000000099.parquet: was committed and is not there"):
        scorer.take([(90, 99)])


def test_a_screen_holds_copies_and_near_rows_back(
    real: Path, rows: pa.Table, train: pa.Table, test: pa.Table, schema: RecordSchema
) -> None:
    mixed = pa.concat_tables([rows, conform_table(train, schema).slice(5, 3)])
    copies = PrivacyScreen(real, ScreenConfig(copies=True))
    assert copies(mixed).tolist() == [True] * 90 + [False] * 3
    assert copies.least_distance is None

    near = PrivacyScreen(real, ScreenConfig(quantile=0.25))
    assert near.least_distance is not None
    assert near.least_distance > 0
    kept = near(conform_table(test, schema))
    assert 0.74 < kept.mean() < 0.76  # the holdout itself loses that quantile
    assert not near(mixed)[90:].any()
    assert near(mixed)[:90].any()
    stricter = PrivacyScreen(real, ScreenConfig(quantile=0.6))
    assert stricter(mixed).sum() < near(mixed).sum()
    alone = [bool(near(mixed.slice(row, 1))[0]) for row in range(len(mixed))]
    np.testing.assert_array_equal(near(mixed), alone)
