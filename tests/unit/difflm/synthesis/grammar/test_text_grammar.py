"""Free text: exactly the JSON strings that are whole UTF-8, byte by byte."""

import json
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from difflm.synthesis.grammar.automaton import AutomatonBuilder
from difflm.synthesis.grammar.texts import (
    BROKEN,
    CLOSING_TOKENS,
    ESCAPED,
    NORMAL,
    STATES,
    add_text,
    byte_step,
    token_step,
)

BYTES = [bytes([value]) for value in range(256)]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_every_string_as_json_writes_it_is_whole(text: str) -> None:
    assert token_step(NORMAL, json.dumps(text, ensure_ascii=False)[1:-1].encode()) == NORMAL


@given(st.binary(max_size=12))
def test_what_it_accepts_can_be_read(value: bytes) -> None:
    if token_step(NORMAL, value) == NORMAL:
        text = json.loads(b'"' + value + b'"')
        assert text.encode().decode() == text


def test_utf8_is_exact_for_all_first_three_bytes() -> None:
    for lead, second in product(range(0x80, 0x100), range(0x80, 0xC0)):
        for rest in (b"", b"\x80", b"\x80\x80"):
            value = bytes([lead, second]) + rest
            try:
                value.decode()
                whole = True
            except UnicodeDecodeError:
                whole = False
            assert (token_step(NORMAL, value) == NORMAL) == whole, value


@pytest.mark.parametrize("value", [b'"', b"\n", b"\x00", b"\\x", b"\\u0041", b"\\u002", b"\xc0\x80", b"\xed\xa0\x80"])
def test_what_would_break_the_string_is_not_allowed(value: bytes) -> None:
    assert token_step(NORMAL, value) != NORMAL


@pytest.mark.parametrize("value", [rb"\n", rb"\t", rb"\u001f", rb"a\r", b"\\"])
def test_one_line_has_no_control_characters(value: bytes) -> None:
    assert token_step(NORMAL, value, one_line=True) != NORMAL
    assert token_step(NORMAL, rb"\"a\\b\" \/" + "é".encode(), one_line=True) == NORMAL


def test_all_that_is_under_way_can_be_finished_within_the_bound() -> None:
    for state in range(STATES):
        reached, tokens = {state}, 0
        while reached != {NORMAL}:
            reached = {
                after
                for one in reached
                if one != NORMAL
                for byte in range(256)
                if (after := byte_step(one, byte)) != BROKEN
            } or {NORMAL}
            tokens += 1
        assert tokens + 1 <= CLOSING_TOKENS
    assert byte_step(NORMAL, 0x5C) == ESCAPED


def test_an_automaton_of_text_accepts_tokens_of_several_bytes() -> None:
    vocabulary = [*BYTES, b"the ", b'\\"', b'",', "é".encode(), b""]
    builder = AutomatonBuilder()
    start = builder.state()
    (end,) = add_text(builder, start, bytes_V=vocabulary, quote=0x22, max_tokens=4)
    automaton = builder.build(start=start, final=end)
    assert automaton.accepts([0x22, 256, 257, 259, 0x22])
    assert automaton.accepts([0x22, 0x22])
    assert not automaton.accepts([0x22, 258, 0x22])
    assert not automaton.accepts([0x22, 256])
    assert 260 not in automaton.tokens_A.tolist()  # a token that spells nothing would never end


def test_text_that_is_never_empty_has_one_token_at_least_and_the_bound_at_most() -> None:
    builder = AutomatonBuilder()
    start = builder.state()
    (end,) = add_text(builder, start, bytes_V=BYTES, quote=0x22, max_tokens=2, not_empty=True)
    automaton = builder.build(start=start, final=end)
    assert not automaton.accepts([0x22, 0x22])
    assert automaton.accepts([0x22, 0x61, 0x22])
    walks = automaton.walks(1)
    only = torch.tensor([0])
    walks.begin(only, [0])
    for _ in range(2):  # as many as the bound says, then nothing but the quote
        assert int(walks.allowed_BA().sum()) > 1
        walks.advance(only, torch.tensor([automaton.tokens_A.tolist().index(0x61)]))
    assert bool(walks.final_N(only)[0])
