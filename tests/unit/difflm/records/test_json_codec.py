"""The JSON codec: exact round trips for any table, counted rejections for any text."""

import json
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from difflm.errors import DataError, SchemaError
from difflm.records.codec import Accepted, Record, Rejected
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import IdentifierField, RecordSchema
from difflm.testing.tables import mixed_table, odd_tables

TABLES = odd_tables()


def codec_for(columns: Mapping[str, Sequence[str | None]]) -> JsonRecordCodec:
    return JsonRecordCodec(
        infer_schema(pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items()}))
    )


def assert_exact(table: pa.Table) -> None:
    """Everything that the codec promises about a table and its records, with and without the names of fields."""
    assert_exact_in(table, keyed=True)
    assert_exact_in(table, keyed=False)


def assert_exact_in(table: pa.Table, *, keyed: bool) -> None:
    schema = infer_schema(table)
    codec = JsonRecordCodec(schema, keyed=keyed)
    assert RecordSchema.from_json(schema.to_json()) == schema
    normalized = codec.normalize_table(table).table
    assert codec.normalize_table(normalized).notices == ()
    records = list(codec.records_of(normalized))
    texts = codec.encode_table(normalized)
    fixed, literals = codec.fixed_texts(), codec.value_literals(normalized)
    assert len(fixed) == len(schema.fields) + 1
    assert codec.table_of(records).equals(normalized)
    for row, (record, text) in enumerate(zip(records, texts, strict=True)):
        assert codec.encode(record) == text
        named = {field.name for field in schema.fields if isinstance(field, IdentifierField)}
        decoded = codec.decode(text)  # which row an identifier names is no part of a record's text
        assert isinstance(decoded, Accepted)
        assert all(decoded.record[name] == record[name] for name in schema.names if name not in named)
        assert "".join(segment.text for segment in codec.segments(record)) == text
        assert "".join(part + column[row] for part, column in zip(fixed, literals, strict=False)) + fixed[-1] == text
        assert "\n" not in text
        assert list(json.loads(text)) == list(schema.names) if keyed else len(json.loads(text)) == len(schema.names)


def test_values_alone_are_a_list_of_as_many() -> None:
    codec = JsonRecordCodec(codec_for({"age": ["39", "40", "41"], "city": ["a", "b", "a"]}).schema, keyed=False)
    assert codec.encode({"age": 39, "city": "a"}) == '[39, "a"]'
    assert codec.decode('[39, "a"]') == Accepted(record={"age": 39, "city": "a"})
    reasons = {}
    for text in ('{"age": 39, "city": "a"}', "[39]", '[39, "a", 1]', '["a", 39]', "[39, 4]", "[39, [1]]", "39"):
        rejected = codec.decode(text)
        assert isinstance(rejected, Rejected)
        reasons[text] = rejected.reason
    assert list(reasons.values()) == ["not_an_object", "keys", "keys", "type", "type", "type", "not_an_object"]


def test_literals_that_are_known_are_decoded_as_those_that_are_not() -> None:
    codec = codec_for({"age": ["39", "40", "41"], "city": ["a", "b", "a"], "label": ["true", "false", "true"]})
    text = '{"age": 39, "city": "a", "label": true}'
    assert codec.decode(text) == codec.decode(text) == JsonRecordCodec(codec.schema).decode(text)
    for wrong in (text.replace("39", "39.0"), text.replace('"a"', '"39"'), text.replace("true", "39")):
        assert codec.decode(wrong) == codec.decode(wrong) == JsonRecordCodec(codec.schema).decode(wrong)
        assert isinstance(codec.decode(wrong), Rejected)


@pytest.mark.parametrize("name", TABLES)
def test_odd_tables_go_in_and_come_back_exactly(name: str) -> None:
    assert_exact(TABLES[name])


CELLS = st.one_of(
    st.none(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.integers().map(str),
    st.floats().map(repr),
    st.floats(-1e6, 1e6).map(lambda value: f"{value:.3f}"),
    st.sampled_from(["TRUE", "FALSE", "007", "-0", "1e5", "2020-01-31", "null", "-", ".", "+", "1."]),
    st.dates().map(str),
)
COLUMNS = st.one_of(
    st.lists(CELLS, min_size=12, max_size=12),
    st.lists(st.floats().map(repr), min_size=12, max_size=12),
    st.lists(st.floats(allow_infinity=False, allow_nan=False, width=32).map(repr), min_size=12, max_size=12),
    st.lists(st.integers(-(2**63), 2**63 - 1).map(str), min_size=12, max_size=12),
    st.lists(st.decimals(-1000, 1000, places=4).map(str), min_size=12, max_size=12),
    st.lists(st.datetimes().map(str), min_size=12, max_size=12),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=12, max_size=12),
)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.dictionaries(NAMES, COLUMNS, min_size=1, max_size=4))
def test_any_table_of_text_comes_back_exactly(columns: dict[str, list[str | None]]) -> None:
    columns = {name: cells for name, cells in columns.items() if any(cell is not None for cell in cells)}
    if columns:
        assert_exact(pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items()}))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.floats(), min_size=2, max_size=30))
def test_any_doubles_keep_six_digits_of_their_spread(values: list[float]) -> None:
    finite = [value for value in values if abs(value) < float("inf")]
    if not finite:
        return
    table = pa.table({"x": pa.array(values, pa.float64())})
    codec = JsonRecordCodec(infer_schema(table))
    kept = [record["x"] for record in codec.records_of(table)]
    spread = max(finite) / 2 - min(finite) / 2
    for value, back in zip(values, kept, strict=True):
        if abs(value) < float("inf"):
            assert isinstance(back, float)
            assert abs(back / 2 - value / 2) <= max(spread * 5e-6, abs(value) * (1e-14 if spread else 1e-8))
        else:
            assert back is None


def test_the_line_is_the_documented_one() -> None:
    codec = codec_for(
        {
            "age": ["39", "40"],
            "workclass": ["State-gov", "Private"],
            "x": ["1.50", "2.25"],
            "b": ["yes", "no"],
            "t": [None, "3"],
        }
    )
    record = next(
        codec.records_of(codec.table_of([{"age": 39, "workclass": "Private", "x": 1.5, "b": True, "t": None}]))
    )
    assert codec.encode(record) == '{"age": 39, "workclass": "Private", "x": 1.50, "b": true, "t": null}'


DECODER = codec_for(
    {
        "n": [str(value) for value in range(10)],
        "d": [f"{value}.25" for value in range(10)],
        "c": ["a", "b"] * 5,
        "b": ["TRUE", "FALSE"] * 5,
        "t": [f"2020-01-0{value}" for value in range(1, 6)] * 2,
        "f": [f"text {value}" for value in range(10)],
        "k": ["7"] * 10,
        "m": ["1", None] * 5,
    }
)
GOOD = '{"n": 3, "d": 1.25, "c": "a", "b": true, "t": "2020-01-03", "f": "ok", "k": 7, "m": null}'


@pytest.mark.parametrize(
    ("old", "new", "reason", "field"),
    [
        ("}", "", "not_json", None),
        ("}", "} x", "not_json", None),
        (GOOD, "", "not_json", None),
        (GOOD, "[" * 100_000, "not_json", None),
        (GOOD, "[1]", "not_an_object", None),
        (GOOD, "null", "not_an_object", None),
        ('"n": 3, ', "", "keys", None),
        ('"n": 3', '"n": 3, "n": 3', "keys", None),
        ("}", ', "z": 1}', "keys", None),
        ('"n": 3, "d": 1.25', '"d": 1.25, "n": 3', "keys", None),
        ("3,", '"3",', "type", "n"),
        ("3,", "3.0,", "type", "n"),
        ("3,", "true,", "type", "n"),
        ("3,", "-0,", "type", "n"),
        ("3,", "9" * 5000 + ",", "type", "n"),
        ("3,", "10,", "range", "n"),
        ("3,", "null,", "missing", "n"),
        ("3,", "NaN,", "not_json", None),
        ("1.25", "1.2", "decimals", "d"),
        ("1.25", "1.250", "decimals", "d"),
        ("1.25", "9.26", "range", "d"),
        ("1.25", "1e999", "range", "d"),
        ("1.25", '"1.25"', "type", "d"),
        ('"a"', '"z"', "category", "c"),
        ('"a"', "1", "type", "c"),
        ("true", '"TRUE"', "type", "b"),
        ("true", "1", "type", "b"),
        ("2020-01-03", "2020-02-30", "datetime", "t"),
        ("2020-01-03", "2021-01-01", "range", "t"),
        ('"2020-01-03"', "3", "type", "t"),
        ('"ok"', json.dumps("x" * 7), "length", "f"),
        ('"ok"', '"\\ud800"', "type", "f"),
        ('"ok"', "{}", "type", "f"),
        ("7", "8", "constant", "k"),
        ("7", "true", "constant", "k"),
        ("7", '"7"', "constant", "k"),
        ("7", "7.0", "constant", "k"),
    ],
)
def test_rejections_have_a_reason_and_a_field(old: str, new: str, reason: str, field: str | None) -> None:
    assert isinstance(DECODER.decode(GOOD), Accepted)
    decoded = DECODER.decode(GOOD.replace(old, new, 1))
    assert isinstance(decoded, Rejected)
    assert (decoded.reason, decoded.field) == (reason, field)
    assert decoded.detail
    assert len(decoded.detail) < 300


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.text()
    | st.integers(0, len(GOOD)).flatmap(lambda cut: st.text().map(lambda text: GOOD[:cut] + text + GOOD[cut:]))
)
def test_decoding_never_raises(text: str) -> None:
    assert isinstance(DECODER.decode(text), Accepted | Rejected)


def test_white_space_and_escapes_do_not_matter() -> None:
    codec = codec_for({"name": ["é", "b"] * 5, "n": ["1", "2"] * 5})
    assert codec.decode(' {"name":"\\u00e9" ,\n"n":1 }\n') == Accepted(record={"name": "é", "n": 1})


def test_normalising_reports_what_it_changes() -> None:
    record: Record = {"n": 99, "d": 3.2517, "c": "new", "b": True, "t": "1999-01-01", "f": "x" * 9, "k": 8, "m": 1}
    normalized = DECODER.normalize(record)
    assert normalized.record == {
        "n": 9, "d": 3.25, "c": "a", "b": True, "t": "2020-01-01", "f": "x" * 6, "k": 7, "m": 1
    }  # fmt: skip
    reasons = {notice.column: notice.code for notice in normalized.notices}
    assert reasons == {"n": "range", "c": "category", "t": "range", "f": "length", "k": "category"}
    assert isinstance(DECODER.decode(DECODER.encode(normalized.record)), Accepted)


def test_values_outside_of_training_are_encoded_as_they_are() -> None:
    record: Record = {"n": 99, "d": 77.0, "c": "new", "b": None, "t": "1999-01-01", "f": "x" * 9, "k": 8, "m": None}
    text = '{"n": 99, "d": 77.00, "c": "new", "b": null, "t": "1999-01-01", "f": "xxxxxxxxx", "k": 8, "m": null}'
    assert DECODER.encode(record) == text
    assert list(DECODER.records_of(DECODER.table_of([record]))) == [record]


def test_missing_where_training_has_none_is_filled_and_reported() -> None:
    record: Record = dict.fromkeys(DECODER.schema.names)
    normalized = DECODER.normalize(record)
    assert normalized.record == {
        "n": 4, "d": 4.25, "c": "a", "b": True, "t": "2020-01-01", "f": "", "k": 7, "m": None
    }  # fmt: skip
    assert {notice.code for notice in normalized.notices} == {"missing"}


def test_wrong_records_name_the_column() -> None:
    good: Record = {"n": 3, "d": 1.25, "c": "a", "b": True, "t": "2020-01-03", "f": "ok", "k": 7, "m": None}
    with pytest.raises(SchemaError, match=r"column 'n' \(integer\) cannot hold 'three'"):
        DECODER.encode({**good, "n": "three"})
    with pytest.raises(SchemaError, match="record has the keys"):
        DECODER.encode({"n": 3})
    with pytest.raises(DataError, match=r"record 1, column 'd' \(decimal\): cannot hold 'nan'"):
        DECODER.table_of([good, {**good, "d": float("nan")}])
    with pytest.raises(DataError, match="record 0, column 'n'"):
        DECODER.table_of([{**good, "n": 2**63}])


def test_tables_keep_the_spelling_of_booleans_and_the_types() -> None:
    table = mixed_table(50)
    codec = JsonRecordCodec(infer_schema(table, target="label"))
    back = codec.table_of(codec.records_of(table))
    for name in ("member", "label", "city", "day", "note", "unit"):
        assert back.column(name).to_pylist() == table.column(name).to_pylist()
    assert back.schema.field("age").type == pa.int64()
    assert back.schema.field("wage").type == pa.float64()
    assert [f"{wage:.2f}" for wage in back.column("wage").to_pylist()] == table.column("wage").to_pylist()


def test_text_in_a_number_column_is_missing_and_reported() -> None:
    normalized = DECODER.normalize_table(pa.table({name: pa.array(["3", "many"]) for name in DECODER.schema.names}))
    notice = next(notice for notice in normalized.notices if notice.column == "m")
    assert (notice.code, notice.count) == ("unreadable", 1)
    assert "row 1 has 'many'" in notice.message
    assert normalized.table.column("m").to_pylist() == [1, None]


def test_a_lacking_column_is_named() -> None:
    with pytest.raises(DataError, match="no column 'd'; it has 'n'"):
        DECODER.value_literals(pa.table({"n": ["1"]}))


def test_no_rows_are_no_problem() -> None:
    empty = DECODER.table_of([])
    assert empty.num_rows == 0
    assert DECODER.encode_table(empty) == []
    assert DECODER.normalize_table(empty).table.equals(empty)
    assert list(DECODER.records_of(empty)) == []


def test_a_column_of_many_chunks_is_one_column() -> None:
    table = pa.concat_tables([mixed_table(7, seed=seed) for seed in range(5)])
    codec = JsonRecordCodec(infer_schema(table))
    assert codec.encode_table(table) == codec.encode_table(table.combine_chunks())
