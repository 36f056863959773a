"""Given records: nothing that was given is changed or left out in silence."""

import pyarrow as pa
import pytest

from difflm.errors import DataError
from difflm.records.kinds.inference import infer_schema
from difflm.records.protection.settings import Protected
from difflm.records.schema import IntegerField, RecordSchema
from difflm.synthesis.plans.kept_cells import kept_cells
from difflm.synthesis.plans.request import nearest_table, table_with_gaps
from difflm.testing.tables import mixed_table


@pytest.fixture(scope="module")
def schema() -> RecordSchema:
    return infer_schema(mixed_table(200), target="label")


def _with(table: pa.Table, column: str, values: list[str | None]) -> pa.Table:
    place = table.schema.get_field_index(column)
    return table.set_column(place, column, pa.array(values, pa.string()))


def test_gaps_may_stand_anywhere_and_the_rest_stays(schema: RecordSchema) -> None:
    table = mixed_table(200).slice(0, 3)
    gaps = _with(_with(table, "age", ["41", None, "52"]), "label", [None, "yes", "no"])
    checked = table_with_gaps(gaps, schema, name="gaps.csv")
    assert checked.column("age").to_pylist() == [41, None, 52]
    assert checked.column("label").to_pylist() == [None, "yes", "no"]
    assert checked.column("note").to_pylist() == table.column("note").to_pylist()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("age", "400", r"gaps.csv: row 1, column 'age': '400' is nothing that the bundle can write \(training has 1"),
        ("age", "old", "row 1, column 'age': 'old' is nothing"),
        ("wage", "-5.00", "row 1, column 'wage': '-5.00' is nothing"),
        ("city", "Paris", "row 1, column 'city': 'Paris' is nothing .*'Lyon'.*; correct it, or empty the cell"),
        ("day", "1990-01-01", "row 1, column 'day': '1990-01-01' is nothing"),
        ("day", "soon", "row 1, column 'day': 'soon' is nothing"),
        ("member", "perhaps", "row 1, column 'member': 'perhaps' is nothing .*true and false"),
        ("unit", "g", r"row 1, column 'unit': 'g' is nothing .*always 'kg'"),
        ("note", "x" * 500, "row 1, column 'note': 'xxx"),
    ],
)
def test_a_cell_that_training_never_saw_is_named(schema: RecordSchema, column: str, value: str, message: str) -> None:
    table = mixed_table(200).slice(0, 3)
    kept = table.column(column).to_pylist()
    with pytest.raises(DataError, match=message):
        table_with_gaps(_with(table, column, [kept[0], value, kept[2]]), schema, name="gaps.csv")


def test_other_columns_are_named(schema: RecordSchema) -> None:
    table = mixed_table(200).slice(0, 3)
    with pytest.raises(DataError, match=r"gaps.csv: no column 'wage'; the bundle has 'age', 'wage'"):
        table_with_gaps(table.drop_columns(["wage"]), schema, name="gaps.csv")
    more = table.append_column("id", pa.array(["1", "2", "3"]))
    with pytest.raises(DataError, match=r"gaps.csv: the bundle knows no column 'id'; leave it out"):
        table_with_gaps(more, schema, name="gaps.csv")
    assert nearest_table(more, schema, name="like.csv").table.column_names == table.column_names
    with pytest.raises(DataError, match=r"like.csv: no column 'city'"):
        nearest_table(table.drop_columns(["city"]), schema, name="like.csv")


def test_records_to_vary_are_brought_near_and_that_is_told(schema: RecordSchema) -> None:
    table = _with(mixed_table(200).slice(0, 3), "age", ["400", "41", None])
    nearest = nearest_table(table, schema, name="like.csv")
    assert max(nearest.table.column("age").to_pylist()) <= 89
    assert {(notice.column, notice.code) for notice in nearest.notices} == {("age", "range"), ("age", "missing")}


def test_what_protection_hides_is_taken_for_its_nearest_and_stays_as_it_is(schema: RecordSchema) -> None:
    protected = schema.model_copy(update={"protected": Protected(threshold=8, unprotected=("wage",))})
    table = mixed_table(200).slice(0, 3)
    ages, cities = table.column("age").to_pylist(), table.column("city").to_pylist()
    given = _with(_with(table, "age", [ages[0], "400", None]), "city", [cities[0], "Paris", cities[2]])
    checked = table_with_gaps(given, protected, name="gaps.csv")
    field = protected.field("age")
    assert isinstance(field, IntegerField)
    assert checked.column("age").to_pylist()[1:] == [field.maximum, None]
    assert checked.column("city").to_pylist()[1] != "Paris"
    kept = kept_cells(given, protected)
    assert kept.column("age").to_pylist()[1] in (400, "400")
    assert kept.column("city").to_pylist()[1] == "Paris"
    with pytest.raises(DataError, match=r"row 1, column 'wage': '-5\.00' is nothing"):
        table_with_gaps(_with(table, "wage", ["9.00", "-5.00", "12.00"]), protected, name="gaps.csv")
    with pytest.raises(DataError, match="row 1, column 'age': 'old' is nothing"):
        table_with_gaps(_with(table, "age", ["41", "old", "42"]), protected, name="gaps.csv")
