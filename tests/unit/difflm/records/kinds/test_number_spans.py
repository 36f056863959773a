"""Numbers between fixed texts: every cell comes back, made ones are within the numbers seen, and codes stay codes."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difflm.errors import SchemaError
from difflm.records.codec import Accepted
from difflm.records.fields import Form
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.codes_of_form import is_of_form, numbered_code
from difflm.records.kinds.columns import conform_table
from difflm.records.kinds.inference import infer_schema
from difflm.records.kinds.number_spans import choices, find_numbers, has_spans, longest, shown_form, widened
from difflm.records.schema import CodeField, DatetimeField, Field, IdentifierField, RecordSchema
from difflm.synthesis.grammar.automaton import AutomatonBuilder
from difflm.synthesis.grammar.numbers import add_codes

Spell = Callable[[random.Random], str]
MONTHS = ("Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "Oktober", "November", "Dezember")


def pair(between: str, most: int = 30) -> Spell:
    def spell(draw: random.Random) -> str:
        low = draw.randint(1, 80)
        return f"{low}{between}{low + draw.randint(0, most)}"

    return spell


def day(draw: random.Random) -> dt.date:
    return dt.date(2019, 1, 1) + dt.timedelta(draw.randrange(2000))


SPELLINGS: dict[str, tuple[Spell, str]] = {
    "blood pressure": (lambda draw: f"{draw.randint(95, 185)}/{draw.randint(55, 94)}", "{95..185}/{55..94}"),
    "sizes": (
        lambda draw: f"{draw.randint(5, 99)}x{draw.randint(9, 120)}x{draw.randint(1, 90)}",
        "{5..99}x{9..120}x{1..90}",
    ),
    "sizes with a unit": (lambda draw: f"{draw.randint(5, 120)} x {draw.randint(5, 99)} cm", "{5..120} x {5..99} cm"),
    "fractions": (
        lambda draw: f"{draw.uniform(1, 120):.1f}×{draw.uniform(1, 20):.2f}",
        "{1..119}.{0..9}×{1..19}.{0..99}",
    ),
    "range": (pair("-"), "{1..80}-{2..108}"),
    "range with a dash": (pair(" – "), "{1..80} – {2..108}"),
    "minutes of a quarter": (
        lambda draw: f"{draw.randint(5, 12)}:{draw.choice(['00', '15', '30', '45'])}-{draw.randint(13, 20)}:30",
        "{5..12}:{00|15|30|45}-{13..20}:30",
    ),
    "negative ones": (
        lambda draw: f"{draw.choice('+-')}{draw.randint(1, 20)}/{draw.randint(1, 20)}",
        "+{1..20}/{1..20}",
    ),
    "versions": (lambda draw: f"v{draw.randint(1, 12)}.{draw.randint(0, 9)}", "v{1..12}.{0..9}"),
    "inches": (lambda draw: f'{draw.randint(5, 99)}" x {draw.randint(5, 99)}"', '{5..99}" x {5..99}"'),
    "blanks that do not break": (
        lambda draw: f"{draw.randint(1, 99)}\u00a0x\u00a0{draw.randint(1, 99)}",
        "{1..99}\u00a0x\u00a0{1..99}",
    ),
    "telephones": (
        lambda draw: f"0{draw.randint(30, 999)}/{draw.randint(10**4, 10**6)}",
        "0{31..999}/{10187..999373}",
    ),
    "one of many": (lambda draw: f"p. {draw.randint(1, 300)} of 300", "p. {1..300} of 300"),
    "words": (
        lambda draw: f"{day(draw):%A}, {day(draw):%B} {day(draw).day}th",
        "{Friday|Monday|Saturday|Sunday|...}, {April|August|December|February|...} {1..31}th",
    ),
}


def cells(spell: Spell, count: int = 900) -> list[str]:
    draw = random.Random(7)
    return [spell(draw) for _ in range(count)]


def schema_of(texts: list[str]) -> RecordSchema:
    return infer_schema(pa.table({"x": texts}))


def field_of(texts: list[str]) -> Field:
    return schema_of(texts).fields[0]


def forms_of(texts: list[str]) -> tuple[Form, ...]:
    found = find_numbers(list(dict.fromkeys(texts)))
    assert found is not None
    return found


def written(forms: tuple[Form, ...]) -> set[str]:
    """All texts that the grammar writes, one character a token."""
    builder = AutomatonBuilder()
    ends = add_codes(builder, builder.state(), forms, lambda text: tuple(map(ord, text)))
    return {text[1:-1] for text in _walks(builder, ends)}


def _walks(builder: AutomatonBuilder, ends: set[int]) -> Iterator[str]:
    todo = [(0, "")]
    while todo:
        state, text = todo.pop()
        if state in ends:
            yield text
        todo += [(target, text + chr(token)) for token, target in builder.transitions[state].items()]


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_form_has_every_cell_and_made_ones_are_within_its_numbers(name: str) -> None:
    spell, expected = SPELLINGS[name]
    texts = [*cells(spell), *cells(spell)]
    forms = forms_of(texts)
    assert shown_form(forms[0]) == expected
    assert all(is_of_form(forms, text) for text in texts)
    draw = random.Random(3)
    for form in forms:
        count = 1
        for place in form:
            count *= choices(place)
        code = numbered_code((form,), draw.randrange(count))
        assert len(code.encode()) <= sum(map(longest, form))
    assert is_of_form(forms, numbered_code(forms, 0))


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_cell_comes_back_through_a_record(name: str) -> None:
    texts = cells(SPELLINGS[name][0], 120)
    schema = schema_of([*texts, texts[0]])
    assert isinstance(schema.fields[0], CodeField | DatetimeField)
    assert RecordSchema.from_json(schema.to_json()) == schema
    codec = JsonRecordCodec(schema)
    lines = list(codec.encode_table(codec.normalize_table(pa.table({"x": texts})).table))
    decoded = [codec.decode(line) for line in lines]
    assert [one.record["x"] for one in decoded if isinstance(one, Accepted)] == texts


def test_words_beside_the_numbers_stay_words() -> None:
    forms = forms_of([*cells(pair("-")), "95+", "unknown"])
    assert [form for form in map(shown_form, forms) if "{" not in form] == ["95+", "unknown"]
    assert is_of_form(forms, "unknown")
    assert not is_of_form(forms, "unknowm")


@pytest.mark.parametrize("wrong", ["81-90", "5-109", "07-30", "30-20", "5-", "5-8 ", "5–8"])
def test_what_training_never_had_is_of_no_form(wrong: str) -> None:
    forms = forms_of(cells(pair("-")))
    assert is_of_form(forms, "20-30")
    assert not is_of_form(forms, wrong)


@pytest.mark.parametrize(
    "spell",
    [
        pair("-", 9),
        lambda draw: f"{draw.randint(95, 111)}/{draw.randint(85, 102)}",
        lambda draw: f"{draw.randint(0, 12)}:{draw.randint(0, 59):02d}",
        lambda draw: f"{draw.randint(8, 11)}{draw.choice(['st', 'nd', 'th'])} {draw.randint(1, 9)}",
    ],
)
def test_the_grammar_writes_the_codes_of_the_forms_and_no_others(spell: Spell) -> None:
    forms = forms_of(cells(spell))
    texts = written(forms)
    assert set(cells(spell)) <= texts
    assert [text for text in texts if not is_of_form(forms, text)] == []
    assert len(texts) == len({one for one in _all(forms) if is_of_form(forms, one)})


def _all(forms: tuple[Form, ...]) -> Iterator[str]:
    for form in forms:
        count = 1
        for place in form:
            count *= choices(place)
        yield from (numbered_code((form,), number) for number in range(count))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1200), st.integers(0, 1200), st.sampled_from([0, 4]))
def test_the_grammar_of_one_number_is_its_span(one: int, other: int, digits: int) -> None:
    low, high = sorted((one, other))
    assert written((("n", (low, high, digits, 0)),)) == {f"n{number:0{digits}d}" for number in range(low, high + 1)}


@pytest.mark.parametrize(
    "spell",
    [
        lambda draw: f"({draw.randint(200, 999)}) {draw.randint(200, 999)}-{draw.randint(0, 9999):04d}",
        lambda draw: f"{draw.randint(0, 999):03d}-{draw.randint(0, 99):02d}-{draw.randint(0, 9999):04d}",
        lambda draw: f"INV-{draw.randint(0, 99999):05d}",
        lambda draw: f"DE{draw.randint(10, 99)} {draw.randint(1000, 9999)} {draw.randint(10**5, 10**6 - 1)}",
    ],
)
def test_codes_and_names_of_rows_are_none(spell: Spell) -> None:
    texts = list(dict.fromkeys(cells(spell)))
    assert not any(has_spans(form) for form in getattr(field_of(texts), "shapes", ()))


def test_different_numbers_in_a_column_that_says_so_name_the_rows() -> None:
    texts = [f"{row // 7}/{row % 7}" for row in range(200)]
    assert isinstance(infer_schema(pa.table({"order_id": texts})).fields[0], IdentifierField)
    assert isinstance(infer_schema(pa.table({"size": texts})).fields[0], CodeField)


def test_addresses_and_free_text_are_none() -> None:
    assert field_of([f"10.{row % 9}.{row % 250}.{row * 7 % 251}" for row in range(300)]).kind == "text"
    assert find_numbers([f"the {row} of {'abcdefghij'[row % 10] * (row % 31)} in {row}" for row in range(99)]) is None


@pytest.mark.parametrize("form", ["%B-%Y", "%Y %B", "%b %y", "%d. %B %Y", "%d %b, %Y", "%b %Y", "%d %B %Y"])
def test_dates_with_names_of_months_are_dates(form: str) -> None:
    field = field_of([day(random.Random(row)).strftime(form) for row in range(200)])
    assert isinstance(field, DatetimeField)
    assert field.format == form


def test_months_of_other_languages_are_one_of_those_seen() -> None:
    draw = random.Random(5)
    texts = [f"{draw.randint(1, 28)}. {draw.choice(MONTHS)} {draw.randint(2015, 2024)}" for _ in range(400)]
    forms = forms_of(texts)
    assert is_of_form(forms, "7. März 2020")
    assert not is_of_form(forms, "7. Mörz 2020")
    assert not is_of_form(forms, "41. März 2020")


def test_numbers_beyond_training_are_kept_until_they_are_brought_within() -> None:
    schema = schema_of([*cells(pair("-")), "95+"])
    codec = JsonRecordCodec(schema)
    given = pa.table({"x": ["3-900", "20-30", "95+", "100+", "later"]})
    kept = conform_table(given, schema)
    assert kept.column("x").to_pylist() == ["3-900", "20-30", "95+", None, None]
    normal = codec.normalize_table(given)
    assert normal.table.column("x").to_pylist()[:3] == ["3-108", "20-30", "95+"]
    assert ("range", 1) in {(notice.code, notice.count) for notice in normal.notices}
    assert all(isinstance(codec.decode(line), Accepted) for line in codec.encode_table(normal.table))


@pytest.mark.parametrize(
    "form",
    [
        ((0, 9, 0, 0),) * 30,
        ((0, 9, 0, 0), "5") * 20,
        (("a", "aa"), "a") * 30,
        ((0, 9, 0, 0), ("1", "11")) * 20,
    ],
)
def test_forms_that_read_in_many_ways_hold_nothing(form: Form) -> None:
    """None is found; a damaged schema would take for ever."""
    assert not is_of_form((form,), "5" * 60)
    assert not is_of_form((form,), "a" * 60 + "b")
    with pytest.raises(SchemaError, match="touch each other"):
        written((form,))


def test_protected_numbers_say_one_digit() -> None:
    assert widened(("n", (17, 183, 0, 0), "/", (5, 59, 2, 0))) == ("n", (10, 199, 0, 0), "/", (5, 59, 2, 0))
