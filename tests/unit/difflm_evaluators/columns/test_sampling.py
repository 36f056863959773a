"""Seeded samples of rows: their size, their order, and that every kind of column goes along."""

import numpy as np
import pyarrow as pa

from difflm.records.schema import RecordSchema
from difflm_evaluators.columns.columns import draw_rows, read_columns, row_count, take_rows


def test_rows_are_taken_together_in_every_column(train: pa.Table, schema: RecordSchema) -> None:
    columns = read_columns(train, schema, "t")
    rows = np.array([5, 0, 599])
    taken, expected = take_rows(columns, rows), read_columns(train.take(rows), schema, "t")
    for name, column in taken.items():
        assert column.kind == expected[name].kind
        assert column.labels_N == expected[name].labels_N
        assert np.array_equal(column.numbers_N, expected[name].numbers_N, equal_nan=True)
    assert row_count(taken) == 3
    assert row_count({}) == 0


def test_draws_repeat_with_their_seed_and_keep_small_tables_whole(train: pa.Table, schema: RecordSchema) -> None:
    columns = read_columns(train, schema, "t")
    first, again, other = (draw_rows(columns, 50, np.random.default_rng(seed))["note"].labels_N for seed in (0, 0, 1))
    assert first == again != other
    assert len(set(first)) == 50
    position = {note: row for row, note in enumerate(columns["note"].labels_N)}
    assert [position[note] for note in first] == sorted(position[note] for note in first)
    assert draw_rows(columns, 600, np.random.default_rng(0))["note"] is columns["note"]
