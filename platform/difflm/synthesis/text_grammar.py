"""Free text as an automaton: every token that keeps the JSON string and its UTF-8 whole, with a bound on its length.

Behind the opening quote there are five states: between characters, one to three continuation bytes to come, behind a
backslash. Each has a twin that the decoding loop moves to once a value has its share of tokens: from there a character
under way may be finished, and then only the closing quote is left.
"""

from __future__ import annotations

from collections.abc import Sequence

from difflm.synthesis.automaton import AutomatonBuilder

NORMAL, ESCAPED, BROKEN = 0, 4, -1
_ESCAPES = frozenset(b'"\\/bfnrt')


def byte_step(state: int, byte: int) -> int:
    """One byte inside a JSON string: 0 between characters, 1-3 that many continuation bytes to come, 4 behind a
    backslash, -1 not allowed.
    """
    if state == ESCAPED:
        return NORMAL if byte in _ESCAPES else BROKEN
    if state != NORMAL:
        return state - 1 if 0x80 <= byte <= 0xBF else BROKEN
    if byte < 0x80:
        return ESCAPED if byte == 0x5C else BROKEN if byte < 0x20 or byte == 0x22 else NORMAL
    if 0xC2 <= byte <= 0xF4:
        return 1 if byte < 0xE0 else 2 if byte < 0xF0 else 3
    return BROKEN


def token_step(state: int, value: bytes) -> int:
    """The same for all bytes of a token."""
    for byte in value:
        state = byte_step(state, byte)
        if state == BROKEN:
            return BROKEN
    return state


def add_text(
    builder: AutomatonBuilder, start: int, *, bytes_V: Sequence[bytes], quote: int, most_tokens: int
) -> set[int]:
    """Add quoted text of about `most_tokens` tokens at most (a character under way is finished)."""
    usable = [(index, value) for index, value in enumerate(bytes_V) if value]
    end = builder.state()
    opened = [builder.state() for _ in range(5)]
    closing = [builder.state() for _ in range(5)]
    builder.transitions[start][quote] = opened[NORMAL]
    for state in range(5):
        for index, value in usable:
            after = token_step(state, value)
            if after == BROKEN:
                continue
            builder.transitions[opened[state]][index] = opened[after]
            if state != NORMAL and after < state and len(value) == 1:
                builder.transitions[closing[state]][index] = closing[after]
        builder.bounds[opened[state]] = (closing[state], most_tokens)
    builder.transitions[opened[NORMAL]][quote] = end
    builder.transitions[closing[NORMAL]][quote] = end
    return {end}
