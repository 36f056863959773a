"""The parts of C2ST: tables in which only relations, or only single columns, are wrong."""

import numpy as np
import pyarrow as pa
import pytest

from difflm.records.kinds.inference import infer_schema
from difflm_evaluators.columns.columns import read_columns
from difflm_evaluators.columns.features import FeatureEncoder
from difflm_evaluators.diagnosis.detector import (
    DetectorParts,
    Measured,
    detector_parts,
    shuffled_blocks,
    shuffled_columns,
)
from difflm_evaluators.scores.detection import DetectionConfig

CONFIG = DetectionConfig(seeds=(0,), max_rows=1000, threads=1)
ROWS = 1000


def people(seed: int, *, related: str = "", shift: float = 0.0) -> pa.Table:
    """Two numbers and two categories of unchanging distributions, but for a `shift` of x; `related` says which go
    together: "numbers", "across" (x with the first category), or nothing.
    """
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(2, ROWS))
    if related == "numbers":
        y = 0.95 * x + np.sqrt(1 - 0.95**2) * y
    group = x > 0 if related == "across" else random.random(ROWS) < 0.5
    columns = {"x": x + shift, "y": y, "group": np.where(group, "a", "b"), "other": random.choice(["u", "v"], ROWS)}
    return pa.table({name: values.tolist() for name, values in columns.items()})


def parts_of(made: pa.Table, real: pa.Table) -> DetectorParts:
    schema = infer_schema(real)
    table, reference = (read_columns(one, schema, "t") for one in (made, real))
    found = detector_parts(table, reference, FeatureEncoder.fit(reference), CONFIG)
    assert isinstance(found, DetectorParts)
    return found


def near(measured: Measured | None, value: float) -> None:
    assert measured is not None
    assert measured.value == pytest.approx(value, abs=0.06)


def test_equal_distributions_have_no_parts() -> None:
    found = parts_of(people(1), people(0))
    assert found.rows == ROWS
    near(found.whole, 0.5)
    near(found.dependency, 0.0)
    near(found.cross, 0.0)


def test_a_relation_among_numbers_is_dependency_and_not_across() -> None:
    found = parts_of(people(1), people(0, related="numbers"))
    assert found.whole.value > 0.8
    near(found.columns, 0.5)
    near(found.dependency, found.whole.value - 0.5)
    near(found.cross, 0.0)
    first = found.interactions[0]
    assert {first.first, first.second} == {"x", "y"}
    assert first.share > 0.5


def test_a_relation_of_numbers_and_categories_is_both() -> None:
    found = parts_of(people(1), people(0, related="across"))
    assert found.whole.value > 0.7
    near(found.blocks, 0.5)
    near(found.cross, found.whole.value - 0.5)
    near(found.dependency, found.whole.value - 0.5)
    assert {found.interactions[0].first, found.interactions[0].second} == {"x", "group"}


def test_a_wrong_column_alone_is_no_dependency() -> None:
    found = parts_of(people(1, shift=1.0), people(0))
    assert found.whole.value > 0.7
    near(found.columns, found.whole.value)
    near(found.dependency, 0.0)
    near(found.cross, 0.0)
    assert next(iter(found.gain_shares)) == "x"
    assert found.gain_shares["x"] > 0.5


def test_shuffling_keeps_columns_and_blocks() -> None:
    table = pa.table(
        {
            "a": [3 * row for row in range(50)],
            "b": [3 * row for row in range(50)],
            "c": [f"v{row % 30}" for row in range(50)],
        }
    )
    columns = read_columns(table, infer_schema(table), "t")
    random = np.random.default_rng(0)
    alone, block = shuffled_columns(columns, random), shuffled_blocks(columns, [["a", "b"]], random)
    assert sorted(alone["a"].numbers_N) == sorted(columns["a"].numbers_N)
    assert not (alone["a"].numbers_N == alone["b"].numbers_N).all()
    assert (block["a"].numbers_N == block["b"].numbers_N).all()
    assert not (block["a"].numbers_N == columns["a"].numbers_N).all()
    assert block["c"] is columns["c"]


def test_parts_that_cannot_be_are_left_out() -> None:
    numbers = parts_of(people(1).select(["x", "y"]), people(0).select(["x", "y"]))
    assert numbers.cross is None
    assert numbers.dependency is not None
    constant = pa.table({"x": people(0).column("x"), "k": ["same"] * ROWS})
    alone = parts_of(constant, constant)
    assert (alone.dependency, alone.cross) == (None, None)


def test_too_few_rows_are_said() -> None:
    table = people(0).slice(0, 8)
    columns = read_columns(table, infer_schema(table), "t")
    found = detector_parts(columns, columns, FeatureEncoder.fit(columns), CONFIG)
    assert found == "8 rows of each table are too few for 5 folds of two; it takes 10"
