"""Private summaries of a table and the rows that are drawn from them."""

import numpy as np
import pyarrow as pa
import pytest

from difflm.errors import ConfigError, DataError
from difflm.privacy.budget import PrivacyConfig, epsilon_of
from difflm.privacy.cells import kind_of, number_of, text_of
from difflm.privacy.measuring import nearest_counts
from difflm.privacy.surrogate import one_of_each, summarize
from difflm.privacy.tree import _raked

ROWS = 4000


def _table() -> pa.Table:
    """Two columns that say nearly the same, numbers with an extreme one, and a category that a single row has."""
    random = np.random.default_rng(0)
    side = random.choice(["left", "right"], ROWS, p=[0.7, 0.3])
    hand = np.where(random.random(ROWS) < 0.95, side, random.choice(["left", "right"], ROWS))
    age = random.integers(20, 60, ROWS).astype(str).astype(object)
    age[7] = "987654321"
    city = random.choice(["Rome", "Oslo", "Lima"], ROWS).astype(object)
    city[7] = "canary town"
    day = np.array(["2020-01-01"], "datetime64[D]") + random.integers(0, 300, ROWS)
    return pa.table(
        {
            "side": side,
            "hand": hand,
            "age": pa.array(age.tolist()),
            "city": pa.array(city.tolist()),
            "pay": np.round(random.gamma(2, 1000, ROWS), 2),
            "day": day.astype(str),
        }
    )


@pytest.fixture(scope="module")
def drawn() -> pa.Table:
    table = _table()
    summary = summarize(table, np.arange(ROWS), PrivacyConfig(epsilon=8.0), target="side")
    assert epsilon_of(summary.ledger.rho, None, summary.plan.rest_delta) < 8.0
    assert summary.ledger.delta <= summary.plan.threshold_delta
    return summary.draw(ROWS, table.schema, np.random.default_rng(0))


def test_the_types_of_the_table_are_kept(drawn: pa.Table) -> None:
    assert drawn.schema.equals(_table().schema)


def test_what_one_row_has_is_nowhere(drawn: pa.Table) -> None:
    assert set(drawn.column("city").to_pylist()) == {"Rome", "Oslo", "Lima"}
    assert max(map(int, drawn.column("age").to_pylist())) < 70


def test_marginals_and_the_pair_that_goes_together_are_kept(drawn: pa.Table) -> None:
    side, hand = (np.array(drawn.column(name).to_pylist()) for name in ("side", "hand"))
    assert np.mean(side == "left") == pytest.approx(0.7, abs=0.03)
    assert np.mean(side == hand) > 0.9
    pay = np.array(drawn.column("pay").to_pylist())
    real = np.array(_table().column("pay").to_pylist())
    assert np.quantile(pay, [0.25, 0.5, 0.75]) == pytest.approx(np.quantile(real, [0.25, 0.5, 0.75]), rel=0.15)
    days = sorted(drawn.column("day").to_pylist())  # the noise is that of the operating system: another one each time
    assert days[len(days) // 20] >= "2019-09"
    assert days[-len(days) // 20] <= "2021-03"


def test_one_row_of_every_unit_is_measured() -> None:
    units_N = np.array([0, 0, 0, 1, 2, 2])
    chosen = one_of_each(units_N, np.random.default_rng(0))
    assert units_N[chosen].tolist() == [0, 1, 2]


def test_free_text_has_no_private_form() -> None:
    table = _table().append_column("note", pa.array([f"text number {place}" for place in range(ROWS)]))
    with pytest.raises(DataError, match=r"'note' is free text.*privacy\.leave_out=\[note\]"):
        summarize(table, np.arange(ROWS), PrivacyConfig(epsilon=8.0), target=None)


def test_too_few_units_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"too (few|small) for"):
        summarize(_table(), np.arange(ROWS) % 20, PrivacyConfig(epsilon=3.0), target=None)


def test_a_target_that_is_not_there() -> None:
    with pytest.raises(DataError, match="no target column 'sde'"):
        summarize(_table(), np.arange(ROWS), PrivacyConfig(epsilon=3.0), target="sde")


@pytest.mark.parametrize(
    ("text", "kind", "number"),
    [
        ("-12", "integer", -12),
        ("1.50", "decimal2", 150),
        ("1970-01-03", "date", 2),
        ("1970-01-01 00:01:00", "datetime", 60),
        ("007", "other", None),
        ("2020-02-31", "other", None),
    ],
)
def test_cells_are_read_and_printed(text: str, kind: str, number: int | None) -> None:
    decimals = 2 if kind == "decimal2" else 0
    assert kind_of(text) == kind
    assert number_of(text, kind, decimals) == number
    if number is not None:
        assert text_of(number, kind, decimals) == text


def test_counts_are_made_consistent() -> None:
    assert nearest_counts(np.array([5.0, -3.0, 1.0]), 4.0) == pytest.approx([4.0, 0.0, 0.0])
    child, parent = np.array([[30.0], [70.0]]), np.array([[60.0], [40.0]])
    fitted = _raked(np.ones((2, 2, 1)), child, parent)
    assert fitted.sum(axis=1) == pytest.approx(child)
    assert fitted.sum(axis=0) == pytest.approx(parent)
