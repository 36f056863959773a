"""The grammar of a table's records, as one automaton over the decoder's tokens.

Fixed text between values is forced, categories are a trie over token ids, numbers have the digits and the range of
training, dates the calendar's days in its format and range, free text is escaped and bounded. What a walk through it
spells is a record of the schema, and of a restriction of its columns where one is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from difflm.errors import ConfigError
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.codes import Allowed, Restriction, ordered_codes, whole_domain, word_codes
from difflm.records.kinds.literals import IDENTIFIER, NULL, quote, value_literal
from difflm.records.kinds.number_spans import longest
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
from difflm.records.tokenization import RecordTokenizer
from difflm.synthesis.grammar.addresses import CLOSING_TOKENS as ADDRESS_CLOSING
from difflm.synthesis.grammar.addresses import add_address
from difflm.synthesis.grammar.automaton import Automaton, AutomatonBuilder
from difflm.synthesis.grammar.dates import add_date, longest_date
from difflm.synthesis.grammar.numbers import add_codes, add_number, add_words
from difflm.synthesis.grammar.texts import CLOSING_TOKENS, add_text

_NUMBER_CHARACTERS = "0123456789-.e"
_LONGEST_CHARACTER = 6  # bytes of an escape such as \u001f


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordGrammar:
    """An automaton of records, the state in which each field's value begins, and the one behind the first token that
    follows it: every walk passes all of them.

    `order` is that in which the fields are written. `open_states` are the states, in this order, in which each field's
    own text begins, and then the one in which the text behind all of them does; None where a field has several.
    `names_forced` says that where a value ends nothing but the next field's own text can follow.
    """

    automaton: Automaton
    value_states: tuple[int, ...]
    behind_states: tuple[int, ...]
    order: tuple[int, ...]
    open_states: tuple[int, ...] | None
    names_forced: bool


def table_grammar(
    schema: RecordSchema, tokenizer: RecordTokenizer, *, text_tokens: int, restriction: Restriction | None = None
) -> Automaton:
    """Build the automaton of a schema's records; free text takes at most `text_tokens` tokens a value."""
    return record_grammar(schema, tokenizer, text_tokens=text_tokens, restriction=restriction).automaton


def record_grammar(
    schema: RecordSchema,
    tokenizer: RecordTokenizer,
    *,
    text_tokens: int,
    restriction: Restriction | None = None,
    first: Sequence[int] = (),
    device: torch.device | str = "cpu",
) -> RecordGrammar:
    """Build the automaton of the records of a schema that satisfy a restriction, and where their values begin.

    The fields at the places `first` are written before all others, in this order. Raises ValueError for a restriction
    that leaves a column nothing.
    """
    builder = AutomatonBuilder()
    start = builder.state()
    order = written_order(len(schema.fields), first)
    value_of, behind_of = dict[int, int](), dict[int, int]()
    ends, open_states = {start}, list[set[int]]()
    for before, place in zip((None, *order), (*order, None), strict=True):
        open_states.append(ends)
        token, *others = tokenizer.fixed_ids[-1 if place is None else place]
        behind = builder.join(ends, token)
        if before is not None:
            behind_of[before] = behind
        value = builder.chain(behind, others)
        if place is None:
            break
        value_of[place], field = value, schema.fields[place]
        allowed = (restriction or {}).get(field.name, whole_domain(field))
        ends = _add_value(builder, value, place, field, allowed, tokenizer, text_tokens) if allowed.codes else set()
        if allowed.null:
            ends.add(builder.chain(value, tokenizer.literal_ids(place, NULL)))
        if not ends:
            raise ValueError(f"column {field.name!r}: the restriction leaves no value")
        ends = builder.fuse(ends, since=value)
    single = all(len(states) == 1 for states in open_states)
    forced = single and all(len(builder.transitions[state]) == 1 for states in open_states for state in states)
    return RecordGrammar(
        automaton=builder.build(start=start, final=value).to(torch.device(device)),
        value_states=tuple(value_of[place] for place in range(len(order))),
        behind_states=tuple(behind_of[place] for place in range(len(order))),
        order=order,
        open_states=tuple(next(iter(states)) for states in open_states) if single else None,
        names_forced=forced,
    )


def written_order(fields: int, first: Sequence[int]) -> tuple[int, ...]:
    """Return the places of all fields in the order in which they are written: those of `first`, then the others."""
    return (*first, *(place for place in range(fields) if place not in set(first)))


def _add_value(
    builder: AutomatonBuilder,
    start: int,
    index: int,
    field: Field,
    allowed: Allowed,
    tokenizer: RecordTokenizer,
    text_tokens: int,
) -> set[int]:
    def literals(*values: str | int | float | bool) -> set[int]:
        return {builder.chain(start, tokenizer.literal_ids(index, value_literal(field, value))) for value in values}

    characters = tokenizer.pieces.characters
    match field:
        case IntegerField() | DecimalField() | DatetimeField():
            if isinstance(field, DatetimeField):
                return add_date(builder, start, field, allowed.codes, characters)
            words = [word for word, code in word_codes(field).items() if code in allowed.codes]
            ends, ranges = add_words(builder, start, words, characters), allowed.codes & ordered_codes(field)
            decimals, exponent = (field.decimals, field.exponent) if isinstance(field, DecimalField) else (0, 0)
            return ends | add_number(
                builder,
                start,
                ranges=ranges,
                decimals=decimals,
                suffix=f"e{exponent}" if exponent else "",
                token=_number_tokens(tokenizer),
                pairs=tokenizer.pieces.numbers,
            )
        case CodeField(shapes=shapes):
            return add_codes(builder, start, shapes, characters)
        case IdentifierField():
            return {builder.chain(start, tokenizer.literal_ids(index, IDENTIFIER))}
        case CategoricalField(values=values):
            return literals(*(values[code] for code in allowed.codes))
        case BooleanField():
            return literals(*(bool(code) for code in allowed.codes))
        case TextField(max_characters=most):
            (quote,) = tokenizer.pieces.characters('"')
            if field.language is not None and field.language != "python" and field.language != "json":
                return add_address(
                    builder,
                    start,
                    field.language,
                    bytes_V=tokenizer.pieces.bytes_V,
                    quote=quote,
                    max_characters=most,
                    max_tokens=text_tokens,
                )
            return add_text(
                builder,
                start,
                bytes_V=tokenizer.pieces.bytes_V,
                quote=quote,
                max_tokens=min(most, text_tokens),
                not_empty=field.not_empty,
                one_line=field.one_line,
            )
        case JsonField():
            raise ConfigError(
                f"column {field.name!r} holds JSON, whose schema only llguidance knows; "
                "set sampling.engine.constraint=llguidance"
            )
        case ConstantField(value=value):
            return literals(value)


def _number_tokens(tokenizer: RecordTokenizer) -> dict[str, int]:
    return {character: tokenizer.pieces.characters(character)[0] for character in _NUMBER_CHARACTERS}


def longest_record(schema: RecordSchema, tokenizer: RecordTokenizer, *, text_tokens: int) -> int:
    """Count the tokens of the longest walk through `table_grammar` of these arguments: enough steps for every record.

    It can be far more than the longest training record has, whose values need not all be the longest of their fields.
    A restriction only makes walks shorter.
    """
    sizes = _Sizes(literal=lambda place, text: len(tokenizer.literal_ids(place, text)), text_tokens=text_tokens)
    return sum(map(len, tokenizer.fixed_ids)) + sum(map(sizes.longest, range(len(schema.fields)), schema.fields))


def longest_spelling(codec: JsonRecordCodec, *, text_tokens: int) -> int:
    """Count the tokens of the longest record however it is tokenized, at worst by bytes.

    Only free text may need more: a value of more than `text_tokens` tokens then leaves its record unfinished.
    """
    sizes = _Sizes(literal=lambda _, text: len(text.encode()), text_tokens=text_tokens, character=_LONGEST_CHARACTER)
    schema, fixed = codec.schema, sum(len(text.encode()) for text in codec.fixed_texts())
    return fixed + sum(map(sizes.longest, range(len(schema.fields)), schema.fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    """Most tokens of a field's value; `literal` gives those of a literal, `character` is the most of a text's."""

    literal: Callable[[int, str], int]
    text_tokens: int
    character: int = 1

    def longest(self, place: int, field: Field) -> int:
        return max(self._value(place, field), self.literal(place, NULL) if field.nullable else 0)

    def _value(self, place: int, field: Field) -> int:
        match field:
            case DatetimeField():
                return 2 + longest_date(field)
            case IntegerField() | DecimalField():
                words = [len(quote(word).encode()) for word in field.words]
                ends = (field.minimum, field.maximum, *field.points)
                return max(*(self.literal(place, value_literal(field, value)) for value in ends), *words)
            case CodeField(shapes=shapes):
                return 2 + max(sum(map(longest, shape)) for shape in shapes)
            case IdentifierField():
                return self.literal(place, IDENTIFIER)
            case CategoricalField(values=values):
                return max(self.literal(place, value_literal(field, value)) for value in values)
            case BooleanField():
                return max(self.literal(place, literal) for literal in ("true", "false"))
            case JsonField(max_characters=most):
                return 1 + min(most * self.character, self.text_tokens) + CLOSING_TOKENS
            case TextField(max_characters=most):
                closing = ADDRESS_CLOSING if field.language not in (None, "python", "json") else CLOSING_TOKENS
                return 1 + min(most * self.character, self.text_tokens) + closing
            case ConstantField(value=value):
                return self.literal(place, value_literal(field, value))
