"""Tables for the evaluators' tests: small mixed ones made from a seed, with their schema."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema
from difflm_evaluators.scores import boosting


def mixed_table(rows: int, seed: int, *, missing: bool = False) -> pa.Table:
    """Numbers, categories, a boolean, a date, free text and a class that depends on two of them."""
    random = np.random.default_rng(seed)
    age = random.integers(18, 90, rows)
    income = np.round(random.lognormal(3, 0.5, rows) + age / 10, 2)
    city = random.choice(["Oslo", "Rome", "Wien", 'a,b "c" <d>'], rows, p=[0.5, 0.3, 0.15, 0.05])
    member = random.random(rows) < 0.3
    day = [f"2020-{1 + value // 28:02d}-{1 + value % 28:02d}" for value in random.integers(0, 336, rows)]
    note = [
        " ".join(random.choice(["red", "green", "blue", "amber"], random.integers(1, 9))) + f" {i}" for i in range(rows)
    ]
    label = np.where(age + 20 * (city == "Rome") + random.normal(0, 8, rows) > 60, "yes", "no")
    columns: dict[str, pa.Array] = {
        "age": pa.array(age),
        "income": pa.array(income),
        "city": pa.array(city.tolist()),
        "member": pa.array(["TRUE" if value else "FALSE" for value in member]),
        "day": pa.array(day),
        "note": pa.array(note),
        "label": pa.array(label.tolist()),
    }
    if missing:
        for number, name in enumerate(("income", "city")):
            gone = random.random(rows) < 0.1 * (number + 1)
            values = columns[name].to_pylist()
            columns[name] = pa.array([None if g else v for g, v in zip(gone, values, strict=True)])
    return pa.table(columns)


@pytest.fixture(scope="session")
def make_table() -> Callable[..., pa.Table]:
    return mixed_table


@pytest.fixture(scope="session")
def train() -> pa.Table:
    return mixed_table(600, seed=1, missing=True)


@pytest.fixture(scope="session")
def test() -> pa.Table:
    return mixed_table(300, seed=2, missing=True)


@pytest.fixture(scope="session")
def schema(train: pa.Table) -> RecordSchema:
    return infer_schema(train, target="label")


@pytest.fixture
def quick_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two fits instead of twelve, where the choice of settings is not what is tested."""
    monkeypatch.setattr(boosting, "MAX_DEPTHS", (5,))
    monkeypatch.setattr(boosting, "GAMMAS", (0,))
