"""Restricted grammars: every walk satisfies the restriction, and every record that satisfies it is in the grammar."""

from functools import cache, partial
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from difflm.errors import ModelError
from difflm.models.compact import fit_compact_tokenizer
from difflm.records.codec import Accepted, Rejected
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.codes import Allowed, IntervalSet, value_code, whole_domain
from difflm.records.kinds.inference import infer_schema
from difflm.records.number_tokens import number_tokens
from difflm.records.schema import DatetimeField, Field, IdentifierField, Record
from difflm.records.tokenization import RecordTokenizer
from difflm.synthesis.grammar.forced_cells import ForcedCells
from difflm.synthesis.grammar.tables import longest_record, record_grammar, table_grammar
from difflm.testing.lockstep import random_walks
from difflm.testing.tables import odd_tables

TEXT_TOKENS = 12
_NUMBERS = [name for decimals in range(16) for name in number_tokens(whole_digits=20, decimals=decimals)]
"""More than any column has; what a column has is for the tests of the decoder's store."""
NAMES = sorted(set(odd_tables()) - {"two_hundred_columns"})


class Setup(NamedTuple):
    codec: JsonRecordCodec
    tokenizer: RecordTokenizer
    literals: list[list[str]]
    records: list[Record]
    longest: int


@cache
def _setup(name: str, pairs: bool = True) -> Setup:
    source = odd_tables()[name]
    codec = JsonRecordCodec(infer_schema(source))
    table = codec.normalize_table(source).table
    literals = codec.value_literals(table)
    columns = list(zip(codec.schema.fields, literals, strict=True))
    fitted = fit_compact_tokenizer(
        fixed_texts=codec.fixed_texts(),
        category_literals=[text for field, column in columns if field.kind == "categorical" for text in column],
        texts=[text for field, column in columns if field.kind == "text" for text in column],
        vocabulary_size=300,
        numbers=_NUMBERS if pairs else [],
    )
    kinds = [field.kind for field in codec.schema.fields]
    tokenizer = RecordTokenizer(fitted, kinds=kinds, fixed_texts=codec.fixed_texts())
    longest = longest_record(codec.schema, tokenizer, text_tokens=TEXT_TOKENS)
    return Setup(codec, tokenizer, literals, list(codec.records_of(table)), longest + 64)


def _texts(setup: Setup, walks: list[list[int]]) -> list[str]:
    bytes_V = setup.tokenizer.pieces.bytes_V
    return [b"".join(bytes_V[token] for token in tokens).decode() for tokens in walks]


def _any_allowed(data: st.DataObject, field: Field, records: list[Record]) -> Allowed:
    """A random part of a domain that holds the value of one of the records, with spans around others' values."""
    own = value_code(field, data.draw(st.sampled_from(records))[field.name])
    whole = whole_domain(field)
    low, high = whole.codes.spans[0][0], whole.codes.spans[-1][1]
    spans = data.draw(
        st.lists(st.tuples(st.integers(low, high), st.integers(0, max(1, (high - low) // 5))), max_size=3)
    )
    codes = IntervalSet.of((start, start + width) for start, width in spans)
    codes |= IntervalSet.points([] if own is None else [own])
    return Allowed(codes=codes, null=own is None or data.draw(st.booleans())) & whole


def _satisfies(record: Record, field: Field, allowed: Allowed) -> bool:
    code = value_code(field, record[field.name])
    return allowed.null if code is None else code in allowed.codes


@settings(max_examples=80, deadline=None)
@given(st.data(), st.sampled_from(NAMES), st.integers(0, 2**32), st.booleans())
def test_walks_and_records_of_any_restriction(data: st.DataObject, name: str, seed: int, pairs: bool) -> None:
    setup = _setup(name, pairs)
    chosen = data.draw(st.sets(st.sampled_from(setup.codec.schema.fields), max_size=3, min_size=1))
    fields = [field for field in setup.codec.schema.fields if field in chosen and field.kind != "text"]
    restriction = {field.name: _any_allowed(data, field, setup.records) for field in fields}
    automaton = table_grammar(setup.codec.schema, setup.tokenizer, text_tokens=TEXT_TOKENS, restriction=restriction)
    for text in _texts(setup, random_walks(automaton, range(4), seed=seed, longest=setup.longest)):
        decoded = setup.codec.decode(text)
        if isinstance(decoded, Accepted):
            for field in fields:
                zoned = isinstance(field, DatetimeField) and "%z" in field.format
                assert zoned or _satisfies(decoded.record, field, restriction[field.name]), text
        else:
            assert decoded.reason == "length" or "zone" in str(decoded.field), decoded
    table = setup.tokenizer.encode(setup.literals, setup.tokenizer.layout(setup.literals))
    for row, record in enumerate(setup.records):
        accepted = automaton.accepts(table.ids_NT[row, : table.lengths_N[row]].tolist())
        assert accepted == all(_satisfies(record, field, restriction[field.name]) for field in fields)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(NAMES), st.integers(0, 2**32), st.booleans())
def test_given_cells_stand_and_the_others_vary(data: st.DataObject, name: str, seed: int, pairs: bool) -> None:
    setup = _setup(name, pairs)
    places = range(len(setup.codec.schema.fields))
    rows = data.draw(st.lists(st.integers(0, len(setup.records) - 1), min_size=1, max_size=4))
    known = [data.draw(st.sets(st.sampled_from(places))) for _ in rows]
    cells = [{place: setup.literals[place][row] for place in given} for row, given in zip(rows, known, strict=True)]
    grammar = record_grammar(setup.codec.schema, setup.tokenizer, text_tokens=TEXT_TOKENS)
    constraint = ForcedCells.of(grammar, setup.tokenizer, lambda index: cells[index])
    walks = random_walks(constraint, range(len(rows)), seed=seed, longest=setup.longest + 400)
    for row, given_places, tokens, text in zip(rows, known, walks, _texts(setup, walks), strict=True):
        assert grammar.automaton.accepts(tokens)
        decoded = setup.codec.decode(text)
        if isinstance(decoded, Accepted):
            for place in given_places:
                column = setup.codec.schema.names[place]
                if isinstance(setup.codec.schema.fields[place], IdentifierField):
                    continue  # a record's text does not say which row it names
                assert decoded.record[column] == setup.records[row][column]
        else:
            assert decoded.reason in ("length", "range"), decoded


def _opened(setup: Setup, tokens: list[int]) -> list[int]:
    opening = [ids[0] for ids in setup.tokenizer.fixed_ids[:-1]]
    return [opening.index(token) for token in tokens if token in opening]


@settings(max_examples=80, deadline=None)
@given(st.data(), st.sampled_from(NAMES), st.integers(0, 2**32))
def test_what_is_asked_for_is_written_first(data: st.DataObject, name: str, seed: int) -> None:
    """Given cells, then restricted fields in their order, then the others, and a record of them all the same."""
    setup = _setup(name)
    schema, places = setup.codec.schema, range(len(setup.codec.schema.fields))
    chosen = data.draw(st.lists(st.sampled_from(places), max_size=3, unique=True))
    first = [place for place in chosen if schema.fields[place].kind != "text"]
    restriction = {
        schema.names[place]: _any_allowed(data, schema.fields[place], setup.records)
        for place in first
        if whole_domain(schema.fields[place]).codes.spans
    }
    others = [place for place in places if place not in first]
    rows = data.draw(st.lists(st.integers(0, len(setup.records) - 1), min_size=1, max_size=4))
    known = [data.draw(st.sets(st.sampled_from(others))) if others else set[int]() for _ in rows]
    cells = [{place: setup.literals[place][row] for place in given} for row, given in zip(rows, known, strict=True)]
    grammar = record_grammar(schema, setup.tokenizer, text_tokens=TEXT_TOKENS, restriction=restriction, first=first)
    constraint = ForcedCells.of(grammar, setup.tokenizer, lambda index: cells[index], ahead=True)
    walks = random_walks(constraint, range(len(rows)), seed=seed, longest=setup.longest + 400)
    ordered = [setup.tokenizer.in_order(tokens) for tokens in walks]
    for row, given_places, tokens, text in zip(rows, known, walks, _texts(setup, ordered), strict=True):
        rest = [place for place in others if place not in given_places]
        assert _opened(setup, tokens) == [*sorted(given_places), *first, *rest]
        decoded = setup.codec.decode(text)
        if not isinstance(decoded, Accepted):
            assert decoded.reason in ("length", "range") or "zone" in str(decoded.field), decoded
            continue
        for place in given_places:
            if isinstance(schema.fields[place], IdentifierField):
                continue  # a record's text does not say which row it names
            assert decoded.record[schema.names[place]] == setup.records[row][schema.names[place]]
        for name, allowed in restriction.items():
            field = schema.field(name)
            zoned = isinstance(field, DatetimeField) and "%z" in field.format
            assert zoned or _satisfies(decoded.record, field, allowed), text


@pytest.mark.parametrize("name", sorted(odd_tables()))
def test_with_pairs_every_value_says_where_it_ends(name: str) -> None:
    setup = _setup(name)
    grammar = record_grammar(setup.codec.schema, setup.tokenizer, text_tokens=TEXT_TOKENS)
    assert grammar.open_states is not None
    assert len(grammar.open_states) == len(setup.codec.schema.fields) + 1


def test_numbers_in_digits_do_not() -> None:
    setup = _setup("all_numeric", False)
    assert record_grammar(setup.codec.schema, setup.tokenizer, text_tokens=TEXT_TOKENS).open_states is None


def test_a_record_of_given_cells_only_is_those_cells() -> None:
    setup = _setup("all_numeric")
    grammar = record_grammar(setup.codec.schema, setup.tokenizer, text_tokens=TEXT_TOKENS)
    cells = {place: column[3] for place, column in enumerate(setup.literals)}
    constraint = ForcedCells.of(grammar, setup.tokenizer, lambda index: cells, ahead=True)
    (text,) = _texts(setup, random_walks(constraint, [0], seed=0, longest=setup.longest))
    assert text == setup.codec.encode(setup.records[3])


def test_ahead_of_nothing_it_is_the_automaton_of_that_order() -> None:
    setup = _setup("free_text")
    grammar = record_grammar(setup.codec.schema, setup.tokenizer, text_tokens=TEXT_TOKENS, first=[1, 0])
    free = ForcedCells.of(grammar, setup.tokenizer, lambda index: {}, ahead=True)
    for seed in range(5):
        expected = random_walks(grammar.automaton, range(6), seed=seed, longest=setup.longest)
        assert random_walks(free, range(6), seed=seed, longest=setup.longest) == expected


def test_a_cell_ahead_that_cannot_be_spelled_is_a_dead_end(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = _setup("all_categorical")
    grammar = record_grammar(setup.codec.schema, setup.tokenizer, text_tokens=TEXT_TOKENS)
    spelled = setup.tokenizer.literal_ids

    def literal_ids(place: int, literal: str) -> tuple[int, ...]:
        if literal == '"\u2603"':
            raise ModelError("no token for a character of it")
        return spelled(place, literal)

    monkeypatch.setattr(setup.tokenizer, "literal_ids", literal_ids)
    cells = [{0: '"\u2603"', 1: setup.literals[1][0]}, {1: setup.literals[1][0]}]
    walks = ForcedCells.of(grammar, setup.tokenizer, lambda index: cells[index], ahead=True).walks(2)
    slots = torch.tensor([0, 1])
    walks.begin(slots, [0, 1])
    assert walks.final_N(slots).tolist() == [False, False]
    assert walks.allowed_BA().any(dim=1).tolist() == [False, True]


def test_without_given_cells_it_is_the_automaton() -> None:
    setup = _setup("free_text")
    grammar = record_grammar(setup.codec.schema, setup.tokenizer, text_tokens=TEXT_TOKENS)
    free = ForcedCells.of(grammar, setup.tokenizer, lambda index: {})
    for seed in range(5):
        expected = random_walks(grammar.automaton, range(6), seed=seed, longest=setup.longest)
        assert random_walks(free, range(6), seed=seed, longest=setup.longest) == expected


def test_a_given_value_that_the_grammar_lacks_stands_and_is_judged() -> None:
    setup = _setup("all_categorical")
    grammar = record_grammar(setup.codec.schema, setup.tokenizer, text_tokens=TEXT_TOKENS)
    constraint = ForcedCells.of(grammar, setup.tokenizer, lambda index: {1: '"zzz"'})
    walks = random_walks(constraint, [0, 1], seed=0, longest=setup.longest)
    for text in _texts(setup, walks):
        decoded = setup.codec.decode(text)
        assert isinstance(decoded, Rejected)
        assert (decoded.reason, decoded.field) == ("category", setup.codec.schema.names[1])


def test_a_given_value_that_cannot_be_spelled_is_a_dead_end(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = _setup("all_categorical")
    grammar = record_grammar(setup.codec.schema, setup.tokenizer, text_tokens=TEXT_TOKENS)
    spelled = setup.tokenizer.literal_ids

    def literal_ids(place: int, literal: str) -> tuple[int, ...]:
        if literal == '"\u2603"':
            raise ModelError("no token for a character of it")
        return spelled(place, literal)

    monkeypatch.setattr(setup.tokenizer, "literal_ids", literal_ids)
    cells = [{0: '"\u2603"'}, {0: setup.literals[0][0]}]
    walks = ForcedCells.of(grammar, setup.tokenizer, lambda index: cells[index]).walks(2)
    slots = torch.tensor([0, 1])
    walks.begin(slots, [0, 1])
    assert walks.final_N(slots).tolist() == [False, False]
    assert walks.allowed_BA().any(dim=1).tolist() == [False, True]


def test_a_restriction_that_leaves_nothing_is_named() -> None:
    setup = _setup("all_numeric")
    nothing = {"price": Allowed(codes=IntervalSet(), null=False)}
    with pytest.raises(ValueError, match="'price': the restriction leaves no value"):
        table_grammar(setup.codec.schema, setup.tokenizer, text_tokens=TEXT_TOKENS, restriction=nothing)


def test_a_day_between_two_midnights_leaves_only_the_missing() -> None:
    """A span of moments need not hold a whole day; where the column may be missing, that is what is left."""
    setup = _setup("missing_everywhere")
    (field,) = (field for field in setup.codec.schema.fields if field.kind == "datetime")
    moment = whole_domain(field).codes.spans[0][0] + 1
    build = partial(table_grammar, setup.codec.schema, setup.tokenizer, text_tokens=TEXT_TOKENS)
    codes = IntervalSet.points([moment])
    with pytest.raises(ValueError, match=f"'{field.name}': the restriction leaves no value"):
        build(restriction={field.name: Allowed(codes=codes, null=False)})
    automaton = build(restriction={field.name: Allowed(codes=codes, null=True)})
    for text in _texts(setup, random_walks(automaton, range(4), seed=0, longest=setup.longest)):
        decoded = setup.codec.decode(text)
        assert isinstance(decoded, Accepted)
        assert decoded.record[field.name] is None
