"""JSON Schemas as grammars: what is accepted, what is bounded, and how refusals are named."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from difflm.errors import SchemaError
from difflm.synthesis.grammar.json_schema import JsonBounds, json_schema_grammar
from difflm.testing.models import byte_level_tokenizer

BOUNDS = JsonBounds(string_characters=8, array_items=3, object_keys=2, key_characters=4)


@pytest.fixture(scope="module")
def bytes_tokenizer() -> LLTokenizer:
    from llguidance.hf import from_tokenizer

    return from_tokenizer(byte_level_tokenizer("gpt2"))


def _accepts(tokenizer: LLTokenizer, schema: dict[str, Any], text: str) -> bool:
    matcher = LLMatcher(tokenizer, json_schema_grammar(schema, bounds=BOUNDS).serialized())
    tokens = tokenizer.tokenize_str(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), max_size=8))
def test_strings_are_spelled_as_json_dumps_spells_them(bytes_tokenizer: LLTokenizer, text: str) -> None:
    assert _accepts(bytes_tokenizer, {"type": "string"}, json.dumps(text, ensure_ascii=False))


@pytest.mark.parametrize(
    ("schema", "accepted", "refused"),
    [
        ({"type": "string"}, '"12345678"', '"123456789"'),
        ({"type": "string", "maxLength": 12}, '"123456789012"', '"1234567890123"'),
        ({"type": "string", "minLength": 10}, '"1234567890"', '"12345678901"'),
        ({"type": "array", "items": {"type": "null"}}, "[null, null, null]", "[null, null, null, null]"),
        ({"type": "array"}, '[1, "a", true]', "[[]]"),
        ({"type": "integer"}, "-9007199254740991", "9007199254740992"),
        ({"type": "integer", "minimum": 10**17}, str(10**18), "1"),
        ({"type": "number"}, "-12.000000001", "1.0000000001"),
        ({"type": "number", "maximum": -(10.0**16)}, "-20000000000000000", "1"),
        ({"type": "number", "minimum": 0, "maximum": 1e-8}, "0.000000005", "0.1"),
        ({"type": "number", "multipleOf": 0.5}, "1.5", "1.25"),
        ({"type": "object", "properties": {"a": {"type": "null"}}}, '{"a": null}', '{"b": null}'),
        ({"properties": {"a": {}}}, '{"a": "x"}', '{"a": {}}'),
        ({"type": "object", "required": ["a"]}, '{"a": 1}', "{}"),
        ({"type": "object"}, '{"k": 1, "kkkk": "v"}', '{"kkkkk": 1}'),
        ({"type": "object"}, "{}", '{"a": 1, "b": 1, "c": 1}'),
        ({"type": "object", "additionalProperties": {"type": "null"}}, '{"k": null}', '{"k": 1}'),
        ({"type": "object", "additionalProperties": False}, "{}", '{"a": 1}'),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, '"12345678"', '"123456789"'),
        ({"$defs": {"s": {"type": "string"}}, "$ref": "#/$defs/s"}, '"12345678"', '"123456789"'),
        ({"prefixItems": [{"type": "null"}], "items": False}, "[null]", "[null, null]"),
        ({"enum": ["a very long one", 1]}, '"a very long one"', '"a"'),
        ({"const": {"k": [1]}}, '{"k": [1]}', '{"k":[1]}'),
        ({"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}, '{"a": null}', '{"a":null}'),
        (
            {"allOf": [{"properties": {"a": {"type": "null"}}}, {"properties": {"b": {"type": "null"}}}]},
            '{"a": null, "b": null}',
            '{"a": 1}',
        ),
    ],
)
def test_what_a_schema_leaves_open_is_bounded(
    bytes_tokenizer: LLTokenizer, schema: dict[str, Any], accepted: str, refused: str
) -> None:
    assert _accepts(bytes_tokenizer, schema, accepted)
    assert not _accepts(bytes_tokenizer, schema, refused)


def test_the_given_schema_is_left_as_it_is() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "array"}}}
    before = json.dumps(schema)
    json_schema_grammar(schema)
    assert json.dumps(schema) == before


def _inside(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"tags": {"type": "array", "items": schema}}}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (_inside({"type": "string", "not": {"const": "a"}}), r'at /properties/tags/items/not: .*"not".*; say what is'),
        (_inside({"type": "array", "uniqueItems": True}), r"at /properties/tags/items/uniqueItems: "),
        ({"type": "object", "propertyNames": {"maxLength": 3}}, r"at /propertyNames: "),
        ({"type": "string", "format": "isbn"}, r"Unknown format: isbn; give a pattern instead"),
        ({"type": "string", "pattern": "(?=a)b"}, r"look-around.*; write the pattern without looking"),
        ({"$ref": "https://example.org/s"}, r"put the definition into the schema's own \$defs"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, r"minimum \(5\).*; mend the bounds"),
        ({"oneOf": [{"type": "string"}, {"enum": ["a"]}]}, r"at /oneOf: .*; write anyOf"),
        ({"type": "text"}, r"Invalid type: text; mend the schema"),
    ],
)
def test_what_cannot_be_enforced_is_named_with_a_remedy(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(SchemaError, match=message) as caught:
        json_schema_grammar(schema)
    assert "\n" not in str(caught.value)


def test_a_schema_that_is_no_object_is_refused() -> None:
    with pytest.raises(SchemaError, match="a JSON Schema is an object, found True"):
        json_schema_grammar(True)  # type: ignore[arg-type]
