"""Numbers between fixed texts: what the grammars write is a record, and they write all of training."""

from __future__ import annotations

import random

import pyarrow as pa
from llguidance import LLMatcher
from llguidance.hf import from_tokenizer

from difflm.records.codec import Accepted
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.inference import infer_schema
from difflm.records.kinds.number_spans import has_spans
from difflm.records.schema import CodeField
from difflm.records.tokenization import RecordTokenizer
from difflm.synthesis.grammar.lark import table_lark
from difflm.synthesis.grammar.tables import longest_record, table_grammar
from difflm.testing.lockstep import random_walks
from difflm.testing.models import byte_level_tokenizer

TOKENIZER = byte_level_tokenizer("gpt2")


def measured() -> pa.Table:
    draw = random.Random(4)
    rows = []
    for _ in range(150):
        low = draw.randint(1, 70)
        rows.append({
            "pressure": f"{draw.randint(95, 185)}/{draw.randint(55, 115)}",
            "ages": draw.choice(["95+", "unknown"]) if draw.random() < 0.1 else f"{low}–{low + draw.randint(0, 25)}",
            "size": f"{draw.uniform(1, 120):.1f} x {draw.uniform(1, 20):.1f} cm",
            "screen": f'{draw.randint(5, 99)}" x {draw.randint(5, 99)}" \\',
            "seen": f"{draw.randint(1, 31)}. {draw.choice(['März', 'Mai', 'Juni'])}, {draw.randint(0, 23):02d}:30 Uhr",
        })  # fmt: skip
    return pa.Table.from_pylist(rows)


def test_no_record_is_rejected_for_its_numbers() -> None:
    table = measured()
    schema = infer_schema(table)
    assert all(isinstance(field, CodeField) and has_spans(field.shapes[0]) for field in schema.fields)
    codec = JsonRecordCodec(schema)
    kinds = [field.kind for field in schema.fields]
    tokenizer = RecordTokenizer(TOKENIZER, kinds=kinds, fixed_texts=codec.fixed_texts())
    automaton = table_grammar(schema, tokenizer, text_tokens=8)
    known = from_tokenizer(TOKENIZER)
    start = LLMatcher(known, table_lark(schema).serialized())
    assert not start.is_error(), start.get_error()
    for walk in random_walks(automaton, range(200), seed=0, longest=longest_record(schema, tokenizer, text_tokens=8)):
        text = b"".join(tokenizer.pieces.bytes_V[token] for token in walk).decode()
        assert isinstance(codec.decode(text), Accepted), text
        matcher, tokens = start.deep_copy(), known.tokenize_str(text)
        assert matcher.try_consume_tokens(tokens) == len(tokens), text
        assert matcher.is_stopped()
    for line in codec.encode_table(table):
        matcher, tokens = start.deep_copy(), known.tokenize_str(line)
        assert matcher.try_consume_tokens(tokens) == len(tokens), line
