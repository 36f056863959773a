"""Keeping: computed columns, rejected records, and given cells that stay."""

from typing import Any

import pyarrow as pa
import pytest

from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.inference import infer_schema
from difflm.records.relations.given import broken_given, completed, implied
from difflm.records.relations.keeping import Broken, Keeper
from difflm.records.relations.mining import mine_relations
from difflm.records.relations.model import Combinations, Lookup, Relations, Rule
from difflm.records.relations.rules import compile_rule
from difflm.records.relations.values import TableValues
from difflm.records.schema import Record
from difflm.testing.related import CITIES, faults, related_table

TRAIN = related_table(800)
SCHEMA = infer_schema(TRAIN)
SCHEMA = SCHEMA.model_copy(update={"relations": mine_relations(TRAIN, TRAIN, SCHEMA).relations})
KEEPER = Keeper(SCHEMA, SCHEMA.relations)
RECORD: Record = {
    "start": "2020-02-27",
    "end": "2019-01-01",
    "nights": 3,
    "n": 3,
    "unit": 1.1,
    "total": 77.0,
    "state": "Bavaria",
    "city": "Kassel",
    "low": 3,
    "high": 5,
}


def _kept(given: frozenset[str] = frozenset(), **changes: Any) -> Record | Broken:
    return KEEPER.keep({**RECORD, **changes}, given)


def test_functions_of_other_columns_are_computed() -> None:
    expected = {**RECORD, "end": "2020-03-01", "total": 3.3, "state": "Hesse"}
    assert _kept() == expected
    assert list(expected) == list(RECORD)
    assert set(KEEPER.derived) == {"end", "total", "state"}  # of three the column whose range is most forgiving


def test_what_cannot_be_computed_is_rejected_and_said() -> None:
    broken = _kept(low=6)
    assert isinstance(broken, Broken)
    assert broken.detail == "low <= high: low '6', high '5'"
    late = _kept(start=SCHEMA.field("start").maximum, nights=14)  # type: ignore[union-attr]
    assert isinstance(late, Broken)
    assert "no value that 'end' had in training" in late.detail


def test_given_cells_stay_and_others_are_solved_for() -> None:
    given = frozenset({"end", "total", "state"})
    kept = _kept(given, start="2020-02-27", end="2020-03-05", total=6.6, state="Bremen")
    assert isinstance(kept, dict)
    assert (kept["end"], kept["total"], kept["state"]) == ("2020-03-05", 6.6, "Bremen")
    assert kept["city"] == "Bremen"  # the only one of that state
    assert faults({name: str(value) for name, value in kept.items()}) == []
    several = _kept(given, start="2020-02-27", end="2020-03-05", total=6.6, state="Bavaria")
    assert isinstance(several, Broken)  # Kassel was drawn; which of two cities it is, is not known
    assert "determines(city, state)" in several.detail


def test_relations_among_given_cells_alone_are_not_looked_at() -> None:
    given = frozenset({"low", "high", "city", "state"})
    kept = _kept(given, low=9, high=5)
    assert isinstance(kept, dict)
    assert (kept["low"], kept["high"], kept["city"], kept["state"]) == (9, 5, "Kassel", "Bavaria")


def test_every_computed_record_is_one_of_the_schema() -> None:
    codec = JsonRecordCodec(SCHEMA)
    for record in codec.records_of(related_table(200, seed=7)):
        kept = KEEPER.keep(record)
        if isinstance(kept, dict):
            assert codec.decode(codec.encode(kept)).record == kept  # type: ignore[union-attr]


def test_relations_that_state_the_same_column_are_solved_for_others() -> None:
    table = pa.table({name: [*range(30)] * 2 for name in "abcd"})
    schema = infer_schema(table)
    rules = Relations(kept=(Rule(text="a == b"), Rule(text="a == c"), Rule(text="b == d")))
    kept = Keeper(schema, rules).keep({"a": 1, "b": 2, "c": 3, "d": 4})
    assert isinstance(kept, dict)
    assert len(set(kept.values())) == 1


def test_missing_values_come_together_where_they_did_in_training() -> None:
    table = pa.table({"one": [1, 2, None] * 20, "two": [1, 2, None] * 20})
    schema = infer_schema(table)
    together = Keeper(schema, Relations(kept=(Rule(text="two == one", missing_together=True),)))
    assert together.keep({"one": None, "two": 2}) == {"one": None, "two": None}
    assert together.keep({"one": 2, "two": None}) == {"one": 2, "two": 2}
    apart = Keeper(schema, Relations(kept=(Rule(text="two == one"),)))
    assert apart.keep({"one": 2, "two": None}) == {"one": 2, "two": None}


def test_combinations_are_kept_by_rejection() -> None:
    table = pa.table({"x": ["a", "b"] * 30, "y": ["u", "v", None] * 20})
    schema = infer_schema(table)
    keeper = Keeper(schema, Relations(kept=(Combinations(columns=("x", "y"), rows=(("a", "u"), ("b", "v"))),)))
    assert keeper.keep({"x": "a", "y": "u"}) == {"x": "a", "y": "u"}
    assert keeper.keep({"x": "a", "y": None}) == {"x": "a", "y": None}
    assert keeper.keep({"x": "a", "y": "v"}) == Broken("fixed(x, y): x 'a', y 'v'")


def test_booleans_follow_as_their_meaning() -> None:
    table = pa.table({"grade": ["a", "b", "c"] * 30, "passed": ["yes", "yes", "no"] * 30})
    schema = infer_schema(table)
    relations = mine_relations(table, table, schema).relations
    assert relations.kept == (
        Lookup(column="passed", sources=("grade",), rows=(("a", True), ("b", True), ("c", False))),
    )
    assert Keeper(schema, relations).keep({"grade": "c", "passed": True}) == {"grade": "c", "passed": False}


def test_cells_that_follow_from_given_ones_are_filled_in() -> None:
    codec = JsonRecordCodec(SCHEMA)
    whole = codec.normalize_table(related_table(6, seed=2)).table
    gaps = whole
    for place, column in enumerate(("end", "nights", "total", "state", "start", "n")):
        cells = gaps.column(column).to_pylist()
        cells[place] = None
        kind = whole.schema.field(column)
        gaps = gaps.set_column(SCHEMA.names.index(column), kind, pa.array(cells, kind.type))
    filled = completed(gaps, SCHEMA, SCHEMA.names)
    assert filled.drop_columns(["n"]).equals(whole.drop_columns(["n"]))
    assert filled.column("n").to_pylist() == whole.column("n").to_pylist()
    assert completed(gaps, SCHEMA, ["total"]).column("end").null_count == 1


def test_given_rows_that_break_a_relation_are_named() -> None:
    codec = JsonRecordCodec(SCHEMA)
    table = codec.normalize_table(related_table(5, seed=2)).table
    states = [None, "Bremen", "Bremen", "Bremen", "Bremen"]
    wrong = table.set_column(6, "state", pa.array(states, pa.string()))
    broken = sum(CITIES[city] != "Bremen" for city in table.column("city").to_pylist()[1:])
    (notice,) = broken_given(wrong, SCHEMA, name="gaps.csv")
    assert notice.count == broken
    told = f"determines(city, state) does not hold among the given cells of {broken} rows, the first is row "
    assert notice.message.startswith(f"gaps.csv: {told}")
    assert broken_given(table, SCHEMA, name="gaps.csv") == []


@pytest.mark.parametrize("column", ["city", "state"])
def test_conditions_are_carried_on(column: str) -> None:
    from difflm.synthesis.plans.conditions import parse_condition

    condition = parse_condition(f"{column} == 'Bremen' and end <= '2020-01-31' and low >= 900", SCHEMA)
    left = implied(condition.allowed, SCHEMA, SCHEMA.relations)
    assert set(left) == {"city", "state", "end", "start", "low", "high"}
    assert left["city"].codes.size == left["state"].codes.size == 1
    assert left["start"].codes.spans[-1][1] == left["end"].codes.spans[-1][1]
    assert left["high"].codes.spans[0][0] == 900


def test_nothing_is_said_of_words_and_numbers_in_a_dress_are_numbers() -> None:
    net = [f"{row},50 \u20ac" for row in range(40)] + ["n/d"] * 3
    gross = [f"{row + 1},50 \u20ac" for row in range(40)] + ["n/d", "3,50 \u20ac", "4,50 \u20ac"]
    table = pa.table({"net": net, "gross": gross})
    schema = infer_schema(table)
    rule = Rule(text="gross == net + 1")
    assert compile_rule(rule, schema).broken(TableValues(table, schema)).sum() == 0
    wrong = pa.table({"net": ["1,50 \u20ac", "n/d"], "gross": ["9,50 \u20ac", "9,50 \u20ac"]})
    assert compile_rule(rule, schema).broken(TableValues(wrong, schema)).tolist() == [True, False]
    keeper = Keeper(schema, Relations(kept=(rule,)))
    assert keeper.keep({"net": 3.5, "gross": 9.5}) in ({"net": 3.5, "gross": 4.5}, {"net": 8.5, "gross": 9.5})
    for record in ({"net": "n/d", "gross": 9.5}, {"net": 3.5, "gross": "n/d"}):
        assert keeper.keep(record) == record
    assert keeper.deduced({"net": "n/d", "gross": None}, ["gross"]) == {}
