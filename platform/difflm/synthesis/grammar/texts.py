"""Free text as an automaton: every token that keeps the JSON string and its UTF-8 whole, with a bound on its length.

Behind the opening quote, a state says what the character or escape under way still needs. Each state has a twin that
the decoding loop moves to once a value has its share of tokens: from there what is under way may be finished, byte by
byte, and then only the closing quote is left. Within a character or an escape the states only count down, so it ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from difflm.synthesis.grammar.automaton import AutomatonBuilder

NORMAL, BROKEN = 0, -1
_LEFT_1, _LEFT_2, _LEFT_3 = 1, 2, 3  # continuation bytes to come
_AFTER_E0, _AFTER_ED, _AFTER_F0, _AFTER_F4 = 4, 5, 6, 7  # the next byte is limited: no overlong form, no surrogate
_HEX, _ZERO_OR_ONE, _SECOND_ZERO, _FIRST_ZERO, ESCAPED = 8, 9, 10, 11, 12
STATES = 13
CLOSING_TOKENS = 6  # at most: what finishes an escape of five bytes, and the quote

_ESCAPES = frozenset(b'"\\/bfnrt')
_PRINTED = frozenset(b'"\\/')  # escapes that are no control characters
_NEXT: dict[int, tuple[int, int, int]] = {  # state: lowest and highest next byte, the state behind it
    _LEFT_1: (0x80, 0xBF, NORMAL),
    _LEFT_2: (0x80, 0xBF, _LEFT_1),
    _LEFT_3: (0x80, 0xBF, _LEFT_2),
    _AFTER_E0: (0xA0, 0xBF, _LEFT_1),
    _AFTER_ED: (0x80, 0x9F, _LEFT_1),
    _AFTER_F0: (0x90, 0xBF, _LEFT_2),
    _AFTER_F4: (0x80, 0x8F, _LEFT_2),
    _ZERO_OR_ONE: (0x30, 0x31, _HEX),
    _SECOND_ZERO: (0x30, 0x30, _ZERO_OR_ONE),
    _FIRST_ZERO: (0x30, 0x30, _SECOND_ZERO),
}
_LEADS = {0xE0: _AFTER_E0, 0xED: _AFTER_ED, 0xF0: _AFTER_F0, 0xF4: _AFTER_F4}


def byte_step(state: int, byte: int, *, one_line: bool = False) -> int:
    """Advance the state by one byte inside a JSON string: NORMAL between characters, BROKEN where it is not allowed.

    UTF-8 as in RFC 3629; escapes as `json.dumps` writes them: one character, or the control characters \\u0000-\\u001f.
    With `one_line` there are no control characters, of which line breaks are some.
    """
    if state == NORMAL:
        return _first_byte(byte)
    if state == ESCAPED and one_line:
        return NORMAL if byte in _PRINTED else BROKEN
    if state == ESCAPED:
        return NORMAL if byte in _ESCAPES else _FIRST_ZERO if byte == 0x75 else BROKEN
    if state == _HEX:
        return NORMAL if byte in b"0123456789abcdef" else BROKEN
    low, high, after = _NEXT[state]
    return after if low <= byte <= high else BROKEN


def _first_byte(byte: int) -> int:
    if byte < 0x80:
        return ESCAPED if byte == 0x5C else BROKEN if byte < 0x20 or byte == 0x22 else NORMAL
    if byte in _LEADS:
        return _LEADS[byte]
    if 0xC2 <= byte <= 0xF3:
        return _LEFT_1 if byte < 0xE0 else _LEFT_2 if byte < 0xF0 else _LEFT_3
    return BROKEN


def token_step(state: int, value: bytes, *, one_line: bool = False) -> int:
    """Advance the state by all bytes of a token, as `byte_step` does by one."""
    for byte in value:
        state = byte_step(state, byte, one_line=one_line)
        if state == BROKEN:
            return BROKEN
    return state


def add_text(
    builder: AutomatonBuilder,
    start: int,
    *,
    bytes_V: Sequence[bytes],
    quote: int,
    max_tokens: int,
    not_empty: bool = False,
    one_line: bool = False,
) -> set[int]:
    """Add quoted text of `max_tokens` tokens at most, and those that finish a character under way; with `not_empty`
    the quote that closes it cannot be the first thing behind the one that opens it, with `one_line` it has no control
    characters.
    """
    usable = [(index, value) for index, value in enumerate(bytes_V) if value]
    end = builder.state()
    opened = [builder.state() for _ in range(STATES)]
    closing = [builder.state() for _ in range(STATES)]
    first = builder.state() if not_empty else opened[NORMAL]
    builder.transitions[start][quote] = first
    # The steps that count begin with the quote, or behind a first token that the bound does not see.
    limit = max_tokens - 1 if not_empty else max_tokens
    for state in range(STATES):
        for index, value in usable:
            after = token_step(state, value, one_line=one_line)
            if after == BROKEN:
                continue
            builder.transitions[opened[state]][index] = opened[after]
            if state != NORMAL and len(value) == 1:
                builder.transitions[closing[state]][index] = closing[after]
        builder.bounds[opened[state]] = (closing[state], limit)
    if not_empty:
        builder.transitions[first].update(builder.transitions[opened[NORMAL]])
    builder.transitions[opened[NORMAL]][quote] = end
    builder.transitions[closing[NORMAL]][quote] = end
    return {end}
