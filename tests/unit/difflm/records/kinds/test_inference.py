"""Inference: what each kind of column is taken for, and what is said about it."""

import datetime

import numpy as np
import pyarrow as pa
import pytest

from difflm.errors import DataError, SchemaError
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import (
    BooleanField,
    CategoricalField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Field,
    IntegerField,
    RecordSchema,
    SchemaConfig,
    TextField,
)
from difflm.testing.tables import mixed_table, odd_tables


def field_of(cells: list[str | None], **config: object) -> Field:
    table = pa.table({"x": pa.array(cells, pa.string())})
    return infer_schema(table, config=SchemaConfig.model_validate(config)).fields[0]


def codes(schema: RecordSchema) -> set[tuple[str | None, str]]:
    return {(notice.column, notice.code) for notice in schema.notices}


def test_integers() -> None:
    field = field_of(["5", "-3", None, "12"])
    assert isinstance(field, IntegerField)
    assert (field.minimum, field.maximum, field.median, field.distinct) == (-3, 12, 5, 3)
    assert (field.nullable, field.missing_share) == (True, 0.25)


def test_few_integers_stay_integers() -> None:
    assert isinstance(field_of(["0", "1"] * 100), IntegerField)


def test_integers_beyond_53_bits_stay_exact() -> None:
    field = field_of([str(2**53), str(2**53 + 1)])
    assert isinstance(field, IntegerField)
    assert field.maximum == 2**53 + 1


@pytest.mark.parametrize("cells", [["007", "123"], ["1,234", "5"], ["12%", "7%"], ["1.2.3", "1.3.0"], ["1", "x"]])
def test_codes_stay_text(cells: list[str | None]) -> None:
    assert isinstance(field_of(cells * 10), CategoricalField)


def test_codes_of_digits_can_be_kept_text_by_configuration() -> None:
    assert isinstance(field_of(["10", "20"] * 9, kinds={"x": "categorical"}), CategoricalField)
    assert isinstance(field_of(["10", "20"] * 9, kinds={"x": "text"}), TextField)


def test_decimals_are_those_of_the_source() -> None:
    field = field_of(["1.50", "-2.25", "3.00"])
    assert isinstance(field, DecimalField)
    assert (field.decimals, field.exponent, field.minimum, field.maximum) == (2, 0, -2.25, 3.0)


def test_long_decimals_are_rounded_and_reported() -> None:
    values = np.random.default_rng(0).normal(0, 1, 500)
    schema = infer_schema(pa.table({"x": values}))
    field = schema.field("x")
    assert isinstance(field, DecimalField)
    assert field.decimals == 5
    assert codes(schema) == {("x", "rounded")}


def test_long_decimals_that_many_rows_share_are_kept() -> None:
    rates = [f"{1 / number:.9f}" for number in (3, 6, 7, 9, 11, 12, 13, 14, 15, 17, 18, 19)]
    generator = np.random.default_rng(0)
    shared = [rates[place] for place in generator.integers(0, len(rates), 500)]
    smooth = [f"{value:.9f}" for value in generator.random(500) / 20]
    field = field_of([*shared, *smooth])
    assert isinstance(field, DecimalField)
    assert field.decimals == 9
    alone = field_of(smooth)
    assert isinstance(alone, DecimalField)
    assert alone.decimals == 7


def test_a_few_long_decimals_do_not_lengthen_every_row() -> None:
    cells = [str(value % 40) for value in range(4000)]
    cells[17] = "3.1234567"
    schema = infer_schema(pa.table({"x": cells}))
    field = schema.field("x")
    assert isinstance(field, DecimalField)
    assert field.decimals == 0
    assert [(notice.code, notice.count) for notice in schema.notices] == [("rounded", 1)]
    exact = field_of([*cells], rounded_share=0.0)
    assert isinstance(exact, DecimalField)
    assert exact.decimals == 7


def test_max_decimals_is_a_limit() -> None:
    field = field_of(["1.2345", "2.3456"], max_decimals=2)
    assert isinstance(field, DecimalField)
    assert (field.decimals, field.minimum, field.maximum) == (2, 1.23, 2.35)


def test_infinities_are_missing_and_reported() -> None:
    schema = infer_schema(pa.table({"x": ["1.5", "inf", "-Infinity", "2.5", "1e999"]}))
    field = schema.field("x")
    assert isinstance(field, DecimalField)
    assert (field.nullable, field.missing_share, field.maximum) == (True, 0.6, 2.5)
    assert ("x", "not_finite") in codes(schema)


@pytest.mark.parametrize(
    ("true", "false"), [("TRUE", "FALSE"), ("yes", "no"), ("T", "F"), ("y", "n"), ("On", "Off"), ("true", "false")]
)
def test_booleans_keep_their_spelling(true: str, false: str) -> None:
    for cells in ([true, false, false, None], [false, true, false, None]):
        field = field_of(list(cells))
        assert isinstance(field, BooleanField)
        assert (field.true_text, field.false_text, field.counts, field.nullable) == (true, false, (1, 2), True)


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ("2020-01-31", "%Y-%m-%d"), ("31/01/2020", "%d/%m/%Y"), ("1/31/2020", "%m/%d/%Y"), ("31.01.2020", "%d.%m.%Y"),
        ("2020-01-31 23:59:59", "%Y-%m-%d %H:%M:%S"), ("2020-01-31T23:59:59Z", "%Y-%m-%dT%H:%M:%SZ"),
        ("2020-01-31T23:59:59.123+01:00", "%Y-%m-%dT%H:%M:%S.%f%z"), ("31-Jan-2020", "%d-%b-%Y"), ("23:59", "%H:%M"),
        ("Jan 31, 2020", "%b %d, %Y"), ("1/31/2020 11:59 PM", "%m/%d/%Y %I:%M %p"),
    ],
)  # fmt: skip
def test_dates_in_common_formats(text: str, format: str) -> None:
    field = field_of([text, text.replace("31", "30"), text.replace("59", "58"), None])
    assert isinstance(field, DatetimeField)
    assert field.format == format


@pytest.mark.parametrize(
    ("texts", "padded", "bare"),
    [
        (["2020-01-31 08:05", "2020-11-12 10:10", "2020-12-09 10:00"], "mdHM", ""),
        (["1/5/2020 8:05 PM", "11/30/2020 10:10 AM", "9/9/2021 9:01 PM"], "M", "mdI"),
        (["1/05/2020", "01/15/2020", "11/12/2020"], "d", ""),  # months both ways
        (["10/11/2020", "12/12/2020", "11/30/2021"], "md", ""),  # nothing below ten
        (["2020-01-31 08:30", "2020-11-12 10:30", "2020-12-09 10:30"], "mdHM", ""),  # no minute below ten
        (["1/15/2020 8:30", "3/15/2020 10:30", "11/15/2020 9:30"], "M", "mdH"),
        (["8:05:30", "10:10:09", "9:00:00"], "MS", "H"),
    ],
)
def test_how_dates_write_numbers_below_ten(texts: list[str], padded: str, bare: str) -> None:
    field = field_of(texts)
    assert isinstance(field, DatetimeField)
    assert (field.padded, field.bare) == (padded, bare)
    assert DatetimeField.model_validate_json(field.model_dump_json()) == field


def test_date_bounds_are_by_time_not_by_text() -> None:
    field = field_of(["9/1/2020", "10/1/2019", "12/30/2018"])
    assert isinstance(field, DatetimeField)
    assert (field.minimum, field.maximum) == ("12/30/2018", "9/1/2020")


def test_typed_dates_become_their_iso_text() -> None:
    day, moment = datetime.date(2020, 1, 31), datetime.datetime(2020, 1, 31, 5, 6, 7)
    table = pa.table(
        {
            "day": pa.array([day, None, datetime.date(2019, 1, 1)]),
            "midnight": pa.array(
                [datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 2), None], pa.timestamp("ns")
            ),
            "moment": pa.array([moment, None, moment.replace(second=9)], pa.timestamp("ns")),
        }
    )
    formats = [field.format for field in infer_schema(table).fields if isinstance(field, DatetimeField)]
    assert formats == ["%Y-%m-%d", "%Y-%m-%d", "%Y-%m-%d %H:%M:%S"]


def test_many_countries_are_categories_most_frequent_first() -> None:
    cells = [f"country {min(index % 142, index % 71)}" for index in range(1700)]
    field = field_of(list(cells))
    assert isinstance(field, CategoricalField)
    assert field.counts == tuple(sorted(field.counts, reverse=True))
    assert sum(field.counts) == 1700


def test_different_texts_are_free_text_with_their_length() -> None:
    schema = infer_schema(pa.table({"x": [f"note number {index}" + "é" * (index % 7) for index in range(100)]}))
    field = schema.field("x")
    assert isinstance(field, TextField)
    assert field.max_characters == 14 + 6
    assert codes(schema) == {("x", "identifier")}


@pytest.mark.parametrize(("text", "one_line"), [("tab\tor break", False), ("a\nb", False), ("é \\n ÿ", True)])
def test_whether_text_has_control_characters(text: str, one_line: bool) -> None:
    field = field_of(["one", "two", text, None], kinds={"x": "text"})
    assert isinstance(field, TextField)
    assert field.one_line is one_line


def test_a_name_is_never_empty_where_no_training_value_is() -> None:
    for kind, values, expected in (("name", ["a", "b"], True), ("name", ["", "b"], False), ("text", ["a", "b"], False)):
        field = field_of([*values], kinds={"x": kind})
        assert isinstance(field, TextField)
        assert field.not_empty is expected
        assert ("not_empty" in field.model_dump()) is expected


def test_texts_above_the_cap_are_counted_not_cut() -> None:
    table = pa.table({"x": [f"{index}" + "y" * (index * 10) for index in range(30)]})
    schema = infer_schema(table, config=SchemaConfig(text_max_characters=100))
    assert schema.field("x") == schema.fields[0]
    assert getattr(schema.fields[0], "max_characters", None) == 100
    assert [notice.count for notice in schema.notices if notice.code == "long_text"] == [20]


@pytest.mark.parametrize(
    ("cell", "value"), [("5", 5), ("1.5", 1.5), ("1.50", "1.50"), ("TRUE", "TRUE"), ("007", "007"), ("kg", "kg")]
)
def test_constants(cell: str, value: object) -> None:
    assert field_of([cell] * 5) == ConstantField(name="x", value=value)  # type: ignore[arg-type]
    assert not isinstance(field_of([cell, None, cell]), ConstantField)


def test_a_column_without_values_is_an_error_naming_it_or_dropped_by_configuration() -> None:
    table = pa.table({"x": ["1", "2"], "empty": pa.array([None, None], pa.string())})
    with pytest.raises(DataError, match="column 'empty' has no value in 2 training rows; drop it"):
        infer_schema(table)
    schema = infer_schema(table, config=SchemaConfig(drop_all_missing=True))
    assert schema.names == ("x",)
    assert codes(schema) == {("empty", "dropped")}


@pytest.mark.parametrize(
    ("target", "task"),
    [("label", "classification"), ("city", "classification"), ("wage", "regression"), ("age", "regression")],
)
def test_the_task_follows_from_the_target(target: str, task: str) -> None:
    assert infer_schema(mixed_table(200), target=target).task == task


@pytest.mark.parametrize("target", ["note", "unit", "day", "nowhere"])
def test_unusable_targets_are_errors(target: str) -> None:
    with pytest.raises(DataError, match=target):
        infer_schema(mixed_table(200), target=target)


def test_regression_on_a_class_is_an_error() -> None:
    with pytest.raises(SchemaError, match="task is regression"):
        infer_schema(mixed_table(50), target="label", config=SchemaConfig(task="regression"))


def test_empty_tables_are_errors() -> None:
    with pytest.raises(DataError, match="0 rows"):
        infer_schema(pa.table({"x": pa.array([], pa.string())}))


def test_the_schema_says_its_format_version() -> None:
    schema = infer_schema(mixed_table(60), target="label")
    text = schema.to_json()
    assert RecordSchema.from_json(text) == schema
    with pytest.raises(SchemaError, match=r"schema\.json: format_version is 2, this version reads 1"):
        RecordSchema.from_json(text.replace('"format_version": 1', '"format_version": 2'), source="schema.json")
    with pytest.raises(SchemaError, match="not a schema in JSON"):
        RecordSchema.from_json(text[:40])
    with pytest.raises(SchemaError, match="row_count"):
        RecordSchema.from_json(text.replace('"row_count": 60', '"row_count": "60"'))
    with pytest.raises(SchemaError, match="no column 'x'; it has 'age'"):
        schema.field("x")


def test_inference_does_not_depend_on_the_order_of_rows() -> None:
    for table in odd_tables().values():
        backwards = table.take(list(range(table.num_rows))[::-1])
        assert infer_schema(backwards).fields == infer_schema(table).fields
