"""JSON in a column: the schema of the values that training has, which every made value fits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from difflm.records.kinds.json_texts import text_form

_MAX_CHOICES: Final = 20
_MAX_KEYS: Final = 64


def seen_json(texts: Iterable[str]) -> dict[str, Any] | None:
    """Return the JSON Schema of lists and objects given as their texts; None where a text is neither."""
    values = []
    for text in texts:
        if text[:1] not in ("{", "["):
            return None
        try:
            values.append(json.loads(text))
        except (ValueError, RecursionError):
            return None
    return _schema(values)


def loosened(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that says types and keys alone: values are not listed, and bounds are powers of two, which the
    types of typed files have as well.
    """
    found: dict[str, Any] = {}
    for key, said in schema.items():
        match key:
            case "enum":
                found |= {"minLength": 0, "maxLength": _power(max(map(len, said)))}
            case "minimum":
                found[key] = -_power(-said - 1) - 1 if said < 0 else 0
            case "maximum":
                found[key] = _power(said) if said > 0 else 0
            case "maxLength" | "maxItems" | "maxProperties":
                found[key] = _power(said)
            case "minLength" | "minItems":
                found[key] = 0
            case "items" | "additionalProperties" if isinstance(said, dict):
                found[key] = loosened(said)
            case "properties":
                found[key] = {name: loosened(part) for name, part in said.items()}
            case _:
                found[key] = said
    return found


def _power(number: int) -> int:
    """Return the number of as many ones in binary as a number from zero on has digits there."""
    return int((1 << max(number, 0).bit_length()) - 1)


def _schema(values: Sequence[Any]) -> dict[str, Any]:
    """Return the schema of values: the types seen, and of each type the keywords of the standard that it fits."""
    kinds = {_kind(value) for value in values}
    found: dict[str, Any] = {}
    if "integer" in kinds and "number" not in kinds:  # so that they fit the type that a typed file has
        whole = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
        found |= {"minimum": min(whole), "maximum": max(whole)}
    texts = [value for value in values if isinstance(value, str)]
    if texts:
        choices = sorted(set(texts))
        closed = len(kinds) == 1 and len(choices) <= min(_MAX_CHOICES, len(texts) // 2)
        found |= {"enum": choices} if closed else {"maxLength": max(map(len, texts)), "minLength": min(map(len, texts))}
        found |= text_form(choices)
    lists = [value for value in values if isinstance(value, list)]
    if lists:
        found |= {"minItems": min(map(len, lists)), "maxItems": max(map(len, lists))}
        items = [item for value in lists for item in value]
        found |= {"items": _schema(items)} if items else {}
    objects = [value for value in values if isinstance(value, dict)]
    if objects:
        found |= _object(objects)
    named = sorted(kinds - {"integer"} if "number" in kinds else kinds)
    return {"type": named[0] if len(named) == 1 else named, **found}


def _object(objects: Sequence[dict[str, Any]]) -> dict[str, Any]:
    keys = list(dict.fromkeys(key for value in objects for key in value))
    if len(keys) > _MAX_KEYS:  # keys that are data themselves
        values = _schema([item for value in objects for item in value.values()])
        form = text_form(keys)
        names = {"propertyNames": {"maxLength": max(map(len, keys)), **form}} if form else {}
        return {"additionalProperties": values, "maxProperties": max(map(len, objects)), **names}
    properties = {key: _schema([value[key] for value in objects if key in value]) for key in keys}
    required = [key for key in keys if all(key in value for value in objects)]
    return {"properties": properties, "required": required, "additionalProperties": False}


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "object"
