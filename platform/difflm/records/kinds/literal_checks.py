"""Literal checks: whether a parsed JSON value is one that its field allows."""

import ast
import json
import math
import re
import warnings
from functools import cache
from typing import Any, Final, NamedTuple

from difflm.records.codec import RejectionReason
from difflm.records.fields import Address
from difflm.records.kinds.codes_of_form import is_of_form
from difflm.records.kinds.literals import IDENTIFIER, decimal_literal
from difflm.records.kinds.moments import field_moment, microseconds
from difflm.records.schema import (
    BooleanField,
    CategoricalField,
    CodeField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Field,
    IdentifierField,
    IntegerField,
    JsonField,
    TextField,
    Value,
)

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST_NUMBER: Final = 40
_OCTET: Final = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4: Final = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
ADDRESSES: Final[dict[Address, re.Pattern[str]]] = {
    "email": re.compile(r"[\w.+'\-]+@[\w\-]+(?:\.[\w\-]+)*\.[A-Za-z]{2,}", re.ASCII),
    "url": re.compile(r"(?:https?|ftp)://[!$-.0-;=@-\[\]-~]+(?:[/?#][!#-;=?-\[\]-~]*)?"),
    "ipv4": re.compile(_IPV4, re.ASCII),
    "cidr": re.compile(rf"{_IPV4}/(?:3[0-2]|[12]?\d)", re.ASCII),
    "endpoint": re.compile(rf"{_IPV4}:\d{{1,5}}", re.ASCII),
}
"""By language of a text, the form that all of it has; `synthesis/grammar/addresses.py` writes no other."""


class Number(NamedTuple):
    """A JSON number as it was written."""

    text: str


class Pairs:
    """A JSON object with its keys in the order of the text, duplicates kept."""

    __slots__ = ("items",)

    def __init__(self, items: list[tuple[str, object]]) -> None:
        self.items = items


class Fault(NamedTuple):
    """Why a literal is not allowed."""

    reason: RejectionReason
    detail: str


def check_literal(field: Field, parsed: object, categories: frozenset[str] = frozenset()) -> Value | Fault:
    """Return the value that `parsed` (from JSON, numbers kept as `Number`) is in `field`, or the fault with it.

    `categories` are the values of a categorical field, as a set.
    """
    if parsed is None:
        return None if field.nullable else Fault("missing", f"{field.name!r} was never missing in training")
    match field:
        case IntegerField() | DecimalField() | DatetimeField() if isinstance(parsed, str) and parsed in field.words:
            return parsed
        case IntegerField():
            return _integer(field, parsed)
        case DecimalField():
            return _decimal(field, parsed)
        case CategoricalField():
            if not isinstance(parsed, str):
                return _wrong_type(field, parsed)
            return parsed if parsed in categories else Fault("category", f"{field.name!r}: {_short(parsed)}")
        case BooleanField():
            return parsed if isinstance(parsed, bool) else _wrong_type(field, parsed)
        case DatetimeField():
            return _datetime(field, parsed)
        case CodeField():
            return _code(field, parsed)
        case IdentifierField():  # whoever knows the row gives it its name
            is_it = isinstance(parsed, Number) and parsed.text == IDENTIFIER
            return _unnamed(field) if is_it else _wrong_type(field, parsed)
        case TextField():
            return _text(field, parsed)
        case JsonField():
            return _json(field, parsed)
        case ConstantField():
            return _constant(field, parsed)


def _integer(field: IntegerField, parsed: object) -> Value | Fault:
    if not isinstance(parsed, Number):
        return _wrong_type(field, parsed)
    if not _INTEGER.fullmatch(parsed.text) or parsed.text == "-0":
        return Fault("type", f"{field.name!r}: {_short(parsed.text)} is not a whole number of 64 bits")
    number = int(parsed.text)
    if not field.minimum <= number <= field.maximum and number not in field.points:
        return Fault("range", f"{field.name!r}: {number} is outside {field.minimum}..{field.maximum}")
    return number


def _decimal(field: DecimalField, parsed: object) -> Value | Fault:
    if not isinstance(parsed, Number):
        return _wrong_type(field, parsed)
    if len(parsed.text) > _LONGEST_NUMBER:
        return Fault("range", f"{field.name!r}: a number of {len(parsed.text)} characters")
    number = float(parsed.text)
    if not math.isfinite(number):
        return Fault("range", f"{field.name!r}: {parsed.text} is not finite")
    if not field.minimum <= number <= field.maximum and number not in field.points:
        return Fault("range", f"{field.name!r}: {parsed.text} is outside {field.minimum!r}..{field.maximum!r}")
    if decimal_literal(number, field.decimals, field.exponent) != parsed.text:
        return Fault("decimals", f"{field.name!r}: {parsed.text} is not written with {field.decimals} decimals")
    return number + 0.0


def _datetime(field: DatetimeField, parsed: object) -> Value | Fault:
    if not isinstance(parsed, str):
        return _wrong_type(field, parsed)
    moment = field_moment(field, parsed)
    if moment is None:
        formats = " or ".join(field.formats)
        return Fault("datetime", f"{field.name!r}: {_short(parsed)} is not in the format {formats}")
    first, last = field_moment(field, field.minimum), field_moment(field, field.maximum)
    if first is None or last is None or microseconds(first) <= microseconds(moment) <= microseconds(last):
        return parsed
    if parsed not in field.points:
        return Fault("range", f"{field.name!r}: {parsed} is outside {field.minimum}..{field.maximum}")
    return parsed


def _code(field: CodeField, parsed: object) -> Value | Fault:
    if not isinstance(parsed, str):
        return _wrong_type(field, parsed)
    if not is_of_form(field.shapes, parsed):
        return Fault("category", f"{field.name!r}: {_short(parsed)} has another form than any code of training")
    return parsed


def _unnamed(field: IdentifierField) -> Value:
    return 0 if field.stored == "integer" else ""


def _text(field: TextField, parsed: object) -> Value | Fault:
    if not isinstance(parsed, str):
        return _wrong_type(field, parsed)
    if len(parsed) > field.max_characters:
        return Fault("length", f"{field.name!r}: {len(parsed)} characters, at most {field.max_characters}")
    if field.not_empty and not parsed:
        return Fault("length", f"{field.name!r}: no character, at least one")
    if _SURROGATE.search(parsed):
        return Fault("type", f"{field.name!r}: half of a surrogate pair")
    if field.language == "python":
        wrong = python_fault(parsed)
        return parsed if wrong is None else Fault("syntax", f"{field.name!r}: {wrong}")
    if field.language == "json":
        return _fitting(field, parsed, field.json_schema or {})
    if field.language is not None and not ADDRESSES[field.language].fullmatch(parsed):
        return Fault("syntax", f"{field.name!r}: {_short(parsed)} is no {field.language}")
    return parsed


def _fitting(field: Field, text: str, schema: dict[str, Any]) -> Value | Fault:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Fault("json_schema", f"{field.name!r}: no JSON ({error})")
    wrong = next(_validator(json.dumps(schema)).iter_errors(value), None)
    if wrong is not None:
        return Fault("json_schema", f"{field.name!r} at {wrong.json_path}: {_short(wrong.message)}")
    return text


def python_fault(text: str) -> str | None:
    """Return why a text is no Python of this interpreter's version, None if it is; nothing is compiled or run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd escapes and comparisons are the text's own affair
        try:
            ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return f"{type(error).__name__}: {error}"[:120]
    return None


def _json(field: JsonField, parsed: object) -> Value | Fault:
    try:
        text = json.dumps(_plain(parsed), ensure_ascii=False)
    except (ValueError, RecursionError) as error:
        return Fault("json_schema", f"{field.name!r}: {error}")
    if len(text) > field.max_characters:
        return Fault("length", f"{field.name!r}: {len(text)} characters, at most {field.max_characters}")
    if _SURROGATE.search(text):
        return Fault("type", f"{field.name!r}: half of a surrogate pair")
    return _fitting(field, text, field.json_schema)


def _plain(parsed: object) -> object:
    """Convert a parsed value to Python's own types; ValueError for an object with one key twice."""
    if isinstance(parsed, Pairs):
        plain = {key: _plain(value) for key, value in parsed.items}
        if len(plain) != len(parsed.items):
            raise ValueError("an object has a key twice")
        return plain
    if isinstance(parsed, Number):
        return json.loads(parsed.text)
    return [_plain(value) for value in parsed] if isinstance(parsed, list) else parsed


@cache
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(schema))


def _constant(field: ConstantField, parsed: object) -> Value | Fault:
    value: object = parsed
    if isinstance(parsed, Number) and not isinstance(field.value, bool | str):
        value = float(parsed.text) if isinstance(field.value, float) else parsed.text
        expected: object = field.value if isinstance(field.value, float) else str(field.value)
    else:
        expected = field.value
    if isinstance(parsed, Number) == isinstance(field.value, bool | str) or value != expected:
        return Fault("constant", f"{field.name!r} is always {field.value!r}")
    return field.value


def _wrong_type(field: Field, parsed: object) -> Fault:
    shown = parsed.text if isinstance(parsed, Number) else parsed
    return Fault("type", f"{field.name!r} is {field.kind}, got {_short(shown)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
