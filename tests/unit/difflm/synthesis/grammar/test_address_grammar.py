"""Addresses of mail and of the web: what the automaton writes is whole, of the form, and no longer than in training."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from difflm.records.codec import Accepted
from difflm.records.fields import Address
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.inference import infer_schema
from difflm.records.kinds.literal_checks import ADDRESSES
from difflm.records.schema import RecordSchema, TextField
from difflm.records.tokenization import RecordTokenizer
from difflm.synthesis.grammar.addresses import CLOSING_TOKENS, add_address
from difflm.synthesis.grammar.automaton import Automaton, AutomatonBuilder
from difflm.synthesis.grammar.lark import table_lark
from difflm.synthesis.grammar.tables import longest_record, table_grammar
from difflm.testing.lockstep import random_walks
from difflm.testing.models import byte_level_tokenizer

BYTES = [bytes([byte]) for byte in range(256)]
SEEDS: dict[Address, tuple[str, ...]] = {
    "email": ("a.b@c.de", "x@y.z1.com", "m+1@_-.Ab"), "url": ("https://a.b/c?d#e", "ftp://x", "http://a:80?x"),
    "ipv4": ("10.0.0.1", "255.13.26.30"), "cidr": ("255.13.26.30/24", "10.0.0.0/8"),
    "endpoint": ("8.8.39.249:53", "1.2.3.4:65000"),
}  # fmt: skip
TOKENIZER = byte_level_tokenizer("gpt2")


def automaton_of(language: Address, vocabulary: list[bytes], *, characters: int, tokens: int) -> Automaton:
    builder = AutomatonBuilder()
    start = builder.state()
    (end,) = add_address(
        builder, start, language, bytes_V=vocabulary, quote=0x22, max_characters=characters, max_tokens=tokens
    )
    return builder.build(start=start, final=end)


@pytest.mark.parametrize("language", [*SEEDS])
def test_the_automaton_and_the_check_know_one_form(language: Address) -> None:
    automaton, draw, counts = automaton_of(language, BYTES, characters=30, tokens=30), random.Random(0), [0, 0]
    for _ in range(1500):
        text = [*draw.choice(SEEDS[language])]
        for _ in range(draw.randrange(4)):
            place = draw.randrange(len(text) + 1)
            text[place : place + draw.randrange(2)] = draw.choice(["", "", chr(draw.randrange(0x20, 0x80)), "."])
        fits = ADDRESSES[language].fullmatch("".join(text)) is not None
        assert automaton.accepts([0x22, *"".join(text).encode(), 0x22]) == fits, text
        counts[fits] += 1
    assert min(counts) > 100


@pytest.mark.parametrize("language", [*SEEDS])
@pytest.mark.parametrize("tokens", [40, 5])
def test_every_walk_is_an_address(language: Address, tokens: int) -> None:
    vocabulary = [*BYTES, b"www.", b"@web.de", b"http", b"://", b'",', b""]
    automaton = automaton_of(language, vocabulary, characters=16, tokens=tokens)
    for walk in random_walks(automaton, range(60), seed=0, longest=60):
        text = b"".join(vocabulary[token] for token in walk).decode()[1:-1]
        assert ADDRESSES[language].fullmatch(text), text
        assert len(text) <= 16 or (tokens < 16 and len(walk) <= 1 + tokens + CLOSING_TOKENS)


def addressed() -> tuple[RecordSchema, RecordTokenizer]:
    draw = random.Random(1)
    hosts, ends = ["www.", ""], ["", "a?b=c"]
    rows = [
        {
            "mail": f"{'n' * draw.randrange(1, 12)}.{row}@{draw.choice(['web.de', 'gmx.net'])}",
            "site": f"https://{draw.choice(hosts)}{'x' * draw.randrange(1, 9)}{row}.de/{draw.choice(ends)}",
        }
        for row in range(120)
    ]
    schema = infer_schema(pa.Table.from_pylist(rows))
    assert [getattr(field, "language", None) for field in schema.fields] == ["email", "url"]
    kinds = [field.kind for field in schema.fields]
    return schema, RecordTokenizer(TOKENIZER, kinds=kinds, fixed_texts=JsonRecordCodec(schema).fixed_texts())


def test_no_record_is_rejected_for_its_addresses() -> None:
    schema, tokenizer = addressed()
    automaton, codec = table_grammar(schema, tokenizer, text_tokens=100), JsonRecordCodec(schema)
    for walk in random_walks(automaton, range(30), seed=0, longest=longest_record(schema, tokenizer, text_tokens=100)):
        text = b"".join(tokenizer.pieces.bytes_V[token] for token in walk).decode()
        assert isinstance(codec.decode(text), Accepted), text


def test_llguidance_knows_the_same_form() -> None:
    from llguidance import LLMatcher
    from llguidance.hf import from_tokenizer

    schema, _ = addressed()
    known, codec = from_tokenizer(TOKENIZER), JsonRecordCodec(schema)
    start = LLMatcher(known, table_lark(schema).serialized())
    assert not start.is_error(), start.get_error()

    def accepted(record: dict[str, str]) -> bool:
        matcher, tokens = start.deep_copy(), known.tokenize_str(codec.encode(record))
        return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_stopped()

    good = {"mail": "a.7@web.de", "site": "https://www.x.de/a?b"}
    longest = schema.field("mail")
    assert isinstance(longest, TextField)
    assert accepted(good)
    assert not accepted({**good, "mail": "a.7@web"})
    assert not accepted({**good, "site": "www.x.de"})
    assert not accepted({**good, "mail": "a" * longest.max_characters + "@web.de"})
