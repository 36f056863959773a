"""A table's records as a Lark grammar over characters: the language of `tables.table_grammar`, for llguidance.

Numbers and dates are built by the same code as the automaton's, over characters instead of tokens; each of their states
becomes a terminal, so states that are reached in many ways are written once. The one difference is what bounds free
text: characters here, tokens there.

A grammar as text, which llguidance reads: in this process, and inside of vLLM with its guidance backend.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.codes import Allowed, Restriction, ordered_codes, whole_domain, word_codes
from difflm.records.kinds.literal_checks import ADDRESSES
from difflm.records.kinds.literals import IDENTIFIER, NULL, value_literal
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
    RecordSchema,
    TextField,
)
from difflm.synthesis.grammar.automaton import AutomatonBuilder
from difflm.synthesis.grammar.constraint import RecordSet
from difflm.synthesis.grammar.dates import add_date
from difflm.synthesis.grammar.json_schema import GrammarText, json_schema_grammar
from difflm.synthesis.grammar.numbers import add_codes, add_number, add_words

_CODES = {character: ord(character) for character in "0123456789-.e"}
_IN_CLASS, _ESCAPED = re.compile(r"[^0-9A-Za-z ]"), r"\\\g<0>"
# What `text_grammar` allows, in any text and in one without control characters.
_TEXT = r'/"([^"\\\x00-\x1f]|\\["\\\/bfnrt]|\\u00[01][0-9a-f]){%d,%d}"/'
_ONE_LINE = r'/"([^"\\\x00-\x1f]|\\["\\\/]){%d,%d}"/'

_ADDRESSES: Mapping[str | None, str] = {
    language: f'/"{form.pattern.replace("/", chr(92) + "/")}"/'.replace(r"\w", "A-Za-z0-9_")
    for language, form in ADDRESSES.items()
}


def table_lark(schema: RecordSchema, *, restriction: Restriction | None = None) -> GrammarText:
    """Build the grammar of a schema's records, or of those that satisfy a restriction.

    Raises ValueError for a restriction that leaves a column nothing.
    """
    return _joined(JsonRecordCodec(schema).fixed_texts(), _names(schema), _rules(schema, restriction or {}))


def table_larks(codec: JsonRecordCodec, records: RecordSet) -> Callable[[int], GrammarText]:
    """Return a function that builds the grammar of the records that an index may become, given cells as fixed texts.

    Raises ValueError for a restriction that leaves a column nothing.
    """
    schema, fixed, cells = codec.schema, codec.fixed_texts(), records.cells
    rules, names = _rules(schema, records.restriction), _names(schema)
    shared = _joined(fixed, names, rules)
    if cells is None:
        return lambda index: shared

    def of_index(index: int) -> GrammarText:
        given = {
            place: [f"{names[place]}: {json.dumps(text, ensure_ascii=False)}"] for place, text in cells(index).items()
        }
        return _joined(fixed, names, [given.get(place, lines) for place, lines in enumerate(rules)])

    return of_index


def _names(schema: RecordSchema) -> list[str]:
    """Name each field's value: a terminal, or a rule where it has a structure (in Lark, the case decides)."""
    return [f"{'v' if isinstance(field, JsonField) else 'V'}{place}" for place, field in enumerate(schema.fields)]


def _rules(schema: RecordSchema, restriction: Restriction) -> list[list[str]]:
    """Build, by field, the lines that define its value."""
    rules = []
    for name, field in zip(_names(schema), schema.fields, strict=True):
        allowed = restriction.get(field.name, whole_domain(field))
        lines = list[str]()
        options = _options(name, field, allowed, lines) if allowed.codes else []
        if allowed.null:
            options.append(json.dumps(NULL))
        if not options:
            raise ValueError(f"column {field.name!r}: the restriction leaves no value")
        rules.append([*lines, f"{name}: {' | '.join(options)}"])
    return rules


def _joined(fixed: Sequence[str], names: Sequence[str], rules: Sequence[Sequence[str]]) -> GrammarText:
    texts = [json.dumps(text, ensure_ascii=False) for text in fixed]
    parts = [part for place, name in enumerate(names) for part in (texts[place], name)]
    lines = [line for rule in rules for line in rule]
    return GrammarText(kind="lark", text="\n".join([f"start: {' '.join(parts)} {texts[-1]}", *lines]) + "\n")


def _options(name: str, field: Field, allowed: Allowed, lines: list[str]) -> list[str]:
    """List the alternatives of a value; terminals that they refer to are added to `lines`."""
    match field:
        case TextField(max_characters=most):
            if field.language in _ADDRESSES:
                return [f"{_ADDRESSES[field.language]} & {_ONE_LINE % (1, most)}"]
            return [(_ONE_LINE if field.one_line else _TEXT) % (field.not_empty, most)]
        case JsonField(json_schema=json_schema):
            return [f"%json {json_schema_grammar(json_schema).text}"]
        case CategoricalField(values=values):
            return _literals(field, (values[code] for code in allowed.codes))
        case BooleanField():
            return _literals(field, (bool(code) for code in allowed.codes))
        case ConstantField(value=value):
            return _literals(field, [value])
        case IdentifierField():
            return [json.dumps(IDENTIFIER)]
        case IntegerField() | DecimalField() | DatetimeField() | CodeField():
            builder = AutomatonBuilder()
            start = builder.state()
            ends = _add(builder, start, field, allowed)
            lines += _terminals(name, builder.transitions, ends)
            return [f"{name}S{start}"] if ends else []


def _add(
    builder: AutomatonBuilder,
    start: int,
    field: IntegerField | DecimalField | DatetimeField | CodeField,
    allowed: Allowed,
) -> set[int]:
    if isinstance(field, CodeField):
        return add_codes(builder, start, field.shapes, _characters)
    if isinstance(field, DatetimeField):
        return add_date(builder, start, field, allowed.codes, _characters)
    words = [word for word, code in word_codes(field).items() if code in allowed.codes]
    ends, codes = add_words(builder, start, words, _characters), allowed.codes & ordered_codes(field)
    decimals, exponent = (field.decimals, field.exponent) if isinstance(field, DecimalField) else (0, 0)
    suffix = f"e{exponent}" if exponent else ""
    return ends | add_number(builder, start, ranges=codes, decimals=decimals, suffix=suffix, token=_CODES)


def _characters(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def _literals(field: Field, values: Iterable[str | int | float | bool]) -> list[str]:
    return [json.dumps(value_literal(field, value), ensure_ascii=False) for value in values]


def _terminals(name: str, transitions: Sequence[dict[int, int]], ends: set[int]) -> list[str]:
    """Write one terminal per state of an acyclic automaton: the texts from there to the end."""
    lines = []
    for state, row in enumerate(transitions):
        characters: dict[int, list[str]] = {}
        for code, target in row.items():
            characters.setdefault(target, []).append(chr(code))
        ways = []
        for target, choice in characters.items():
            first = json.dumps(choice[0]) if len(choice) == 1 else f"/[{_IN_CLASS.sub(_ESCAPED, ''.join(choice))}]/"
            ways.append(f"{first} {name}S{target}" if transitions[target] else first)
            if transitions[target] and target in ends:
                ways.append(first)
        if ways:
            lines.append(f"{name}S{state}: {' | '.join(ways)}")
    return lines
