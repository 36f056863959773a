"""JSON Schemas as grammars: any schema that llguidance can enforce, with bounds where the schema has none.

Records are spelled as `json.dumps(record, ensure_ascii=False)` spells them (but for DEL, which is escaped), keys in the
schema's order. llguidance (https://github.com/guidance-ai/llguidance, docs/json_schema.md) enforces the keywords that
it knows and refuses other keywords of the standard; a refusal is a SchemaError here, never a keyword that is left out.

A schema may allow text without an end, and a model that is cold or hardly trained finds it. So what a schema leaves
open is bounded: lengths of strings and arrays, digits of numbers, keys of objects. An object with `properties` has
those only, and a value of any kind is a scalar. The schema's own bounds are kept. Schemas that refer to themselves, and
objects joined by `allOf`, may still go on; the decoding loop's bound on tokens ends those.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from llguidance import LLMatcher

from difflm.errors import SchemaError

_Schema: TypeAlias = dict[str, Any]

_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_SCALARS = ["string", "number", "boolean", "null"]
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions")
_BY_PLACE = ("prefixItems", "anyOf", "oneOf", "allOf")
_REFERS = ("$ref", *_BY_PLACE[1:])
_LARGEST_INTEGER = 2**53 - 1  # what every JSON reader keeps (RFC 8259, section 6)
_REMEDIES = (  # words of llguidance's message, and what to do about it
    (
        "Unimplemented keys",
        "say what is allowed instead (enum, anyOf, bounds), or drop it and check records afterwards",
    ),
    ("oneOf", "write anyOf, or alternatives that no value fits two of"),
    ("Resource", "put the definition into the schema's own $defs"),
    ("Pointer", "put the definition into the schema's own $defs"),
    ("format", "give a pattern instead"),
    ("look-a", "write the pattern without looking ahead or behind"),
    ("Unsatisfiable", "mend the bounds: no value fits them"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrammarText:
    """A Lark grammar in llguidance's dialect, or a JSON Schema whose key `x-guidance` says how records are spaced."""

    kind: Literal["lark", "json_schema"]
    text: str

    def serialized(self) -> str:
        """Return the serialized grammar that an `LLMatcher` takes."""
        if self.kind == "lark":
            return LLMatcher.grammar_from_lark(self.text)
        return LLMatcher.grammar_from_json_schema(self.text)

    def fault(self) -> str | None:
        """Return why llguidance cannot read it, in llguidance's words; None where it can."""
        wrong, messages = LLMatcher.validate_grammar_with_warnings(self.serialized())
        return " ".join(messages[0].split()) if wrong else None


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonBounds:
    """The most of what a schema sets no bound to."""

    string_characters: int = 256
    array_items: int = 16
    object_keys: int = 16
    key_characters: int = 32
    number_magnitude: float = 1e15
    number_step: float = 1e-9


def json_schema_grammar(schema: Mapping[str, Any], *, bounds: JsonBounds | None = None) -> GrammarText:
    """Compile the grammar of a schema's records. Raises SchemaError naming the keyword and the remedy."""
    if not isinstance(schema, Mapping):
        raise SchemaError(f"a JSON Schema is an object, found {schema!r}; to allow any record, say what keys it has")
    bounded = _bounded(dict(schema), bounds or JsonBounds(), closed=True)
    text = json.dumps({**bounded, "x-guidance": _SPACING}, ensure_ascii=False)
    grammar = GrammarText(kind="json_schema", text=text)
    fault = grammar.fault()
    if fault is not None:
        raise SchemaError(_refusal(schema, fault))
    return grammar


def _refusal(schema: Mapping[str, Any], fault: str) -> str:
    remedy = next((text for words, text in _REMEDIES if words in fault), "mend the schema")
    named = re.findall(r'"(\$?\w+)"', fault) if "Unimplemented keys" in fault else re.findall(r"\boneOf\b", fault)
    places = [place for place in _places(schema, "") if place.rpartition("/")[2] in named]
    where = f" at {places[0]}" if places else ""
    return f"the JSON Schema cannot be enforced{where}: {fault}; {remedy}"


def _places(value: object, at: str) -> Iterator[str]:
    """Yield pointers to all keys of a document."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield f"{at}/{key}"
        yield from _places(item, f"{at}/{key}")


def _bounded(schema: _Schema, bounds: JsonBounds, *, closed: bool) -> _Schema:
    """Add bounds to a schema; `closed` is whether its objects may be closed: not where others add keys to them."""
    out = dict(schema)
    for name in _BY_NAME:
        if isinstance(out.get(name), Mapping):
            out[name] = {key: _value(item, bounds, closed=True) for key, item in out[name].items()}
    for name in _BY_PLACE:
        if isinstance(out.get(name), list):
            inner = closed and name != "allOf" and "properties" not in out
            out[name] = [_value(item, bounds, closed=inner) for item in out[name]]
    for name in ("items", "additionalProperties"):
        if name in out and out[name] is not False:
            out[name] = _value(out[name], bounds, closed=True)
    if any(name in out for name in ("enum", "const", *_REFERS)):
        return out
    kinds = out.get("type", _implied(out))
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    if "string" in kinds:
        out.setdefault("maxLength", max(bounds.string_characters, out.get("minLength", 0)))
    if "array" in kinds:
        out.setdefault("items", _value(True, bounds, closed=True))
        fixed = len(out.get("prefixItems", ()))
        out.setdefault("maxItems", max(bounds.array_items, fixed, out.get("minItems", 0)))
    if "object" in kinds:
        _bound_object(out, bounds, closed=closed)
    if {"integer", "number"} & set(kinds):
        _bound_number(out, bounds, whole="number" not in kinds)
    return out


def _value(schema: object, bounds: JsonBounds, *, closed: bool) -> object:
    """Bound a schema inside another; one that allows everything then allows scalars."""
    if schema is True or schema == {}:
        return _bounded({"type": _SCALARS}, bounds, closed=closed)
    return _bounded(dict(schema), bounds, closed=closed) if isinstance(schema, Mapping) else schema


def _implied(schema: _Schema) -> list[str]:
    """Return the kinds that a schema without `type` has keywords for."""
    if {"properties", "patternProperties", "additionalProperties", "required"} & set(schema):
        return ["object"]
    return ["array"] if {"items", "prefixItems"} & set(schema) else _SCALARS


def _bound_object(schema: _Schema, bounds: JsonBounds, *, closed: bool) -> None:
    if "properties" in schema or schema.get("required"):
        more = schema.get("additionalProperties", True)
        unnamed = _value(True, bounds, closed=True) if more is True else more
        names = [name for name in schema.get("required", ()) if name not in schema.get("properties", {})]
        if more is not False and "patternProperties" not in schema:
            schema["properties"] = {**schema.get("properties", {}), **dict.fromkeys(names, unnamed)}
        if closed:
            schema.setdefault("additionalProperties", False)
    elif "patternProperties" in schema:
        schema.setdefault("additionalProperties", False)
    elif schema.get("additionalProperties", True) is not False:
        # llguidance bounds a free key's length by a pattern alone.
        values = schema.pop("additionalProperties", None) or _value(True, bounds, closed=True)
        schema["patternProperties"] = {f"^[^\\x00-\\x1f]{{1,{bounds.key_characters}}}$": values}
        schema["additionalProperties"] = False
        schema.setdefault("maxProperties", max(bounds.object_keys, schema.get("minProperties", 0)))


def _bound_number(schema: _Schema, bounds: JsonBounds, *, whole: bool) -> None:
    limit = _LARGEST_INTEGER if whole else bounds.number_magnitude
    low, high = (_given(schema, *names) for names in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")))
    if low is None:
        low = schema["minimum"] = -limit if high is None or high > -limit else 10 * high
    if high is None:
        high = schema["maximum"] = limit if low < limit else 10 * low
    if not whole and high - low > 1000 * bounds.number_step:  # a range of fewer steps has digits of its own
        schema.setdefault("multipleOf", bounds.number_step)


def _given(schema: _Schema, *names: str) -> float | None:
    values = [value for name in names if isinstance(value := schema.get(name), int | float)]
    return None if not values else values[0]
