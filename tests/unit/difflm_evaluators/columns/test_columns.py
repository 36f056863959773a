"""Columns are read as their schema kind asks, or refused by name."""

from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from difflm.errors import DataError
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema
from difflm_evaluators.columns.columns import category_codes, read_columns


def test_every_kind_is_read_with_its_missing_values(train: pa.Table, schema: RecordSchema) -> None:
    columns = read_columns(train, schema, "training")
    assert list(columns) == list(schema.names)
    assert {name: column.kind for name, column in columns.items()} == {
        "age": "numeric",
        "income": "numeric",
        "city": "category",
        "member": "category",
        "day": "numeric",
        "note": "text",
        "label": "category",
    }
    for name, column in columns.items():
        assert column.missing_N.sum() == train.column(name).null_count, name
        assert len(column.missing_N) == train.num_rows, name
    note = train.column("note")[7].as_py()
    assert columns["note"].numbers_N[7] == len(note)


def test_dictionaries_of_any_chunk_are_read_as_their_texts(train: pa.Table, schema: RecordSchema) -> None:
    def encoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
        if not pa.types.is_string(column.type):
            return column
        parts = [column.slice(0, 9).combine_chunks(), column.slice(9).combine_chunks()]
        return pa.chunked_array([part.dictionary_encode() for part in parts])

    in_dictionaries = pa.table({name: encoded(train.column(name)) for name in train.column_names})
    plain, read = (read_columns(table, schema, "training") for table in (train, in_dictionaries))
    for name, column in plain.items():
        assert list(read[name].labels_N) == list(column.labels_N), name
        np.testing.assert_array_equal(read[name].numbers_N, column.numbers_N)


def test_a_missing_value_may_stand_in_the_dictionary(schema: RecordSchema, train: pa.Table) -> None:
    values = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array([None, "x"]))
    table = train.slice(0, 3).set_column(train.column_names.index("note"), "note", values)
    note = read_columns(table, schema, "training")["note"]
    assert list(note.labels_N) == [None, "x", None]
    np.testing.assert_array_equal(note.numbers_N, [np.nan, 1, np.nan])


def test_dates_are_seconds_whatever_the_type() -> None:
    text = pa.table({"day": ["2020-01-01", "2020-01-02", None, "1969-12-31", "2020-03-01"] * 4})
    schema = infer_schema(text)
    assert schema.field("day").kind == "datetime"
    seconds = read_columns(text, schema, "training")["day"].numbers_N
    assert seconds[1] - seconds[0] == 86_400
    assert seconds[3] == -86_400
    assert np.isnan(seconds[2])
    for values in ([date(2020, 1, 2)], [datetime(2020, 1, 2)]):
        assert read_columns(pa.table({"day": values}), schema, "other")["day"].numbers_N[0] == seconds[1]
    with pytest.raises(DataError, match="other table, column 'day' has '2020-13-01'"):
        read_columns(pa.table({"day": ["2020-13-01"]}), schema, "other")
    wrong = ["2020-01-02", *(f"2020-01-{day}" for day in range(32, 60))]
    with pytest.raises(DataError, match="has '2020-01-32' in record 2, which"):
        read_columns(pa.table({"day": wrong}), schema, "other")
    with pytest.raises(DataError, match="column 'day' has type int64"):
        read_columns(pa.table({"day": [1]}), schema, "other")


def test_numbers_may_be_text_integers_or_decimals_but_not_words() -> None:
    schema = infer_schema(pa.table({"x": [1.5, 2.5, 3.25, 4.0]}))
    for values in (["1.5"], ["+1.5"], ["1.5e0"], [Decimal("1.5")], pa.array([1.5], pa.float32())):
        assert read_columns(pa.table({"x": values}), schema, "t")["x"].numbers_N.tolist() == [1.5]
    with pytest.raises(DataError, match=r"synthetic table, column 'x' should hold numbers.*the first 'many'"):
        read_columns(pa.table({"x": ["many"]}), schema, "synthetic")
    with pytest.raises(DataError, match="column 'x' has type bool"):
        read_columns(pa.table({"x": [True]}), schema, "synthetic")
    with pytest.raises(DataError, match="column 'x' has 1 infinite numbers"):
        read_columns(pa.table({"x": [float("inf")]}), schema, "synthetic")


def test_floats_in_a_category_column_are_refused_and_nan_counts_as_missing(schema: RecordSchema) -> None:
    with pytest.raises(DataError, match="column 'city' has type double but the schema says categorical"):
        read_columns(_with("city", [1.0], schema), schema, "synthetic")
    assert np.isnan(read_columns(_with("income", [float("nan")], schema), schema, "synthetic")["income"].numbers_N[0])


def _with(name: str, values: list[object], schema: RecordSchema) -> pa.Table:
    return pa.table({other: values if other == name else pa.array([None] * len(values)) for other in schema.names})


def test_booleans_match_the_sources_spelling(schema: RecordSchema) -> None:
    from_bool = read_columns(_with("member", [True, False, None], schema), schema, "t")["member"]
    from_text = read_columns(_with("member", ["TRUE", "false", None], schema), schema, "t")["member"]
    assert from_bool.labels_N == from_text.labels_N == ("TRUE", "FALSE", None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["city", "age"]), "lacks column 'age', 'city'"),
        (lambda t: t.append_column("extra", pa.array([0] * t.num_rows)), "has unknown column 'extra'"),
        (lambda t: t.append_column("age", t.column("age")), "repeats column 'age'"),
    ],
)
def test_other_column_sets_are_refused_by_name(train: pa.Table, schema: RecordSchema, change, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=message):
        read_columns(change(train), schema, "synthetic")


def test_the_order_of_columns_does_not_matter(train: pa.Table, schema: RecordSchema) -> None:
    turned = read_columns(train.select(list(reversed(train.column_names))), schema, "t")
    assert list(turned) == list(schema.names)
    assert turned["label"].labels_N == read_columns(train, schema, "t")["label"].labels_N


def test_constants_are_equal_whatever_the_number_type() -> None:
    schema = infer_schema(pa.table({"c": [7, 7, 7], "x": [1, 2, 3]}))
    assert schema.field("c").kind == "constant"
    for seven in (7, 7.0, "7"):
        labels = read_columns(pa.table({"c": [seven], "x": [1]}), schema, "t")["c"].labels_N
        assert labels == read_columns(pa.table({"c": [7], "x": [1]}), schema, "t")["c"].labels_N


def test_category_codes_number_by_first_appearance(schema: RecordSchema) -> None:
    first = read_columns(_with("city", ["Rome", None, "Rome"], schema), schema, "t")["city"]
    second = read_columns(_with("city", ["Oslo", "Rome"], schema), schema, "t")["city"]
    labels, (first_codes, second_codes) = category_codes(first, second)
    assert labels == ["Rome", None, "Oslo"]
    assert first_codes.tolist() == [0, 1, 0]
    assert second_codes.tolist() == [2, 0]
