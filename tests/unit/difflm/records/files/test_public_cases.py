"""Small tables of the kinds that public reports of other projects are about: what each is right as, whole or damaged.

They lie in the folder `cases` beside the data sets; without it these tests are skipped, and say so.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from difflm.artifacts.formats import encode_table
from difflm.errors import UserError
from difflm.records.files.reading import read_table
from difflm.records.files.source import SourceForm
from difflm.records.kinds.columns import conform_table
from difflm.records.kinds.inference import infer_schema
from difflm.records.notices import Notice
from difflm.records.relations.mining import mine_relations
from difflm.records.relations.words import describe
from difflm.records.schema import DatetimeField, DecimalField, IntegerField, RecordSchema, TextField

KINDS = {
    "c01_phone.csv": "identifier categorical integer",
    "c02_int_dates.csv": "datetime datetime datetime categorical integer",
    "c03_codes.csv": "identifier code categorical decimal",
    "c04_namibia.csv": "categorical categorical integer categorical",
    "c05_dates.csv": "datetime datetime datetime datetime datetime categorical integer datetime",
    "c06_bom.csv": "categorical categorical integer",
    "c06_cp1252.csv": "categorical categorical integer",
    "c06_utf16.csv": "categorical categorical integer",
    "c07_money.csv": "decimal decimal decimal decimal integer decimal categorical",
    "c09_fsb.parquet": "identifier categorical",
    "c10_keys.csv": "identifier identifier identifier code integer",
    "c11_constraints.csv": "datetime datetime integer integer decimal decimal categorical categorical",
    "c15_censored.csv": "decimal integer categorical categorical",
    "c17_preamble.csv": "identifier categorical integer",
    "c17_spaces.txt": "identifier categorical integer",
    "c18_mixed.jsonl": "identifier categorical integer categorical text boolean",
    "c20_sep_line.csv": "identifier decimal categorical",
    "e_real.csv": "datetime categorical integer integer boolean categorical",
    "e_syn_bool.csv": "datetime categorical integer integer integer categorical",
    "e_syn_date.csv": "datetime categorical integer integer boolean categorical",
    "e_syn_zip.csv": "datetime integer integer integer boolean categorical",
    "e_test.csv": "datetime categorical integer integer boolean categorical",
}
TEXTS = [name for name in KINDS if not name.endswith(".parquet")]
TOLD = {  # what is said of a file, and whether it has to be
    "c04_namibia.csv": "'NA' is a value, for all others are codes of two letters too, in 120 cells",
    "c06_cp1252.csv": "read as cp1252",
    "c07_money.csv": None,
    "c15_censored.csv": "cells are words beside the numbers, kept as they are: '<0.5'",
    "c17_preamble.csv": "2 lines above the header are left out",
    "c17_spaces.txt": "cells are divided by ' '",
    "c20_sep_line.csv": None,
}


Case = Callable[[str], Path]


@pytest.fixture(name="case")
def _case(real_data: Callable[[str], Path]) -> Case:
    return lambda name: real_data(f"../cases/{name}")


def looked_at(path: Path) -> tuple[pa.Table, RecordSchema, list[Notice]]:
    notices: list[Notice] = []
    table = read_table(path, report=notices.append)
    schema = infer_schema(table)
    return table, schema, [*notices, *schema.notices]


@pytest.mark.parametrize("name", KINDS)
def test_every_column_is_of_the_kind_it_is(case: Case, name: str) -> None:
    _, schema, notices = looked_at(case(name))
    assert " ".join(field.kind for field in schema.fields) == KINDS[name]
    told = " ".join(notice.message for notice in notices)
    if TOLD.get(name):
        assert str(TOLD[name]) in told
    assert not any(notice.code in ("rounded", "spelled", "undated") for notice in notices)


@pytest.mark.parametrize("name", KINDS)
def test_the_cells_come_back_byte_for_byte(case: Case, name: str, tmp_path: Path) -> None:
    """As a bundle would write made rows, in the form of the source: the file itself, but for what stands above it."""
    path = case(name)
    table, schema, _ = looked_at(path)
    form = SourceForm.of(table)
    assert form is not None
    rows = conform_table(table, schema)
    if name.endswith(".parquet"):
        (tmp_path / name).write_bytes(encode_table(rows, "parquet", form=form))
        assert read_table(tmp_path / name).equals(table)
        return
    made = encode_table(rows, "jsonl" if form.json_ else "csv", form=form)
    source = path.read_bytes()
    if name == "c18_mixed.jsonl":  # of numbers and texts in one column numbers are made
        assert [json.loads(line) for line in made.splitlines()] == [_whole(json.loads(s)) for s in source.splitlines()]
    elif name == "c17_preamble.csv":
        assert source.endswith(made)
        assert made.startswith(b"id,grp,val")
    else:
        assert made == source


def _whole(row: dict[str, object]) -> dict[str, object]:
    return row | {"value": int(str(row["value"]))} if "value" in row else row


def test_dress_and_form_are_those_of_the_source(case: Case) -> None:
    _, money, _ = looked_at(case("c07_money.csv"))
    price, weight = money.field("price"), money.field("weight")
    assert isinstance(price, DecimalField)
    assert price.dress is not None
    assert (price.dress.prefix, price.dress.group, price.dress.places) == ("$", ",", 2)
    assert isinstance(weight, IntegerField)
    assert weight.dress is not None
    assert weight.dress.suffix == " kg"
    _, dates, _ = looked_at(case("c05_dates.csv"))
    until, entered = dates.field("valid_until"), dates.field("entered")
    assert isinstance(until, DatetimeField)
    assert until.points == ("9999-12-31",)
    assert until.maximum < "2023"
    assert isinstance(entered, DatetimeField)
    assert set(entered.formats) == {"%Y-%m-%d", "%d/%m/%Y"}
    _, nested, _ = looked_at(case("c18_mixed.jsonl"))
    geo = nested.field("geo")
    assert isinstance(geo, TextField)
    assert geo.json_schema is not None
    assert geo.json_schema["required"] == ["lat", "lon"]


def test_the_relations_are_found(case: Case) -> None:
    table, schema, _ = looked_at(case("c11_constraints.csv"))
    found = describe(mine_relations(table, table.slice(0, 40), schema).relations)
    assert {"nights == end - start", "total == n * unit", "start < end"} <= set(found)
    assert any(sentence.startswith("state follows from city") for sentence in found)


def test_given_cells_stay_byte_for_byte(case: Case) -> None:
    """Phone numbers of other forms, zeros in front, blanks at a name: imputing writes what was given."""
    from difflm.synthesis.plans.kept_cells import kept_cells

    for name in ("c01_phone.csv", "c03_codes.csv", "c07_money.csv", "c15_censored.csv"):
        table, schema, _ = looked_at(case(name))
        kept = kept_cells(table, schema)
        for column in schema.names:
            given = table.column(column)
            same = kept.column(column)
            assert same.equals(given) or same.cast(pa.string()).equals(given) or pa.types.is_floating(same.type)


def damaged(content: bytes, name: str) -> dict[str, bytes]:
    draw = random.Random(name)
    found = {"half": content[: len(content) // 2], "empty": b""}
    for flip in range(3):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        found[f"flipped {flip}"] = bytes(flipped)
    if not name.endswith((".jsonl", ".parquet")):
        encoding = {"c06_bom.csv": "utf-8-sig", "c06_cp1252.csv": "cp1252", "c06_utf16.csv": "utf-16"}.get(
            name, "utf-8"
        )
        lines = content.decode(encoding).splitlines(keepends=True)
        header = {"c17_preamble.csv": 3, "c20_sep_line.csv": 1}.get(name, 0)
        found["doubled header"] = "".join([*lines[: header + 1], *lines[header:]]).encode(encoding)
    middle = content.find(b",", len(content) // 2)
    found["long cell"] = content[: middle + 1] + b"y" * 10_000_000 + content[middle + 1 :]
    return found


@pytest.mark.parametrize("name", KINDS)
def test_damage_is_one_line_or_a_right_result(case: Case, name: str, tmp_path: Path) -> None:
    content = case(name).read_bytes()
    rows = read_table(case(name)).num_rows
    path = tmp_path / name
    for how, bad in damaged(content, name).items():
        if how == "long cell" and name in ("c06_utf16.csv", "c09_fsb.parquet"):
            continue  # a byte more would be another fault
        path.write_bytes(bad)
        try:
            table = read_table(path)
            infer_schema(table)
        except UserError as error:
            message = str(error)
            assert "\n" not in message
            assert len(message) < 800
            assert how != "doubled header"
            continue
        assert how != "empty"
        assert how != "doubled header" or table.num_rows == rows
        if how == "half" and name in TEXTS:
            assert table.num_rows <= rows / 2 + 3
