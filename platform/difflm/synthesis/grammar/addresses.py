"""Addresses of mail, of the web and of machines as an automaton: what it writes is of the form that `ADDRESSES` knows.

The form is one of ASCII characters, of which none is escaped in JSON, so that they can be counted: no address is longer
than those of training. Where that takes too many states, each has a twin, as in free text, that the decoding loop moves
to once a value has its share of tokens: from there each byte leads one step nearer to an end.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from difflm.records.fields import Address
from difflm.synthesis.grammar.automaton import AutomatonBuilder

_BROKEN: Final = -1
_LETTERS: Final = string.ascii_letters
_LABEL: Final = _LETTERS + string.digits + "_-"
_NO_URL: Final = '"<>\\'
_PLACE: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in _NO_URL)
_HOST: Final = "".join(letter for letter in _PLACE if letter not in "/?#")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """Steps by byte from each state, 0 the first, and those in which an address may end."""

    steps: tuple[dict[int, int], ...]
    ends: frozenset[int]

    def after(self, state: int, value: bytes) -> int:
        """Return the state behind some bytes, _BROKEN where they do not fit."""
        for byte in value:
            state = self.steps[state].get(byte, _BROKEN)
            if state == _BROKEN:
                break
        return state

    def distances(self) -> list[int]:
        """Return by state the fewest bytes to an end."""
        found = dict.fromkeys(self.ends, 0)
        reached = set(found)
        while reached:
            reached = {
                state
                for state, row in enumerate(self.steps)
                if state not in found and not reached.isdisjoint(row.values())
            }
            found |= dict.fromkeys(reached, 1 + max(found.values()))
        return [found[state] for state in range(len(self.steps))]


def _row(*parts: tuple[str, int]) -> dict[int, int]:
    return {ord(letter): state for letters, state in parts for letter in letters}


def _email() -> _Form:
    local = _LABEL + ".+'"
    digits = string.digits + "_-"
    host, dot, letter, word, mixed = 3, 4, 5, 6, 7
    behind_dot = _row((_LETTERS, letter), (digits, mixed))
    steps = (
        _row((local, 1)),
        _row((local, 1), ("@", 2)),
        _row((_LABEL, host)),
        _row((_LABEL, host), (".", dot)),
        behind_dot,
        _row((_LETTERS, word), (digits, mixed), (".", dot)),
        _row((_LETTERS, word), (digits, mixed), (".", dot)),
        _row((_LABEL, mixed), (".", dot)),
    )
    return _Form(steps=steps, ends=frozenset({word}))


def _url() -> _Form:
    """Schemes are h-t-t-p, h-t-t-p-s and f-t-p; behind them two slashes, a host, and anything."""
    colon, slashes, host, path = 8, 9, 11, 12
    steps = (
        _row(("h", 1), ("f", 6)),
        *(_row((letter, state)) for state, letter in enumerate("ttp", 2)),
        _row(("s", 5), (":", colon)),
        _row((":", colon)),
        _row(("t", 7)),
        _row(("p", 5)),
        _row(("/", slashes)),
        _row(("/", 10)),
        _row((_HOST, host)),
        _row((_HOST, host), ("/?#", path)),
        _row((_PLACE, path)),
    )
    return _Form(steps=steps, ends=frozenset({host, path}))


def _ipv4(behind: str) -> _Form:
    """Four numbers up to 255, divided by points; behind them `/` and a prefix length, `:` and a port, or none."""
    digits, steps, last = string.digits, list[dict[int, int]](), 28
    for start in range(0, last, 7):
        whole, one, two, high, top, single = range(start + 1, start + 7)
        end = (("." if start + 7 < last else behind, start + 7),)
        steps += [
            _row(("0", whole), ("1", one), ("2", high), (digits[3:], single)),
            _row(*end),
            _row((digits, two), *end),
            _row((digits, whole), *end),
            _row((digits[:5], two), ("5", top), (digits[6:], whole), *end),
            _row((digits[:6], whole), *end),
            _row((digits, whole), *end),
        ]
    if behind == "/":
        steps += [_row(("0456789", 29), ("12", 30), ("3", 31)), {}, _row((digits, 29)), _row(("012", 29))]
    elif behind == ":":
        steps += [*(_row((digits, last + count)) for count in range(1, 6)), {}]
    return _Form(steps=tuple(steps), ends=frozenset(range(last + 1, len(steps)) if behind else range(22, last)))


_FORMS: Final = {"email": _email(), "url": _url(), "ipv4": _ipv4(""), "cidr": _ipv4("/"), "endpoint": _ipv4(":")}
_MAX_TRANSITIONS: Final = 2_000_000
CLOSING_TOKENS: Final = 1 + max(max(form.distances()) for form in _FORMS.values())
"""At most: what brings an address to an end, and the quote."""


def add_address(
    builder: AutomatonBuilder,
    start: int,
    language: Address,
    *,
    bytes_V: Sequence[bytes],
    quote: int,
    max_characters: int,
    max_tokens: int,
) -> set[int]:
    """Add quoted addresses of `max_characters` at most. Where counting these takes too many states, or more tokens than
    there may be, it is `max_tokens` that bound them, and those that bring one to its end.
    """
    form, end = _FORMS[language], builder.state()
    steps = [
        [(token, form.after(state, value), len(value)) for token, value in enumerate(bytes_V) if value]
        for state in range(len(form.steps))
    ]
    fitting = [[step for step in row if step[1] != _BROKEN] for row in steps]
    counted = max_characters <= max_tokens and max_characters * sum(map(len, fitting)) <= _MAX_TRANSITIONS
    add = _counted if counted else _bounded
    first = add(builder, form, fitting, quote, end, max_characters if counted else max_tokens)
    builder.transitions[start][quote] = first
    return {end}


_Steps: TypeAlias = Sequence[Sequence[tuple[int, int, int]]]
"""By state of a form: tokens, the states behind them, and how many characters they have."""


def _counted(builder: AutomatonBuilder, form: _Form, steps: _Steps, quote: int, end: int, most: int) -> int:
    """Add a state for each of the form and each number of characters that are left; return the first one."""
    distances, states = form.distances(), dict[tuple[int, int], int]()
    for left in range(most + 1):
        for state, distance in enumerate(distances):
            if distance <= left:
                states[state, left] = builder.state()
    for (state, left), made in states.items():
        row = builder.transitions[made]
        for token, after, length in steps[state]:
            target = states.get((after, left - length))
            if target is not None:
                row[token] = target
        if state in form.ends:
            row[quote] = end
    return states[0, most]


def _bounded(builder: AutomatonBuilder, form: _Form, steps: _Steps, quote: int, end: int, most: int) -> int:
    """Add the states of the form and their twins; return the first one."""
    distances = form.distances()
    opened, closing = ([builder.state() for _ in form.steps] for _ in range(2))
    for state, row in enumerate(steps):
        for token, after, length in row:
            builder.transitions[opened[state]][token] = opened[after]
            if length == 1 and distances[after] < distances[state]:
                builder.transitions[closing[state]][token] = closing[after]
        builder.bounds[opened[state]] = (closing[state], most)
        if state in form.ends:
            builder.transitions[opened[state]][quote] = end
            builder.transitions[closing[state]][quote] = end
    return opened[0]
