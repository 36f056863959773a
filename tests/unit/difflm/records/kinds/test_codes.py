"""Codes: one whole number per value, in the order of the values, and nothing outside of its field's domain."""

import pyarrow as pa
import pytest

from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.codes import column_codes, value_code, whole_domain
from difflm.records.kinds.inference import infer_schema
from difflm.records.kinds.moments import parse_datetime
from difflm.records.schema import CodeField, DatetimeField, DecimalField, IdentifierField, IntegerField, TextField
from difflm.testing.tables import odd_tables

TABLES = odd_tables()


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_column_has_the_codes_of_its_values_inside_its_domain(name: str) -> None:
    codec = JsonRecordCodec(infer_schema(TABLES[name]))
    table = codec.normalize_table(TABLES[name]).table
    records = list(codec.records_of(table))
    for place, field in enumerate(codec.schema.fields):
        codes, whole = column_codes(field, table.column(place)), whole_domain(field)
        values = [record[field.name] for record in records]
        assert codes == [value_code(field, value) for value in values]
        assert all(whole.null if code is None else code in whole.codes for code in codes)
        pairs = {(code, value) for code, value in zip(codes, values, strict=True)}
        assert len(pairs) == len(set(codes)) or isinstance(
            field, TextField | DatetimeField | CodeField | IdentifierField
        )


def test_codes_have_the_order_of_numbers_and_dates() -> None:
    price = DecimalField(
        name="p", nullable=False, missing_share=0.0, minimum=-2.0, maximum=9.0, median=1.0, distinct=5, decimals=2
    )
    assert [value_code(price, value) for value in (-2.0, -0.01, 0.0, 8.99, 9.0)] == [-200, -1, 0, 899, 900]
    wild = price.model_copy(update={"minimum": 1e300, "maximum": 9e300, "exponent": 300})
    assert value_code(wild, 1.5e300) == 150
    day = DatetimeField(
        name="d", nullable=False, missing_share=0.0, format="%d.%m.%Y", minimum="31.12.1969", maximum="02.01.1970"
    )
    assert [value_code(day, text) for text in ("31.12.1969", "01.01.1970", "02.01.1970")] == [
        -86_400_000_000,
        0,
        86_400_000_000,
    ]
    assert parse_datetime("1.1.1970", day.format) is not None


def test_a_value_of_another_kind_is_named() -> None:
    age = IntegerField(name="age", nullable=False, missing_share=0.0, minimum=0, maximum=9, median=5, distinct=9)
    with pytest.raises(ValueError, match=r"'age' \(integer\) cannot hold 'old'"):
        value_code(age, "old")
    assert column_codes(age, pa.chunked_array([[1, None]])) == [1, None]
