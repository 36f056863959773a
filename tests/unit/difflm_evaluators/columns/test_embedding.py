"""Points of rows: their distances by hand, missing values, rare categories and numbers out of every range."""

import numpy as np
import pyarrow as pa
import pytest

from difflm.records.kinds.inference import infer_schema
from difflm_evaluators.columns.columns import Columns, read_columns
from difflm_evaluators.columns.features import MAX_OWN_DIMENSIONS, Embedding
from difflm_evaluators.privacy.neighbours import OUTERMOST


def _columns(table: pa.Table, schema_of: pa.Table) -> Columns:
    return read_columns(table, infer_schema(schema_of), "t")


def test_distances_by_hand() -> None:
    train = pa.table({"x": [0.0, 10.0, 5.0] * 20, "c": ["a", "b", "a"] * 20})
    columns = _columns(train, train)
    points = Embedding.fit(columns, []).points(columns)
    assert np.linalg.norm(points[0] - points[2]) == pytest.approx(0.5)
    assert np.linalg.norm(points[0] - points[1]) == pytest.approx(np.sqrt(1 + 2))
    assert points.shape == (60, Embedding.fit(columns, []).width) == (60, 1 + 3)


def test_missing_numbers_have_a_dimension_where_any_table_has_them() -> None:
    train, other = pa.table({"x": [0.0, 10.0, 5.0, 1.0]}), pa.table({"x": pa.array([None, 4.0], pa.float64())})
    columns, others = _columns(train, train), _columns(other, train)
    embedding = Embedding.fit(columns, [others])
    assert embedding.points(others).tolist() == [[pytest.approx(0.4), 1.0], [pytest.approx(0.4), 0.0]]
    assert Embedding.fit(columns, []).width == 1


def test_rare_and_unknown_categories_share_a_dimension() -> None:
    names = [f"c{number}" for number in range(70)]
    train = pa.table({"c": names * 10 + names[10:] * 5, "x": np.arange(1000.0)})
    columns = _columns(train, train)
    embedding = Embedding.fit(columns, [])
    assert embedding.width == 1 + MAX_OWN_DIMENSIONS + 1
    other = _columns(pa.table({"c": ["c0", "c1", "new", "c69"], "x": [0.0] * 4}), train)
    points = embedding.points(other)
    assert points[:, -1].tolist() == [0, 0, 1, 0]
    assert (points[:, 1:].sum(axis=1) == 1).all()
    assert embedding.points(columns)[:, -1].sum() == 7 * 10  # the ten rarest, less the three first of them


def test_constants_nothing_at_all_and_enormous_numbers_stay_finite() -> None:
    train = pa.table({"k": [3, 3, 3, 3], "x": [-1.7e308, 1.7e308, 0.0, 1.0], "n": [1.0, 2.0, 3.0, 4.0]})
    columns = _columns(train, train)
    gone = _columns(train.set_column(2, "n", pa.nulls(4, pa.float64())), train)
    for fitted in (columns, gone):
        points = Embedding.fit(fitted, [columns, gone]).points(gone)
        assert np.isfinite(points).all()
    far = _columns(pa.table({"k": [3], "x": [0.0], "n": [1e300]}), train)
    assert Embedding.fit(columns, []).points(far).max() == OUTERMOST
