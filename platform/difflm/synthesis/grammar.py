"""The grammar of a table's records, as one automaton over the decoder's tokens.

Fixed text between values is forced, categories are a trie over token ids, numbers have the digits and the range of
training, dates its format, free text is escaped and bounded. What a walk through it spells is a record of the schema,
except for dates that no calendar has.
"""

from __future__ import annotations

from difflm.records.fields import (
    BooleanField,
    CategoricalField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Field,
    IntegerField,
    TextField,
)
from difflm.records.literals import NULL, decimal_literal, value_literal
from difflm.records.record_schema import RecordSchema
from difflm.records.tokenization import RecordTokenizer
from difflm.synthesis.automaton import Automaton, AutomatonBuilder
from difflm.synthesis.date_grammar import add_date, date_parts
from difflm.synthesis.number_grammar import add_number
from difflm.synthesis.text_grammar import CLOSING_TOKENS, add_text

_NUMBER_CHARACTERS = "0123456789-.e"


def table_grammar(schema: RecordSchema, tokenizer: RecordTokenizer, *, text_tokens: int) -> Automaton:
    """The automaton of a schema's records; free text takes at most `text_tokens` tokens a value."""
    builder = AutomatonBuilder()
    start = builder.state()
    ends = {start}
    for index, field in enumerate(schema.fields):
        value = _fixed(builder, ends, tokenizer.fixed_ids[index])
        ends = _add_value(builder, value, index, field, tokenizer, text_tokens)
        if field.nullable:
            ends.add(builder.chain(value, tokenizer.literal_ids(index, NULL)))
    final = _fixed(builder, ends, tokenizer.fixed_ids[-1])
    return builder.build(start=start, final=final)


def _fixed(builder: AutomatonBuilder, ends: set[int], tokens: tuple[int, ...]) -> int:
    return builder.chain(builder.join(ends, tokens[0]), tokens[1:])


def _add_value(
    builder: AutomatonBuilder, start: int, index: int, field: Field, tokenizer: RecordTokenizer, text_tokens: int
) -> set[int]:
    match field:
        case IntegerField(minimum=low, maximum=high):
            return add_number(
                builder, start, low=low, high=high, decimals=0, suffix="", token=_number_tokens(tokenizer)
            )
        case DecimalField():
            return _add_decimal(builder, start, field, tokenizer)
        case CategoricalField(values=values):
            return {builder.chain(start, tokenizer.literal_ids(index, value_literal(field, value))) for value in values}
        case BooleanField(counts=counts):
            seen = [value for value, count in zip((True, False), counts, strict=True) if count]
            return {builder.chain(start, tokenizer.literal_ids(index, value_literal(field, value))) for value in seen}
        case DatetimeField():
            return add_date(builder, start, field, tokenizer.pieces.characters)
        case TextField(max_characters=most):
            (quote,) = tokenizer.pieces.characters('"')
            return add_text(
                builder, start, bytes_V=tokenizer.pieces.bytes_V, quote=quote, most_tokens=min(most, text_tokens)
            )
        case ConstantField(value=value):
            return {builder.chain(start, tokenizer.literal_ids(index, value_literal(field, value)))}


def _add_decimal(builder: AutomatonBuilder, start: int, field: DecimalField, tokenizer: RecordTokenizer) -> set[int]:
    low, high = (
        _scaled(decimal_literal(value, field.decimals, field.exponent)) for value in (field.minimum, field.maximum)
    )
    suffix = f"e{field.exponent}" if field.exponent else ""
    return add_number(
        builder, start, low=low, high=high, decimals=field.decimals, suffix=suffix, token=_number_tokens(tokenizer)
    )


def _scaled(literal: str) -> int:
    """A decimal literal without its point and exponent: 12.50 is 1250."""
    return int(literal.partition("e")[0].replace(".", ""))


def _number_tokens(tokenizer: RecordTokenizer) -> dict[str, int]:
    return {character: tokenizer.pieces.characters(character)[0] for character in _NUMBER_CHARACTERS}


def longest_record(schema: RecordSchema, tokenizer: RecordTokenizer, *, text_tokens: int) -> int:
    """Tokens of the longest walk through `table_grammar` of the same arguments: that many steps end every record.

    It can be far more than the longest training record has, whose values need not all be the longest of their fields.
    """
    total = sum(map(len, tokenizer.fixed_ids))
    for index, field in enumerate(schema.fields):
        longest = _longest_value(index, field, tokenizer, text_tokens)
        total += max(longest, len(tokenizer.literal_ids(index, NULL)) if field.nullable else 0)
    return total


def _longest_value(index: int, field: Field, tokenizer: RecordTokenizer, text_tokens: int) -> int:
    match field:
        case IntegerField() | DecimalField():
            return max(len(value_literal(field, value)) for value in (field.minimum, field.maximum))
        case CategoricalField(values=values):
            return max(len(tokenizer.literal_ids(index, value_literal(field, value))) for value in values)
        case BooleanField():
            return max(len(tokenizer.literal_ids(index, literal)) for literal in ("true", "false"))
        case DatetimeField():
            return 2 + sum(max(map(len, alternatives)) for alternatives in date_parts(field))
        case TextField(max_characters=most):
            return 1 + min(most, text_tokens) + CLOSING_TOKENS
        case ConstantField(value=value):
            return len(tokenizer.literal_ids(index, value_literal(field, value)))
