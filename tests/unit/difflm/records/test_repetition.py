"""Stretches of a text that say one thing again and again."""

import pyarrow as pa
import pytest

from difflm.records.kinds.inference import infer_schema
from difflm.records.repetition import SHORTEST, longest_repetition, repetition_fault, usual_repetition
from difflm.records.schema import TextField

WORDS = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet", "kilo"]


def _texts(count: int) -> list[str]:
    return [f"{WORDS[n % 11]} {WORDS[n // 11 % 11]} wrote {WORDS[n * 7 % 11]} number {n}" for n in range(count)]


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("[[[[[[[[[[[[[", 13),
        ("-" * 40, 40),
        ("ababababababa", 12),
        ("xyz" * 4, 12),
        ("the finance_finance_finance tool", 23),
        ("line\nline\nline\nand more", 15),
        ("Get all stories, get all users, get all posts", 0),
        ("hahaha", 0),
        ("a" * (SHORTEST - 1), 0),
        ("", 0),
    ],
)
def test_longest_stretch(text: str, length: int) -> None:
    assert longest_repetition(text) == length


def test_what_several_training_texts_have_is_usual() -> None:
    assert usual_repetition(_texts(50)) == SHORTEST
    few, many = (_texts(50) + [f"{n} " + "=" * 30 for n in range(count)] for count in (7, 8))
    assert usual_repetition(few) == SHORTEST
    assert usual_repetition(many) == 30
    assert usual_repetition(["-" * 50]) == SHORTEST


def test_a_record_that_loops_is_named_unless_its_text_was_given() -> None:
    schema = infer_schema(pa.table({"note": _texts(300), "side": ["left", "right"] * 150}))
    field = schema.field("note")
    assert isinstance(field, TextField)
    assert field.most_repeated == SHORTEST
    loop = {"note": "so so so so so so so", "side": "left"}
    assert "'note': 18 characters" in str(repetition_fault(schema, loop, frozenset()))
    assert repetition_fault(schema, loop, frozenset({"note"})) is None
    assert repetition_fault(schema, {"note": "so it is", "side": "left"}, frozenset()) is None
    old = schema.model_copy(update={"fields": (field.model_copy(update={"most_repeated": None}), schema.fields[1])})
    assert repetition_fault(old, loop, frozenset()) is None
