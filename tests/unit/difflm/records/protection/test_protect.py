"""What comes out of protection holds no value that fewer training rows than the threshold have."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from difflm.errors import DataError
from difflm.records.kinds.codes_of_form import is_of_form
from difflm.records.kinds.inference import infer_schema
from difflm.records.kinds.seen_json import loosened
from difflm.records.protection.protect import check_protection, protect_rows, protected_schema
from difflm.records.protection.settings import ProtectConfig
from difflm.records.schema import CategoricalField, CodeField, RecordSchema, SchemaConfig, TextField

ROWS = 200
PROTECT = ProtectConfig()


def column(values: list[Any], common: list[Any]) -> pa.Array:
    """Some values of one row each, and common ones in turn."""
    return pa.array([*values, *(common[row % len(common)] for row in range(ROWS - len(values)))])


def protected(
    table: pa.Table, config: ProtectConfig = PROTECT, *, target: str | None = None, **settings: Any
) -> tuple[RecordSchema, pa.Table]:
    inference = SchemaConfig.model_validate(settings)
    raw = infer_schema(table, target=target, config=inference)
    rows = protect_rows(table, raw, config, seed=0)
    return protected_schema(rows, raw, config, inference=inference), rows.fitted


def test_a_rare_category_is_drawn_as_one_that_enough_rows_have() -> None:
    schema, fitted = protected(pa.table({"a": column(["Zug", "Zug", "Chur"], ["Rome", "Oslo"])}))
    (field,) = schema.fields
    assert isinstance(field, CategoricalField)
    assert set(field.values) == {"Rome", "Oslo"} == set(fitted["a"].to_pylist())
    assert all(count % 8 == 0 for count in field.counts)
    assert schema.protected is not None
    assert schema.protected.threshold == 8


def test_a_rare_town_becomes_another_one_of_its_country() -> None:
    towns = column(["Zug", "Chur"], ["Bern", "Rome", "Oslo", "Genf"])
    country = {"Bern": "CH", "Genf": "CH", "Zug": "CH", "Chur": "CH", "Rome": "IT", "Oslo": "NO"}
    table = pa.table({"town": towns, "country": [country[town] for town in towns.to_pylist()]})
    _, fitted = protected(table)
    assert all(country[town] == land for town, land in zip(*fitted.to_pydict().values(), strict=True))


def test_rare_categories_become_one_of_their_own_where_that_is_asked_for() -> None:
    table = pa.table({"a": column([*"abcdefghi"], ["other", "Oslo"])})
    schema, _ = protected(table, ProtectConfig(rare="merge"))
    (field,) = schema.fields
    assert isinstance(field, CategoricalField)
    assert set(field.values) == {"other", "Oslo", "(other)"}, "the label is none that there is"
    schema, _ = protected(pa.table({"a": column(["x"], ["Rome", "Oslo"])}), ProtectConfig(rare="merge"))
    assert set(schema.fields[0].values) == {"Rome", "Oslo"}, "a single row is no class"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("values", "common", "ends"),
    [
        ([987654, -4321], [*range(20, 40)], (20, 39)),
        (["987654", "-4321"], [str(number) for number in range(20, 40)], (20, 39)),
        ([987654.25, -4321.75], [number + 0.25 for number in range(20, 40)], (20.25, 39.25)),
        (["$987,654.25", "-$4,321.75"], [f"${number}.25" for number in range(20, 40)], (20.25, 39.25)),
        (["1871-03-09", "2199-07-05"], [f"20{y}-0{m}-11" for y in (11, 12) for m in range(1, 9)],
         ("2011-01-11", "2012-08-11")),
    ],
)  # fmt: skip
def test_extremes_are_cut_to_what_enough_rows_share(values: list[Any], common: list[Any], ends: Any) -> None:
    schema, fitted = protected(pa.table({"a": column(values, common)}))
    field: Any = schema.fields[0]
    assert (field.minimum, field.maximum) == ends
    counts = fitted["a"].value_counts().to_pylist()
    assert not {str(value) for value in values} & {str(one["values"]) for one in counts}
    assert "987654" not in schema.to_json().replace(",", "")
    assert "1871" not in schema.to_json()


def test_cut_ends_are_shared_by_enough_rows_and_lie_within_what_the_rows_have() -> None:
    random = np.random.default_rng(1)
    values = np.sort(np.round(random.lognormal(3, 1, 500), 3))
    schema, fitted = protected(pa.table({"a": random.permutation(values)}))
    field: Any = schema.fields[0]
    made = np.sort(fitted["a"].to_numpy())
    for end, last, nearest in ((made[0], values[0], values[7]), (made[-1], values[-1], values[-8])):
        assert (made == end).sum() >= 8
        assert min(last, nearest) <= end <= max(last, nearest)
        assert end != last
    assert (field.minimum, field.maximum) == (made[0], made[-1])
    assert (made[8:-8] == values[8:-8]).all(), "what is between the ends stays"


def test_a_value_at_the_end_that_enough_rows_have_stays() -> None:
    schema, _ = protected(pa.table({"a": column([], [0, 0, 0, 7, 8, 9, 100])}))
    field: Any = schema.fields[0]
    assert (field.minimum, field.maximum) == (0, 100)


def test_a_sentinel_hides_no_extreme_behind_it() -> None:
    schema, _ = protected(pa.table({"a": column([3, *[-999] * 30], [*range(20, 40)])}))
    field: Any = schema.fields[0]
    assert field.points == (-999,)
    assert field.minimum >= 20


def test_missing_cells_stay_missing() -> None:
    table = pa.table(
        {"a": column([None, "Zug", None], ["Rome", "Oslo"]), "b": column([None, 99999, None], [*range(30)])}
    )
    _, fitted = protected(table)
    assert [fitted[name].null_count for name in "ab"] == [2, 2]


@pytest.mark.parametrize("kind", [pa.int16(), pa.float32(), pa.decimal128(9, 2), pa.timestamp("ms"), pa.date32()])
def test_typed_columns_keep_their_types(kind: pa.DataType) -> None:
    numbers = pa.array([1, 30000, *(100 + row % 50 for row in range(ROWS - 2))])
    days = pa.types.is_temporal(kind)
    typed = numbers.cast(pa.int32() if kind == pa.date32() else pa.int64() if days else pa.float64()).cast(kind)
    schema, fitted = protected(pa.table({"a": typed}))
    assert fitted["a"].type == kind
    assert not {typed[0], typed[1]} & set(fitted["a"])
    assert schema.fields[0].kind in ("integer", "decimal", "datetime")


def test_rare_words_and_formats_beside_numbers_and_dates_are_gone() -> None:
    table = pa.table(
        {
            "a": column(["n/d", *["none"] * 20], [str(number) for number in range(40)]),
            "b": column(
                ["never", "05/17/2012", *["open"] * 20], [f"2012-0{m}-1{d}" for m in range(1, 9) for d in range(9)]
            ),
        }
    )
    schema, fitted = protected(table)
    assert [field.words for field in schema.fields] == [("none",), ("open",)]  # type: ignore[union-attr]
    assert not {"n/d", "never", "05/17/2012"} & {cell for name in "ab" for cell in fitted[name].to_pylist()}


def test_numbers_in_free_text_are_made_up_anew_alike_in_all_columns() -> None:
    words = [*"abcdefghij"]
    notes = [f"account XK{row:05d}y of {words[row % 10]} {words[row // 10 % 10]}, 24 hours" for row in range(ROWS)]
    table = pa.table({"a": notes, "b": notes, "c": column([], [1, 2])})
    _, fitted = protected(table)
    assert fitted["a"] == fitted["b"]
    for made, note in zip(fitted["a"].to_pylist(), notes, strict=True):
        assert made != note
        assert made[10:15].isdecimal()
        assert made[:8] + made[18:] == note[:8] + note[18:], "only the rare word differs"


def test_addresses_and_json_keep_their_form_and_tell_no_single_row() -> None:
    """As protected rows are what is learned, made ones are addresses and JSON of the types seen only if these are."""
    table = pa.table(
        {
            "mail": [f"ann.{row}@web.de" for row in range(ROWS)],
            "page": [f"https://shop.example/item/{row * 7_919_003 % 10**8:08d}?from=list" for row in range(ROWS)],
            "host": [f"10.{row}.{row * 37 % 256}.{row % 9}" for row in range(ROWS)],
            "items": [json.dumps({"n": row * 37 % 100, "tags": ["new", "old"][: row % 3]}) for row in range(ROWS)],
        }
    )
    schema, fitted = protected(table, kinds={"mail": "text", "page": "text"})
    mail, page, _, items = schema.fields
    assert [getattr(field, "language", None) for field in schema.fields] == ["email", "url", "ipv4", "json"]
    for name in ("mail", "page", "host"):
        assert not set(fitted[name].to_pylist()) & set(table[name].to_pylist())
    assert all(
        re.fullmatch(r"https://shop\.example/item/\d{8}\?from=list", text) for text in fitted["page"].to_pylist()
    )
    assert isinstance(items, TextField)
    assert items.json_schema is not None
    assert items.json_schema["properties"] == {
        "n": {"type": "integer", "minimum": 0, "maximum": 127},
        "tags": {
            "type": "array", "minItems": 0, "maxItems": 3,
            "items": {"type": "string", "minLength": 0, "maxLength": 3},
        },
    }  # fmt: skip
    assert (mail.kind, page.kind) == ("text", "text")


@pytest.mark.parametrize(("low", "high", "bounds"), [(-128, 127, (-128, 127)), (-3, 98, (-4, 127)), (5, 300, (0, 511))])
def test_bounds_of_json_are_those_of_types(low: int, high: int, bounds: tuple[int, int]) -> None:
    found = loosened({"type": "integer", "minimum": low, "maximum": high})
    assert (found["minimum"], found["maximum"]) == bounds


def test_a_rare_name_in_a_text_becomes_one_that_enough_rows_have() -> None:
    names = ["Zebulon" if row == 3 else ("Ode", "Poe")[row % 2] for row in range(ROWS)]
    notes = [f"seen by Dr {name} on day {chr(97 + row % 20)}{chr(97 + row // 20)}" for row, name in enumerate(names)]
    _, fitted = protected(pa.table({"a": notes, "b": column([], [1, 2])}), kinds={"a": "text"})
    made = fitted["a"].to_pylist()
    assert made[3].split()[3] in ("Ode", "Poe", "Dr")
    assert made[:3] + made[4:] == notes[:3] + notes[4:]


def test_rows_of_a_rare_class_are_left_out_and_not_relabelled() -> None:
    table = pa.table({"a": column([], [*range(40)]), "y": column(["maybe"] * 3, ["yes", "no"])})
    schema, fitted = protected(table, target="y")
    assert fitted.num_rows == ROWS - 3
    assert "maybe" not in schema.to_json()
    table = pa.table({"a": column([], [*range(40)]), "y": column(["yes"] * 3, ["no"])})
    with pytest.raises(DataError, match=r"target 'y': fewer than two classes have 8 training rows"):
        protected(table, target="y")


def test_identifiers_tell_neither_the_largest_nor_a_rare_form() -> None:
    numbers = [7_000_000 + 131 * row for row in range(ROWS)]
    schema, _ = protected(pa.table({"customer_id": pa.array(numbers), "a": column([], [1, 2])}))
    field: Any = schema.fields[0]
    assert field.start == 7_100_000 > max(numbers)


def test_columns_can_be_excepted() -> None:
    table = pa.table({"a": column(["Zug"], ["Rome", "Oslo"]), "b": column(["Zug"], ["Rome", "Oslo"])})
    schema, fitted = protected(table, ProtectConfig(columns={"b": "off"}))
    assert "Zug" not in fitted["a"].to_pylist()
    assert "Zug" in schema.field("b").values  # type: ignore[union-attr]
    assert schema.protected is not None
    assert schema.protected.unprotected == ("b",)


@pytest.mark.parametrize(
    "values",
    [[f"t{row // 3}" for row in range(ROWS)], [1.5, 2.5, *[None] * (ROWS - 2)], ["2020-01-05", *[None] * (ROWS - 1)]],
)
def test_protection_that_leaves_a_column_empty_is_refused(values: list[Any]) -> None:
    table = pa.table({"odd": values, "b": column([], [1, 2])})
    with pytest.raises(DataError, match=r"column 'odd': protection leaves nothing of it.*protect.columns.odd=off"):
        protected(table, kinds={"odd": "categorical"} if isinstance(values[2], str) else {})


@pytest.mark.parametrize(
    ("config", "rows", "said"),
    [
        (ProtectConfig(columns={"agee": "off"}), 100, r"protect.columns: the table has no column 'agee'; it has 'age'"),
        (ProtectConfig(columns={"agee": "off"}, enabled=False), 100, r"has no column 'agee'"),
        (ProtectConfig(), 24, r"24 training rows are too few to hide a value among 8 others: 40 are needed"),
        (ProtectConfig(threshold=30), 100, r"150 are needed"),
    ],
)
def test_what_cannot_be_protected_is_refused(config: ProtectConfig, rows: int, said: str) -> None:
    table = pa.table({"age": [*range(rows)]})
    with pytest.raises(DataError, match=said):
        check_protection(table, infer_schema(table), config, asked=())


NAMES = [f"{first} {last}" for first in ("Ann", "Bob", "Cem", "Dora", "Eve") for last in
         ("Ode", "Poe", "Quist", "Rossi", "Sato", "Tamm", "Udo", "Vogt", "Wolf", "Xu", "Young", "Zech")]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "values", "what"),
    [
        ("who", NAMES, "names of people"),
        ("contact", [f"{name.replace(' ', '.').lower()}@example.org" for name in NAMES], "e-mail addresses"),
        ("patient_name", [name.split()[1] + name.split()[0] for name in NAMES], "names of people"),
        ("note", [f"{name} was here at {row} and left" for row, name in enumerate(NAMES)], None),
        ("title", [f"the {name.lower()} report" for name in NAMES], None),
    ],
)
def test_free_text_of_people_is_learned_only_if_asked_for(name: str, values: list[str], what: str | None) -> None:
    table = pa.table({name: values})
    schema = infer_schema(table)
    assert schema.fields[0].kind == "text"
    check_protection(table, schema, PROTECT, asked=(name,))
    check_protection(table, schema, ProtectConfig(columns={name: "off"}), asked=())
    if what is None:
        check_protection(table, schema, PROTECT, asked=())
    else:
        with pytest.raises(DataError, match=rf"column '{name}' looks like {what}.*--set schema.kinds.{name}=text"):
            check_protection(table, schema, PROTECT, asked=())


def test_numbers_in_text_say_one_digit_of_their_ends_and_rare_forms_are_gone() -> None:
    texts = [f"{95 + row * 7 % 85}/{50 + row * 11 % 50}" for row in range(ROWS - 4)]
    schema, fitted = protected(pa.table({"a": [*texts, "991/7", "8 of 9", "7 of 9", "secret"]}))
    (field,) = schema.fields
    assert isinstance(field, CodeField)
    assert "secret" not in str(field.shapes)
    assert "991" not in str(field.shapes)
    assert all(is_of_form(field.shapes, text) for text in fitted["a"].to_pylist())
