"""Constraints: what rows break is said, what no row can satisfy is refused."""

import pyarrow as pa
import pytest

from difflm.errors import ConfigError, DataError
from difflm.records.kinds.inference import infer_schema
from difflm.records.relations.constraints import asked_relations, asked_rules, check_constraints
from difflm.records.relations.model import Combinations, Lookup, Relation, Rule
from difflm.records.relations.values import TableValues
from difflm.testing.related import related_table

TABLE = related_table(300)
SCHEMA = infer_schema(TABLE)


def _asked(*texts: str) -> tuple[Relation, ...]:
    values = TableValues(TABLE, SCHEMA)
    return asked_relations(texts, table=values, train=values, source="stays.csv")


def test_constraints_become_relations() -> None:
    found = _asked("start <= end and low <= high", "fixed(state, city)", "determines(city, state)")
    assert found[:2] == (Rule(text="start <= end", origin="asked"), Rule(text="low <= high", origin="asked"))
    assert isinstance(found[2], Combinations)
    assert len(found[2].rows) == 5
    assert isinstance(found[3], Lookup)
    assert dict(found[3].rows)["Fulda"] == "Hesse"  # type: ignore[arg-type]


def test_rows_that_break_a_constraint_are_counted_and_the_first_is_named() -> None:
    totals = TABLE.column("total").to_pylist()
    rows = [row for row, total in enumerate(totals) if float(total) >= 100]
    with pytest.raises(DataError) as caught:
        _asked("total < 100")
    assert str(caught.value).startswith(
        f"stays.csv: constraint 'total < 100': {len(rows)} of 300 rows break it, the first is row {rows[0]} (total "
    )
    assert "'keep: total < 100'" in str(caught.value)
    assert _asked("keep: total < 100") == (Rule(text="total < 100", origin="asked"),)


def test_a_function_that_is_none_is_refused_unless_it_is_to_be_kept_anyway() -> None:
    with pytest.raises(DataError, match=r"stays.csv, training split: constraint 'determines\(state, city\)'"):
        _asked("determines(state, city)")
    (lookup,) = _asked("keep: determines(state, city)")
    assert isinstance(lookup, Lookup)
    assert len(lookup.rows) == 3


@pytest.mark.parametrize(
    "texts",
    [
        ["a < b", "b < a"],
        ["a < b < c", "c <= a"],
        ["a < a"],
        ["a == b", "b < a"],
        ["a <= b", "keep: a > b"],
    ],
)
def test_circles_are_refused_before_any_table_is_read(texts: list[str]) -> None:
    with pytest.raises(ConfigError, match="cannot both hold in any row"):
        check_constraints(texts)


def test_circles_of_equals_are_none() -> None:
    check_constraints(["a <= b", "b <= c", "c <= a", "a == c"])


@pytest.mark.parametrize(
    ("texts", "named"),
    [
        (["n > 8"], "n"),
        (["start > '2030-01-01'"], "start"),
        (["low >= 900", "high <= 800", "low <= high"], "low <= high"),
        (["total == n + 100000"], "total == n + 100000"),
    ],
)
def test_what_the_ranges_of_training_rule_out_is_refused(texts: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match="no row can satisfy it") as caught:
        asked_rules(texts, SCHEMA)
    assert named in str(caught.value)


def test_a_finished_bundle_learns_nothing_more() -> None:
    assert asked_rules(["n <= 3"], SCHEMA) == (Rule(text="n <= 3", origin="asked"),)
    with pytest.raises(ConfigError, match="learned from training rows"):
        asked_rules(["fixed(city, state)"], SCHEMA)
    with pytest.raises(ConfigError, match="beside"):
        asked_rules(["high <= 10", "low >= 20"], SCHEMA, beside=[Rule(text="low <= high")])


def test_unknown_columns_are_named() -> None:
    with pytest.raises(ConfigError, match="there is no column 'prize'"):
        asked_relations(
            ["prize <= total"], table=TableValues(TABLE, SCHEMA), train=TableValues(TABLE, SCHEMA), source=""
        )


def test_names_that_are_no_words() -> None:
    table = pa.table({"a b": [*range(20)] * 2, "default.payment": [*range(20)] * 2})
    schema = infer_schema(table)
    assert asked_rules(["`a b` <= default.payment"], schema)[0].text == "`a b` <= `default.payment`"


@pytest.mark.parametrize("text", ["id <= n", "n == id + 1", "determines(id, n)", "fixed(n, id)"])
def test_names_of_rows_stand_in_no_relation(text: str) -> None:
    table = pa.table({"id": range(40), "n": [*range(20)] * 2})
    values = TableValues(table, infer_schema(table))
    with pytest.raises(ConfigError, match="'id' only names the rows"):
        asked_relations([text], table=values, train=values, source="")
