"""Codes of a fixed form: every cell of training has it, and parts of dates and times stay within theirs."""

from __future__ import annotations

import datetime as dt
import random
import re
from collections.abc import Callable

import pyarrow as pa
import pytest

from difflm.records.kinds.codes_of_form import code_count, find_shapes, is_of_form, numbered_code
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import CodeField, DatetimeField, Field, IdentifierField

Spell = Callable[[random.Random], str]


def cells(spell: Spell, count: int = 400) -> list[str]:
    draw = random.Random(7)
    return [spell(draw) for _ in range(count)]


def field_of(texts: list[str]) -> Field:
    return infer_schema(pa.table({"x": texts})).fields[0]


def day_number(draw: random.Random) -> str:
    return f"{2015 + draw.randrange(10)}-{1 + draw.randrange(365):03d}"


@pytest.mark.parametrize(
    ("spell", "valid"),
    [
        (lambda draw: f"{2010 + draw.randrange(10)}-W{1 + draw.randrange(52):02d}", r"20\d\d-W(0[1-9]|[1-4]\d|5[0-3])"),
        (day_number, r"20\d\d-(00[1-9]|0[1-9]\d|[12]\d\d|3[0-5]\d|36[0-6])"),
        (lambda draw: f"T{draw.randrange(24):02d}.{draw.randrange(60):02d}", r"T([01]\d|2[0-3])\.[0-5]\d"),
        (lambda draw: f"{1 + draw.randrange(28):02d}/{draw.randrange(900):03d}", r"(0[1-9]|[12]\d|3[01])/\d{3}"),
        (lambda draw: f"A{draw.randrange(100):02d}-{draw.randrange(1000):03d}", r"A\d\d-\d\d\d"),
        (lambda draw: f"Q{draw.choice(['00', '15', '30', '45'])}-{draw.randrange(1000):03d}", r"Q[0134][05]-\d\d\d"),
    ],
)
def test_every_code_of_the_shapes_is_valid(spell: Spell, valid: str) -> None:
    texts = cells(spell)
    shapes = find_shapes(list(dict.fromkeys(texts)))
    assert shapes is not None
    assert all(is_of_form(shapes, text) for text in texts)
    count = code_count(shapes)
    made = [numbered_code(shapes, number) for number in range(0, count, max(1, count // 2000))]
    assert [code for code in made if not re.fullmatch(valid, code)] == []
    assert len(set(made)) == len(made)


def test_few_numbers_bound_nothing() -> None:
    shapes = find_shapes([f"W{number:02d}-{number}" for number in range(30, 53)])
    assert shapes is not None
    assert is_of_form(shapes, "W99-99")


@pytest.mark.parametrize(
    "spell",
    [
        lambda draw: f"{draw.randrange(9 * 10**6) / 10**5:.5f}° {draw.choice('NS')}",
        lambda draw: f"{draw.randrange(100, 999)}.{draw.randrange(100):02d} {draw.choice(['USD', 'EUR', 'CHF'])}",
        lambda draw: f"{draw.randrange(10, 99)}x{draw.randrange(10, 99)}x{draw.randrange(10, 99)} cm",
        lambda draw: f"{dt.date(2023, 1, 1) + dt.timedelta(draw.randrange(700))} {draw.randrange(24):02d}:30 CET",
    ],
)
def test_amounts_sizes_places_and_times_are_no_names_of_rows(spell: Spell) -> None:
    assert not isinstance(field_of(list(dict.fromkeys(cells(spell)))), IdentifierField)


def test_names_of_rows_stay_names_of_rows() -> None:
    macs = cells(lambda draw: ":".join(f"{draw.randrange(256):02X}" for _ in range(6)))
    assert isinstance(field_of(macs), IdentifierField)
    assert isinstance(field_of(cells(lambda draw: f"DE{draw.randrange(10**9):09d}")), IdentifierField)


def test_colours_are_codes_though_one_has_no_digit() -> None:
    colours = cells(lambda draw: f"#{draw.randrange(2**24):06x}", 200)
    assert any(not re.search(r"\d", colour[1:]) for colour in ["#fadbed", *colours])
    assert isinstance(field_of(["#fadbed", *colours, colours[0]]), CodeField)


def test_german_times_of_day_are_times() -> None:
    field = field_of(cells(lambda draw: f"{draw.randrange(24):02d}:{draw.randrange(4) * 15:02d} Uhr"))
    assert isinstance(field, DatetimeField)
    assert field.format == "%H:%M Uhr"
