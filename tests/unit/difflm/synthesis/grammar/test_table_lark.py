"""A table's grammar for llguidance: the same language as the automaton's."""

from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher
from llguidance.hf import from_tokenizer

from difflm.records.codec import Accepted, Rejected
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.codes import Allowed, IntervalSet, Restriction
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema, SchemaConfig
from difflm.records.tokenization import RecordTokenizer
from difflm.synthesis.grammar.guidance import guidance_constraint
from difflm.synthesis.grammar.lark import table_lark
from difflm.synthesis.grammar.tables import table_grammar
from difflm.testing.lockstep import random_walks
from difflm.testing.models import byte_level_tokenizer
from difflm.testing.tables import mixed_table

TOKENIZER = byte_level_tokenizer("gpt2")
TEXT = 8


def _record_tokenizer(schema: RecordSchema) -> RecordTokenizer:
    kinds = [field.kind for field in schema.fields]
    return RecordTokenizer(TOKENIZER, kinds=kinds, fixed_texts=JsonRecordCodec(schema).fixed_texts())


def _spelled(tokens: list[int], tokenizer: RecordTokenizer) -> str:
    return b"".join(tokenizer.pieces.bytes_V[token] for token in tokens).decode()


def _matches(schema: RecordSchema, restriction: Restriction | None = None) -> Callable[[str], bool]:
    known = from_tokenizer(TOKENIZER)
    start = LLMatcher(known, table_lark(schema, restriction=restriction).serialized())
    assert not start.is_error(), start.get_error()

    def matches(text: str) -> bool:
        matcher, tokens = start.deep_copy(), known.tokenize_str(text)
        return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_stopped()

    return matches


def _agree(schema: RecordSchema, restriction: Restriction | None = None, *, count: int = 60) -> None:
    """Walks through either grammar are in the other one, but for texts with too many characters.

    The automaton bounds a text's tokens only, and leaves the codec to reject those; the Lark grammar bounds characters.
    """
    tokenizer = _record_tokenizer(schema)
    automaton = table_grammar(schema, tokenizer, text_tokens=TEXT, restriction=restriction)
    matches = _matches(schema, restriction)
    codec, zoned = JsonRecordCodec(schema), any("%z" in getattr(field, "format", "") for field in schema.fields)
    matched = 0
    for tokens in random_walks(automaton, range(count), seed=0, longest=2000):
        text = _spelled(tokens, tokenizer)
        decoded = codec.decode(text)
        too_long = not isinstance(decoded, Accepted) and decoded.reason == "length"
        assert matches(text) != too_long, text
        matched += not too_long
    assert matched > count // 2
    guidance = guidance_constraint(table_lark(schema, restriction=restriction), TOKENIZER)
    for tokens in random_walks(guidance, range(count), seed=1, longest=3000):
        decoded = codec.decode(_spelled(tokens, tokenizer))
        # With a zone, a date may lie a day outside of the range: as far as either grammar sees.
        assert isinstance(decoded, Accepted) or (zoned and decoded.reason == "range")


def test_a_table_of_all_kinds_has_one_language() -> None:
    _agree(infer_schema(mixed_table(80)))


def test_names_are_never_empty_in_either_language() -> None:
    table = pa.table({"name": ["a" * 40, "bc", "d"]})
    schema = infer_schema(table, config=SchemaConfig(kinds={"name": "name"}))
    _agree(schema)
    text = infer_schema(table, config=SchemaConfig(kinds={"name": "text"}))
    assert _matches(text)('{"name": ""}')
    assert not _matches(schema)('{"name": ""}')
    decoded = JsonRecordCodec(schema).decode('{"name": ""}')
    assert isinstance(decoded, Rejected)
    assert decoded.reason == "length"


def test_text_has_line_breaks_only_where_training_has_them() -> None:
    for second, expected in (("no line break", False), ("two\nlines", True)):
        table = pa.table({"note": ["a" * 40, second, "and \\"]})
        schema = infer_schema(table, config=SchemaConfig(kinds={"note": "text"}))
        _agree(schema)
        matches = _matches(schema)
        assert [matches(text) for text in (r'{"note": "a\nb"}', r'{"note": "\u0001"}')] == [expected, expected]
        assert matches(r'{"note": "a\"b\\"}')


@pytest.mark.parametrize(
    "texts",
    [
        ["2001-03-05", "2024-07-09", "2016-02-29"] * 9,
        ["2001-03-05 11:12:13.5", "2024-07-09 01:02:03.123456"] * 9,
        ["05-Mar-2001", "09-Jul-2024"] * 9,
        ["Mon, 05 Mar 2001 11:12:13 +0000", "Tue, 09 Jul 2024 11:12:13 +0200"] * 9,
    ],
)
def test_dates_of_every_form(texts: list[str]) -> None:
    _agree(infer_schema(pa.table({"d": texts})), count=20)


@settings(max_examples=15, deadline=None)
@given(
    categories=st.lists(st.text('"\\/é\n\x01😀ab', min_size=1, max_size=5), min_size=2, max_size=4, unique=True),
    numbers=st.lists(st.decimals(-1000, 1000, places=2), min_size=2, max_size=4, unique=True),
)
def test_any_category_and_any_range(categories: list[str], numbers: list[float]) -> None:
    rows = 12
    table = pa.table(
        {
            "c": [categories[row % len(categories)] for row in range(rows)],
            "n": [float(numbers[row % len(numbers)]) for row in range(rows)],
        }
    )
    schema = infer_schema(table)
    codec, matches = JsonRecordCodec(schema), _matches(schema)
    for line in codec.encode_table(codec.normalize_table(table).table):
        assert matches(line)
        assert not matches(line.replace(": ", ":"))


def test_a_restriction_leaves_its_values_only() -> None:
    schema = infer_schema(mixed_table(80))
    age = schema.field("age")
    assert age.kind == "integer"
    restriction = {"age": Allowed(codes=IntervalSet.of([(age.minimum, age.minimum + 1)]), null=False)}
    _agree(schema, restriction, count=20)
    guidance = guidance_constraint(table_lark(schema, restriction=restriction), TOKENIZER)
    codec, tokenizer = JsonRecordCodec(schema), _record_tokenizer(schema)
    for tokens in random_walks(guidance, range(20), seed=3, longest=3000):
        decoded = codec.decode(_spelled(tokens, tokenizer))
        assert isinstance(decoded, Accepted)
        assert decoded.record["age"] in (age.minimum, age.minimum + 1)
    with pytest.raises(ValueError, match="leaves no value"):
        table_lark(schema, restriction={"age": Allowed(codes=IntervalSet(), null=False)})
