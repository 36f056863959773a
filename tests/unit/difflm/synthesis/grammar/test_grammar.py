"""The grammar of a table: every training row is in it, and every walk through it is a record."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from difflm.models.compact import fit_compact_tokenizer
from difflm.records.codec import Accepted, Decoded
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import DatetimeField
from difflm.records.tokenization import RecordTokenizer
from difflm.synthesis.grammar.automaton import Automaton
from difflm.synthesis.grammar.tables import longest_record, table_grammar
from difflm.testing.lockstep import random_walks
from difflm.testing.models import DECODER_FAMILIES
from difflm.testing.tables import odd_tables

TABLES = odd_tables()
TEXT_TOKENS = 12


class Setup(NamedTuple):
    codec: JsonRecordCodec
    literals: list[list[str]]
    tokenizer: RecordTokenizer
    automaton: Automaton
    longest: int


_SETUPS: dict[str, Setup] = {}


def _compact(codec: JsonRecordCodec, literals: list[list[str]]) -> PreTrainedTokenizerBase:
    columns = list(zip(codec.schema.fields, literals, strict=True))
    return fit_compact_tokenizer(
        fixed_texts=codec.fixed_texts(),
        category_literals=[text for field, column in columns if field.kind == "categorical" for text in column],
        texts=[text for field, column in columns if field.kind == "text" for text in column],
        vocabulary_size=300,
    )


def _setup(name: str, tokenizer: PreTrainedTokenizerBase | None = None) -> Setup:
    if tokenizer is None and name in _SETUPS:
        return _SETUPS[name]
    codec = JsonRecordCodec(infer_schema(TABLES[name]))
    literals = codec.value_literals(codec.normalize_table(TABLES[name]).table)
    kinds = [field.kind for field in codec.schema.fields]
    records = RecordTokenizer(tokenizer or _compact(codec, literals), kinds=kinds, fixed_texts=codec.fixed_texts())
    setup = Setup(
        codec,
        literals,
        records,
        table_grammar(codec.schema, records, text_tokens=TEXT_TOKENS),
        longest_record(codec.schema, records, text_tokens=TEXT_TOKENS),
    )
    return _SETUPS.setdefault(name, setup) if tokenizer is None else setup


def _check_training_rows(setup: Setup) -> None:
    table = setup.tokenizer.encode(setup.literals, setup.tokenizer.layout(setup.literals))
    for ids, length in zip(table.ids_NT.tolist(), table.lengths_N.tolist(), strict=True):
        assert setup.automaton.accepts(ids[:length]), b"".join(setup.tokenizer.pieces.bytes_V[i] for i in ids[:length])


def _walk(setup: Setup, count: int, seed: int) -> list[Decoded]:
    walks = random_walks(setup.automaton, range(count), seed=seed, longest=setup.longest)
    bytes_V = setup.tokenizer.pieces.bytes_V
    return [setup.codec.decode(b"".join(bytes_V[token] for token in tokens).decode()) for tokens in walks]


def _check_walks(setup: Setup, decoded: list[Decoded]) -> None:
    zoned = {f.name for f in setup.codec.schema.fields if isinstance(f, DatetimeField) and "%z" in f.format}
    for item in decoded:
        if not isinstance(item, Accepted):
            on_a_zoned_date = any(item.detail.startswith(repr(name)) for name in zoned)
            assert item.reason == "length" or (on_a_zoned_date and item.reason == "range"), item


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_training_row_is_in_the_grammar(name: str) -> None:
    _check_training_rows(_setup(name))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(set(TABLES) - {"two_hundred_columns"})), st.integers(0, 2**32))
def test_every_walk_is_a_record(name: str, seed: int) -> None:
    setup = _setup(name)
    _check_walks(setup, _walk(setup, 8, seed))


def test_wide_tables_too() -> None:
    setup = _setup("two_hundred_columns")
    _check_walks(setup, _walk(setup, 4, 0))


@pytest.mark.parametrize("family", DECODER_FAMILIES)
@pytest.mark.parametrize("name", ["missing_everywhere", "odd_names", "dates", "free_text"])
def test_with_every_familys_tokenizer(name: str, family: str, saved_decoder: Callable[[str], Path]) -> None:
    setup = _setup(name, AutoTokenizer.from_pretrained(saved_decoder(family)))
    _check_training_rows(setup)
    _check_walks(setup, _walk(setup, 8, 0))


def test_what_training_never_had_is_not_in_the_grammar() -> None:
    setup = _setup("all_numeric")
    columns = {name: [literals[0]] for name, literals in zip(setup.codec.schema.names, setup.literals, strict=True)}
    layout = setup.tokenizer.layout(setup.literals)

    def accepts(**changed: str) -> bool:
        table = setup.tokenizer.encode([[changed.get(name, row[0])] for name, row in columns.items()], layout)
        return setup.automaton.accepts(table.ids_NT[0, : table.lengths_N[0]].tolist())

    assert accepts()
    assert not any(accepts(row=text) for text in ("60", "-1", "07", "null"))
    assert not any(accepts(price=text) for text in ("0.001", "1e3", "-1.00"))


def test_text_ends_when_its_tokens_are_spent() -> None:
    setup = _setup("free_text")
    (quote,) = setup.tokenizer.pieces.characters('"')
    walks, slot = setup.automaton.walks(1), torch.tensor([0])
    run = walks.begin(slot, [0])
    tokens = run.tokens_NF[0, : run.lengths_N[0]].tolist()
    while not bool(walks.final_N(slot).all()):  # a model that would never end a text
        allowed = walks.allowed_BA()[0].nonzero().squeeze(1)
        others = allowed[setup.automaton.tokens_A[allowed] != quote]
        run = walks.advance(slot, (others if len(others) else allowed)[:1])
        tokens += run.tokens_NF[0, : run.lengths_N[0]].tolist()
    quotes = [place for place, token in enumerate(tokens) if token == quote]
    assert len(quotes) >= 2
    assert quotes[1] - quotes[0] - 1 in range(TEXT_TOKENS, TEXT_TOKENS + 6)


def test_tokens_that_do_the_same_share_a_column() -> None:
    automaton = _setup("free_text").automaton
    assert automaton.next_SC.shape[1] < len(automaton.tokens_A) / 3
    allowed = automaton.allowed_BA(torch.arange(automaton.next_SC.shape[0]))
    assert allowed.shape == (automaton.next_SC.shape[0], len(automaton.tokens_A))
    assert np.all(allowed[automaton.final].numpy() == 0)
