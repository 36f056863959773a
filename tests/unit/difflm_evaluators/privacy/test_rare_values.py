"""Rare values and pairs by hand; generators that hand out cells, and rows that do not."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema
from difflm_evaluators.base import Evaluation
from difflm_evaluators.columns.columns import read_columns
from difflm_evaluators.privacy import rare_values
from difflm_evaluators.privacy.rare_values import RARE_BELOW, evaluate_rare_values


def _evaluate(synthetic: pa.Table, train: pa.Table, test: pa.Table | None, schema: RecordSchema) -> Evaluation:
    made, real = read_columns(synthetic, schema, "t"), read_columns(train, schema, "t")
    unseen = None if test is None else read_columns(test, schema, "t")
    return evaluate_rare_values(made, real, unseen, schema, seed=0)


def _table(city: list[str | None], age: list[int | None]) -> pa.Table:
    return pa.table({"city": pa.array(city, pa.string()), "age": pa.array(age, pa.int64())})


def test_shares_by_hand() -> None:
    # Rome: 16 rows, Lima: 7, Oslo: 1; ages 30 (8 rows), 31 (15), 90 (1)
    train = _table(["Rome"] * 16 + ["Lima"] * 7 + ["Oslo"], [30] * 8 + [31] * 15 + [90])
    schema = infer_schema(train)
    synthetic = _table(["Rome", "Lima", "Oslo", None, "Rome"], [30, 31, 90, 91, None])
    test = _table(["Rome", "Lima"], [89, 90])
    found = _evaluate(synthetic, train, test, schema)
    cells, pairs = found.score("rare_cell_share"), found.score("rare_pair_share")
    # rare: Lima, Oslo, 90 (training rows have them), 91 (none has); of the test rows 89, Lima, 90
    assert cells.value == 75.0
    assert cells.baseline == pytest.approx(200 / 3)
    # (Rome, 30): 8 rows, not rare; (Lima, 31): 7 rows; (Oslo, 90): 1 row; test: (Rome, 89), (Lima, 90): no row
    assert pairs.value == 100.0
    assert pairs.baseline == 0.0
    # rows have 0, 1, 2, 1 and 0 rare cells, of which 0, 1, 2, 0 and 0 are handed out
    left = np.array([0, 1 - 0.75, 2 - 1.5, 0 - 0.75, 0])
    assert cells.standard_error == pytest.approx(100 * np.sqrt(5 / 4 * (left**2).sum()) / 4)
    counts = found.details["rare"]
    assert isinstance(counts, dict)
    assert counts["below"] == RARE_BELOW
    assert counts["synthetic"] == {
        "cells": {"seen": 8, "rare": 4, "handed_out": 3},
        "pairs": {"seen": 3, "rare": 2, "handed_out": 2},
        "columns": {"city": {"seen": 4, "rare": 2, "handed_out": 2}, "age": {"seen": 4, "rare": 2, "handed_out": 1}},
    }


def test_without_rare_values_there_is_no_share() -> None:
    train = _table(["Rome"] * 10 + ["Lima"] * 10, [30] * 20)
    found = _evaluate(train, train, None, infer_schema(train))
    assert found.score("rare_cell_share").undefined_because == "no synthetic row has a rare cell"
    assert found.score("rare_pair_share").undefined_because == "no synthetic row has a rare pair of cells"
    assert found.score("rare_cell_share").baseline is None


def test_cells_drawn_from_training_are_all_handed_out_and_fresh_ones_are_like_test_rows(
    train: pa.Table, test: pa.Table, schema: RecordSchema, make_table: Callable[..., pa.Table]
) -> None:
    random = np.random.default_rng(0)
    shuffled = pa.table({name: train.column(name).take(random.permutation(600)) for name in train.column_names})
    drawn = _evaluate(shuffled, train, test, schema)
    assert drawn.score("rare_cell_share").value == 100.0
    fresh = _evaluate(make_table(300, 7, missing=True), train, test, schema)
    value, baseline = fresh.score("rare_cell_share").value, fresh.score("rare_cell_share").baseline
    assert value is not None
    assert value == pytest.approx(baseline, abs=3)
    assert value < 60
    copied = _evaluate(train.slice(0, 300), train, test, schema)
    assert copied.score("rare_pair_share").value == 100.0
    kept, by_chance = drawn.score("rare_pair_share").value, fresh.score("rare_pair_share").value
    assert kept is not None
    assert by_chance is not None
    assert kept < 60
    assert by_chance < 60


def test_of_very_many_pairs_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rare_values, "MAX_PAIRS", 3)
    table = pa.table({f"c{place}": pa.array(range(0, 150, 3)) for place in range(6)})
    counts = _evaluate(table, table, None, infer_schema(table)).details["rare"]
    assert isinstance(counts, dict)
    assert counts["synthetic"]["pairs"] == {"seen": 150, "rare": 150, "handed_out": 150}  # type: ignore[index,call-overload]
