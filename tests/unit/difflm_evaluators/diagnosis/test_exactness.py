"""Equal columns and atoms: rates that are known, and what is none."""

import numpy as np
import pyarrow as pa
import pytest

from difflm.records.kinds.inference import infer_schema
from difflm_evaluators.columns.columns import Columns, read_columns
from difflm_evaluators.diagnosis.exactness import atoms, equal_columns


def columns_of(**values: object) -> Columns:
    table = pa.table({name: list(column) for name, column in values.items()})  # type: ignore[call-overload]
    return read_columns(table, infer_schema(table), "t")


def test_equal_columns_have_their_rates_without_zeros() -> None:
    bill = np.arange(1, 1001)
    paid = np.where(np.arange(1000) % 4 == 0, bill, bill + 5000)
    paid[:200], bill[:200] = 0, 0  # equal, and zero
    real = columns_of(bill=bill, paid=paid, code=np.arange(1000) % 3, twin=np.arange(1000) % 3)
    blurred = columns_of(bill=bill, paid=paid + 1, code=np.arange(1000) % 3, twin=np.arange(1000) % 3)
    (found,) = equal_columns(real, {"same": real, "blurred": blurred}, seed=0)
    assert (found.first, found.second) == ("bill", "paid")
    assert found.real == pytest.approx(0.2)
    assert found.chance < 0.001
    assert found.shares == {"same": pytest.approx(0.2), "blurred": 0.0}


def test_what_is_equal_by_chance_is_no_relation() -> None:
    random = np.random.default_rng(0)
    real = columns_of(one=random.integers(1, 21, 3000), other=random.integers(1, 21, 3000))  # equal in 5 % of rows
    assert equal_columns(real, {}, seed=0) == ()


def test_missing_numbers_are_equal_to_nothing() -> None:
    some = [None if row % 2 else row for row in range(100)]
    (found,) = equal_columns(columns_of(a=some, b=some), {}, seed=0)
    assert found.real == pytest.approx(0.49)


def test_atoms_have_their_rates_and_repeats_are_none() -> None:
    random = np.random.default_rng(0)
    amount = np.where(np.arange(2000) % 5 == 0, 390.0, random.normal(1000, 200, 2000).round(3))
    real = columns_of(amount=amount, age=random.integers(18, 90, 2000))
    without = columns_of(amount=np.where(amount == 390, 391.0, amount), age=random.integers(18, 90, 2000))
    (found,) = atoms(real, {"same": real, "without": without})
    assert (found.column, found.value) == ("amount", 390.0)
    assert found.real == pytest.approx(0.2)
    assert found.shares == {"same": pytest.approx(0.2), "without": 0.0}
