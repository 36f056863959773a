"""The law of a kind: what was read is what is written, cell by cell, for the columns that people have."""

import datetime as dt
import io
import json
import re
import string
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difflm.artifacts.formats import encode_table
from difflm.errors import DataError
from difflm.records.codec import Accepted, Rejected
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.codes_of_form import identifier
from difflm.records.kinds.inference import infer_schema
from difflm.records.kinds.literals import decimal_literal
from difflm.records.schema import (
    CategoricalField,
    CodeField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Field,
    IdentifierField,
    IntegerField,
    RecordSchema,
    SchemaConfig,
    TextField,
)

RANDOM = np.random.default_rng(5)


def schema_of(cells: list[str | None], **config: object) -> RecordSchema:
    table = pa.table({"x": pa.array(cells, pa.string())})
    return infer_schema(table, config=SchemaConfig.model_validate(config))


def field_of(cells: list[str | None], **config: object) -> Field:
    return schema_of(cells, **config).fields[0]


def written(cells: list[str | None], schema: RecordSchema) -> list[str]:
    """The cells as a text file has them, once they have been records and have been read from their text again."""
    import csv

    codec = JsonRecordCodec(schema)
    table = codec.normalize_table(pa.table({"x": pa.array(cells, pa.string())})).table
    records = []
    for line in codec.encode_table(table):
        decoded = codec.decode(line)
        assert isinstance(decoded, Accepted), (line, decoded)
        records.append(decoded.record)
    made = encode_table(codec.table_of(records), "csv").decode()
    return [row[0] if row else "" for row in list(csv.reader(io.StringIO(made, newline="")))[1:]]


def numbers(count: int = 60) -> list[float]:
    return [round(float(value), 2) for value in RANDOM.lognormal(6, 2, count)]


SMALL = [0.2, 0.0, 0.05, 0.0001, 0.00012, *(round(n % 1, 6) for n in numbers()), *(n * 1e-8 for n in (750, 9, 123))]


def in_e(size: float, letter: str, *, width: int = 2, pointed: bool = False) -> str:
    digits, _, power = np.format_float_scientific(size, trim="0" if pointed else "-", exp_digits=1).partition("e")
    return f"{digits}{letter}{power[0].replace('+', '')}{power[1:].zfill(width)}"


def excel(size: float) -> str:
    return f"{size:.2E}" if 0 < size < 1e-4 else np.format_float_positional(size, trim="-")


def java(size: float) -> str:
    return in_e(size, "E", width=1, pointed=True) if 0 < size < 1e-3 else repr(size)


def script(size: float) -> str:
    return in_e(size, "e", width=1) if 0 < size < 1e-6 else np.format_float_positional(size, trim="-")


def statistics(size: float) -> str:
    """As R writes numbers: in E notation where that is shorter."""
    return min(np.format_float_positional(size, trim="-"), in_e(size, "e"), key=len) if size else "0"


def lakh(number: int) -> str:
    """As India groups digits."""
    return re.sub(r"(?<=\d)(?=(?:\d\d)*\d{3}$)", ",", str(number))


def spans(number: int) -> str:
    """As pandas writes spans, those below zero too."""
    days = number % 5 - 1
    return f"{days} days {'+' if days < 0 else ''}{number % 24:02d}:04:59"


def days(form: str) -> list[str]:
    first = np.datetime64("2019-03-01T08:05:09")
    moments = [(first + int(step) * 7919).item() for step in RANDOM.integers(0, 20_000, 80)]
    return [moment.strftime(form) for moment in moments]


COLUMNS: dict[str, tuple[list[str], type]] = {
    "fixed places": ([f"{n:.2f}" for n in numbers()], DecimalField),
    "shortest": ([repr(n) for n in numbers()], DecimalField),
    "no fraction of zero": ([f"{n:.15g}" for n in [*numbers(), 3.0, 25.0]], DecimalField),
    "whole with places": ([f"{n:.0f}.00" for n in numbers()], DecimalField),
    "Excel's exponents": (["0.25", "8.08E-05", "0", "9.5E-05", *[f"{n % 1:.2g}" for n in numbers()]], DecimalField),
    "Excel's two places": ([excel(n) for n in SMALL], DecimalField),
    "Excel's, in German": ([excel(n).replace(".", ",") for n in SMALL], DecimalField),
    "R's exponents": ([statistics(n) for n in SMALL], DecimalField),
    "Java's exponents": ([java(n) for n in SMALL], DecimalField),
    "JavaScript's exponents": ([script(n) for n in SMALL], DecimalField),
    "Python's exponents": ([repr(n) for n in SMALL], DecimalField),
    "always an exponent": ([f"{n:.6e}" for n in SMALL], DecimalField),
    "currency": ([f"${n:,.2f}" for n in numbers()], DecimalField),
    "currency behind": ([f"{n:,.2f} €".replace(",", " ").replace(".", ",") for n in numbers()], DecimalField),
    "currency code": ([f"CHF {n:,.2f}".replace(",", "'") for n in numbers()], DecimalField),
    "percent": ([f"{n % 100:.1f}%" for n in numbers()], DecimalField),
    "unit": ([f"{n:.0f} kg" for n in numbers()], IntegerField),
    "accounting": ([f"({n:,.2f})" if n > 300 else f"{n:,.2f}" for n in numbers()], DecimalField),
    "thousands": ([f"{n * 100:,.0f}" for n in numbers()], IntegerField),
    "decimal comma": ([f"{n:.2f}".replace(".", ",") for n in numbers()], DecimalField),
    "minus behind": ([f"{n:.2f}-" if n > 300 else f"{n:.2f}" for n in numbers()], DecimalField),
    "true minus": ([f"\u2212{n:.1f}" if n > 300 else f"{n:.1f}" for n in numbers()], DecimalField),
    "explicit plus": ([f"{n - 300:+.1f}" for n in numbers()], DecimalField),
    "bare point": ([f"{n % 1:.2f}"[1:] for n in numbers()], DecimalField),
    "censored": (["<0.5", "<0.5", *[f"{n % 50 + 1:.1f}" for n in numbers()]], DecimalField),
    "words": (["n/d", "n/d", "trace", *[f"{n:.0f}" for n in numbers()]], IntegerField),
    "sentinels": (["-999"] * 3 + [str(int(n) % 90) for n in numbers()], IntegerField),
    "hours above a day": ([f"{int(n) % 60:02d}:{int(n) % 53:02d}:07" for n in numbers()], IntegerField),
    "compact days": (days("%Y%m%d"), DatetimeField),
    "compact days, day first": (days("%d%m%Y"), DatetimeField),
    "compact months": (days("%Y%m"), DatetimeField),
    "days and months changed over": (days("%Y-%d-%m"), DatetimeField),
    "two forms": ([*days("%d/%m/%Y"), *days("%Y-%m-%d")], DatetimeField),
    "zones": ([f"{day}{zone}" for zone in ("-05:00", "+05:30") for day in days("%Y-%m-%dT%H:%M:00")], DatetimeField),
    "offsets of PostgreSQL": ([f"{day}{zone}" for zone in ("-05", "+02") for day in days("%Y-%m-%d %H:%M:%S")],
                              DatetimeField),
    "browsers' dates": (days("%d.%m.%Y, %H:%M:%S"), DatetimeField),
    "fractions of zero": (days("%Y-%m-%d %H:%M:%S.000000+00:00"), DatetimeField),
    "open end": (["9999-12-31"] * 5 + days("%Y-%m-%d"), DatetimeField),
    "dates and a word": (["unknown"] * 2 + days("%Y-%m-%d"), DatetimeField),
    "no dates of SAP": (["00.00.0000"] * 3 + days("%d.%m.%Y"), DatetimeField),
    "no dates of MySQL": (["0000-00-00 00:00:00"] * 3 + days("%Y-%m-%d %H:%M:%S"), DatetimeField),
    "no compact dates, open ends": (["00000000", "99991231"] * 4 + days("%Y%m%d"), DatetimeField),
    "days that no calendar has": (["30.02.2021", "31.11.2022", *days("%d.%m.%Y")], DatetimeField),
    "nanoseconds": ([f"{day}.{int(n * 10**6) % 10**9:09d}Z" for n in numbers(9) for day in days("%Y-%m-%dT%H:%M:%S")],
                    DatetimeField),
    "ticks": ([f"{day}.{int(n * 10**4) % 10**7:07d}" for n in numbers(9) for day in days("%d/%m/%Y %H:%M:%S")],
              DatetimeField),
    "digits of seconds as needed": ([f"{day}.{end}Z" for end in ("123", "123456", "123456789")
                                     for day in days("%Y-%m-%dT%H:%M:%S")], DatetimeField),
    "days of Japan": ([day.replace("年0", "年").replace("月0", "月") for day in days("%Y年%m月%d日")], DatetimeField),
    "days of Korea": (days("%Y년 %m월 %d일"), DatetimeField),
    "pandas' spans": ([spans(int(n)) for n in numbers()], IntegerField),
    "Python's spans": (["1:02:03", "1 day, 0:00:00", *(str(dt.timedelta(0, int(n * 999))) for n in numbers())],
                       IntegerField),
    "lakh and crore": (["1,23,45,678", "999", *(lakh(int(n * 1000)) for n in numbers())], IntegerField),
    "rupees": ([f"₹{lakh(int(n * 10**5))}.{int(n) % 100:02d}" for n in numbers()], DecimalField),
    "cents of large amounts": ([f"{n * 10**6:,.2f} €" for n in numbers()], DecimalField),
    "quarters": ([f"{2000 + int(n) % 20}Q{int(n) % 4 + 1}" for n in numbers()], CategoricalField),
    "phone": ([f"+49170{int(n * 1000) % 10**7:07d}" for n in numbers()] * 2, CodeField),
    "zip": ([f"{int(n * 1000) % 10**5:05d}" for n in numbers()] * 2, CodeField),
    "ward": ([f"{int(n) % 60:03d}" for n in numbers()] * 5, CategoricalField),
    "sku": ([f"SKU-{'ABC'[int(n) % 3]}{int(n * 1000) % 10**5:05d}" for n in numbers()] * 2, CodeField),
    "one exponent": (["1e5"] * 9, ConstantField),
    "exponents": ([f"{int(n) % 900 + 100}e5" for n in numbers()] * 2, CodeField),
    "a few of other places": (["1.50", "7.10", *[f"{n:.15g}" for n in numbers()]], DecimalField),
    "mixed places": ([f"{row}.{end}" for row in range(40) for end in ("5", "50")], CodeField),
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_that_people_have_come_back_as_they_are_spelled(name: str) -> None:
    cells, kind = COLUMNS[name]
    schema = schema_of(list(cells))
    assert isinstance(schema.fields[0], kind), schema.fields[0]
    assert RecordSchema.from_json(schema.to_json()) == schema
    assert written(list(cells), schema) == cells


PLAIN = st.decimals(-(10**6), 10**6, places=2, allow_nan=False)
SPELLINGS: list[Callable[[object], str]] = [
    str,
    lambda n: f"{n:.1f}",
    lambda n: f"{n:,.2f}",
    lambda n: f"${n:,.2f}",
    lambda n: f"{n:+.1f}",
    lambda n: repr(float(str(n))),
    lambda n: f"{int(float(str(n))):06d}",
    lambda n: f"{n:.2f} kg",
    lambda n: f"{n:e}",
    lambda n: f"{n:.2f}".replace(".", ","),
    lambda n: f"#{abs(int(float(str(n)))):04d}-A",
    lambda n: f"2024{abs(int(float(str(n)))) % 12 + 1:02d}{abs(int(float(str(n)))) % 28 + 1:02d}",
    lambda n: f"{abs(int(float(str(n)))) % 190}/{abs(int(float(str(n)))) % 110}",
    lambda n: f"{abs(int(float(str(n)))) % 7}x{abs(float(str(n))) % 20:.1f} cm",
    lambda n: "n/d",
]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(PLAIN, min_size=2, max_size=40),
    st.lists(st.sampled_from(SPELLINGS), min_size=1, max_size=2),
    st.lists(st.text(string.ascii_letters + string.digits + "+-., %$", max_size=6), max_size=3),
)
def test_any_column_is_printed_as_it_was_read(
    values: list[object], spellings: list[Callable[[object], str]], words: list[str]
) -> None:
    cells = [spell(value) for value in values for spell in spellings] + words
    schema = schema_of(list(cells))
    if not any(notice.code in ("rounded", "not_finite") for notice in schema.notices) and not isinstance(
        schema.fields[0], IdentifierField
    ):
        assert written(list(cells), schema) == cells


def test_the_parts_of_dates_are_spelled_as_in_training() -> None:
    zoned = field_of([f"{day}-05:00" for day in days("%Y-%m-%dT%H:%M:00")])
    assert isinstance(zoned, DatetimeField)
    assert (zoned.zones, zoned.zero) == (("-05:00",), "S")
    exact = field_of(days("%Y-%m-%d %H:%M:%S.000"))
    assert isinstance(exact, DatetimeField)
    assert (exact.fraction, exact.zero) == ((3,), "f")
    named = field_of([day.upper() for day in days("%d-%b-%Y")])
    assert isinstance(named, DatetimeField)
    assert named.names == "upper"


def test_an_open_end_is_no_end_of_the_range() -> None:
    field = field_of(["9999-12-31"] * 5 + days("%Y-%m-%d"))
    assert isinstance(field, DatetimeField)
    assert (field.points, field.maximum[:2]) == (("9999-12-31",), "20")
    sentinel = field_of([*["-999"] * 3, *map(str, range(50))])
    assert isinstance(sentinel, IntegerField)
    assert (sentinel.points, sentinel.minimum) == ((-999,), 0)


@pytest.mark.parametrize(("value", "exponent"), [(1e300, 15), (-1.5e308, -300), (5e-324, 300)])
def test_a_number_far_beyond_a_columns_unit_has_a_literal(value: float, exponent: int) -> None:
    """A rare 1e300 in a column that protection left in units of 1e15 ended with an InvalidOperation."""
    assert abs(float(decimal_literal(value, 7, exponent)) - value) <= 10.0 ** (exponent - 7)


@pytest.mark.parametrize("filled", ["1e+30", "-9.99e+33"])
def test_a_fill_value_takes_no_digit_of_the_measurements(filled: str) -> None:
    measured = [f"{20 + place / 7:.3f}" for place in range(200)]
    field = field_of([*measured, *[filled] * 20])
    assert isinstance(field, DecimalField)
    assert (field.decimals, field.exponent, field.points) == (3, 0, (float(filled),))
    assert (field.minimum, field.maximum) == (20.0, float(measured[-1]))


def test_dates_that_are_not_understood_are_said() -> None:
    schema = schema_of([f"{year}~{month}~01" for year in range(1990, 2020) for month in range(1, 9)])
    assert not isinstance(schema.fields[0], DatetimeField)
    odd = schema_of([f"2020-{month}-x{day}" for month in range(13, 40) for day in range(9)])
    assert not isinstance(odd.fields[0], DatetimeField)
    swapped = schema_of([f"31-31-{year}" for year in range(1000, 1200)])
    assert ("x", "undated") in {(notice.column, notice.code) for notice in swapped.notices}


def test_numbers_of_several_spellings_are_numbers_if_someone_says_so() -> None:
    cells: list[str | None] = [f"{row}.{end}" for row in range(40) for end in ("5", "50")]
    schema = schema_of(cells)
    (notice,) = [notice for notice in schema.notices if notice.code == "spelled"]
    assert "schema.kinds.x=number" in notice.message
    for config in ({"kinds": {"x": "number"}}, {"respell": True}):
        said = schema_of(cells, **config)
        assert isinstance(said.fields[0], DecimalField)
        (counted,) = [notice for notice in said.notices if notice.code == "spelled"]
        assert counted.count == 40


def test_a_few_cells_that_no_way_of_e_notation_gives_are_counted() -> None:
    cells: list[str | None] = [*map(excel, SMALL), "0.80", "0.3000"]
    schema = schema_of(cells)
    assert isinstance(schema.fields[0], DecimalField)
    (notice,) = [notice for notice in schema.notices if notice.code == "spelled"]
    assert notice.count == 2
    assert "'0.80'" in notice.message
    assert "schema.kinds.x=categorical" in notice.message
    assert written(cells, schema) == [*map(excel, SMALL), "0.8", "0.3"]


def test_codes_with_an_e_are_no_numbers() -> None:
    assert isinstance(field_of(["1E5", "12E10", "03E7", "9E99"] * 9), CategoricalField)


def test_lists_and_objects_are_json_of_the_schema_seen() -> None:
    places = [{"lat": round(50 + n % 7, 4), "tags": ["a", "b"][: int(n) % 3], "at": None} for n in numbers()]
    cells: list[str | None] = [*map(json.dumps, places), None]
    schema = schema_of(cells)
    field = schema.fields[0]
    assert isinstance(field, TextField)
    assert field.language == "json"
    assert field.json_schema == {
        "type": "object",
        "properties": {
            "lat": {"type": "number"},
            "tags": {"type": "array", "minItems": 0, "maxItems": 2, "items": {"type": "string", "enum": ["a", "b"]}},
            "at": {"type": "null"},
        },
        "required": ["lat", "tags", "at"],
        "additionalProperties": False,
    }
    assert written(cells, schema) == [cell or "" for cell in cells]
    codec = JsonRecordCodec(schema)
    for wrong in ('{"lat": 50.1, "tags": ["a"]}', '{"lat": 50.1, "tags": ["c"], "at": null}', '{"lat": 50.1'):
        decoded = codec.decode(json.dumps({"x": wrong}))
        assert isinstance(decoded, Rejected)
        assert decoded.reason == "json_schema"


def test_numbers_of_rows_are_counted_on_with_their_zeros() -> None:
    table = pa.table({"Kunden-Nr.": [f"{10_000 + row * 7:08d}" for row in range(60)]})
    schema = infer_schema(table)
    (keys,) = schema.fields
    assert isinstance(keys, IdentifierField)
    assert [identifier(keys, index) for index in (0, 1, 10**9)] == ["00010414", "00010415", "1000010414"]
    assert """schema.kinds={"Kunden-Nr.": "code"} or text""" in schema.notices[0].message


@pytest.mark.parametrize(
    "name", ["Kundennr.", "Artikelnr", "Bestellnummer", "orderId", "Numéro", "número", "Nr", "n°", "No."]
)
def test_a_name_says_that_numbers_name_rows(name: str) -> None:
    table = pa.table(
        {name: [f"{10_000 + row * 7:08d}" for row in range(60)], "Hausnr": [f"{row % 9 + 1}" for row in range(60)]}
    )
    schema = infer_schema(table)
    assert [type(field) for field in schema.fields] == [IdentifierField, IntegerField]


def test_identifiers_stay_unique_whatever_row_is_made_where() -> None:
    keys = field_of([f"{value:032x}" for value in RANDOM.permutation(2**20)[:60].tolist()], kinds={"x": "identifier"})
    assert isinstance(keys, IdentifierField)
    names = [identifier(keys, index) for index in (*range(3000), *range(10**6, 10**6 + 3000))]
    assert len(set(names)) == len(names)
    assert all(len(str(name)) == 32 for name in names)
    running = infer_schema(pa.table({"order_id": [str(100_000 + row) for row in range(40)]})).fields[0]
    assert isinstance(running, IdentifierField)
    assert [identifier(running, index) for index in range(3)] == [100_040, 100_041, 100_042]


@pytest.mark.parametrize(
    ("kind", "cells", "expected"),
    [
        ("categorical", ["1", "2", "3"] * 4, CategoricalField),
        ("ordinal", ["10", "9", "2"] * 4, CategoricalField),
        ("number", ["7%", "12%"] * 4, IntegerField),
        ("datetime", ["20240131", "20240201"], DatetimeField),
        ("code", ["7", "12"] * 4, CodeField),
        ("identifier", ["7", "12", "3"], IdentifierField),
        ("text", ["7", "12"] * 4, TextField),
    ],
)
def test_the_kind_is_the_users_choice(kind: str, cells: list[str | None], expected: type) -> None:
    assert isinstance(field_of(cells, kinds={"x": kind}), expected)


def test_ordinal_values_have_an_order() -> None:
    natural = field_of(["10", "9", "2", "2"], kinds={"x": "ordinal"})
    assert isinstance(natural, CategoricalField)
    assert (natural.values, natural.commonest, natural.ordered) == (("2", "9", "10"), "2", True)
    told = field_of(["M", "S", "L"], orders={"x": ("S", "M", "L", "XL")})
    assert isinstance(told, CategoricalField)
    assert told.values == ("S", "M", "L")


@pytest.mark.parametrize(
    ("config", "cells", "message"),
    [
        ({"kinds": {"y": "text"}}, ["1"], r"schema.kinds: the table has no column 'y'; it has 'x'"),
        ({"kinds": {"x": "number"}}, ["1", "a", "b"], r"'x' is to be number .*, but row 2 has 'a'; a number has one"),
        ({"kinds": {"x": "datetime"}}, ["2024-01-31", "soon", "now"], r"to be datetime .* row 2 has 'soon'"),
        ({"kinds": {"x": "code"}}, ["a1", "a\t1"], r"to be code .* row 2 has 'a\\t1'; codes have"),
        ({"kinds": {"x": "identifier"}}, ["a1", "b2", "a1"], r"to be identifier .* row 1 has 'a1'; as another row"),
        ({"kinds": {"x": "identifier"}}, ["a1", None], r"to be identifier .* but row 2 has none; fill it in"),
        ({"orders": {"x": ("S", "M")}}, ["S", "L"], r"to be ordinal .* row 2 has 'L'; which is not among"),
    ],
)
def test_a_kind_that_values_do_not_fit_names_row_and_remedy(
    config: dict[str, object], cells: list[str | None], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        schema_of(cells, **config)


def test_what_is_no_day_is_a_word_beside_the_days() -> None:
    field = field_of(["00000000", "99991231"] * 4 + days("%Y%m%d"))
    assert isinstance(field, DatetimeField)
    assert (field.words, field.points) == (("00000000",), ("99991231",))
    schema = schema_of(["30.02.2021", *days("%d.%m.%Y")])
    (notice,) = [notice for notice in schema.notices if notice.code == "words"]
    assert "1 cells are words beside the dates, kept as they are: '30.02.2021'" in notice.message
    many = field_of([f"{day}.{month}.2021" for day in range(32, 60) for month in range(10, 13)] + days("%d.%m.%Y"))
    assert not isinstance(many, DatetimeField)


def test_amounts_that_are_rounded_keep_their_places() -> None:
    """Ten digits are learned, and all cells still look alike: whoever reads them looks for four places."""
    field = field_of([f"{n * 10**7:.4f}" for n in numbers()])
    assert isinstance(field, DecimalField)
    assert field.dress is not None
    assert (field.decimals, field.dress.places) == (0, 4)
