"""Numbers and codes as automata: exactly the digits, decimal places and ranges of a column, or the forms of its codes.

A number is worked on as its magnitude scaled to a whole number (12.50 with two places is 1250). For every range and
every length that a magnitude in it can have, a walk over its digits is tight to the lower bound, to the upper bound, to
both or to neither; the sets of walks that one text may belong to are the automaton's states.

Tokenizers with number tokens write pairs of digits (`records.number_tokens`): the same walks, two digits a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from difflm.errors import SchemaError
from difflm.records.fields import Form, Span
from difflm.records.kinds.codes import IntervalSet
from difflm.records.kinds.literals import quote
from difflm.records.kinds.number_spans import choices, has_spans, is_readable, span_of, texts_of
from difflm.records.number_tokens import leading_token, pair_token
from difflm.synthesis.grammar.automaton import AutomatonBuilder
from difflm.synthesis.grammar.chains import Numbers, Part, Words, add_quoted_chains

_MOST_IN_ORDER: Final = 256


@dataclass(frozen=True, slots=True)
class _Walk:
    """A magnitude of `length` digits between two bounds, `done` digits of it written."""

    low: str
    high: str
    done: int
    tight_low: bool
    tight_high: bool

    @property
    def length(self) -> int:
        return len(self.high)

    def step(self, digit: str) -> _Walk | None:
        low, high = self.low[self.done], self.high[self.done]
        if (self.tight_low and digit < low) or (self.tight_high and digit > high):
            return None
        return _Walk(
            self.low, self.high, self.done + 1, self.tight_low and digit == low, self.tight_high and digit == high
        )

    def key(self) -> tuple[object, ...]:
        """Return the key that distinguishes walks from here on: bounds matter only while tight."""
        return (
            self.length,
            self.done,
            self.low[self.done :] if self.tight_low else None,
            self.high[self.done :] if self.tight_high else None,
        )


def add_number(
    builder: AutomatonBuilder,
    start: int,
    *,
    ranges: IntervalSet,
    decimals: int,
    suffix: str,
    token: Mapping[str, int],
    pairs: Mapping[str, int] | None = None,
) -> set[int]:
    """Add all numbers whose scaled value is in `ranges`; return the states in which a number may end.

    `suffix` is a fixed end such as `e300`; `token` maps each of `0123456789-.e` to its token id, `pairs` the names of
    number tokens to theirs, where there are any.
    """
    ends: set[int] = set()
    positive = [(max(low, 0), high) for low, high in ranges.spans if high >= 0]
    negative = [(max(-high, 1), -low) for low, high in ranges.spans if low < 0]
    if positive:
        ends |= _add_magnitudes(builder, start, positive, decimals, token, pairs)
    if negative:
        ends |= _add_magnitudes(builder, builder.follow(start, token["-"]), negative, decimals, token, pairs)
    if not suffix:
        return ends
    first = builder.join(ends, token[suffix[0]])
    return {builder.chain(first, (token[c] for c in suffix[1:]))}


def add_words(
    builder: AutomatonBuilder, start: int, words: Iterable[str], characters: Callable[[str], Sequence[int]]
) -> set[int]:
    """Add quoted words beside numbers or dates; `characters` gives a text's tokens one by one."""
    return {builder.chain(start, characters(quote(word))) for word in words}


def add_codes(
    builder: AutomatonBuilder, start: int, forms: Sequence[Form], characters: Callable[[str], Sequence[int]]
) -> set[int]:
    """Add all quoted codes of the forms: states are the sets of forms that a beginning may still belong to.

    Numbers in them are in order where the one before has few values; others may come out of order, and such draws are
    rejected. SchemaError where numbers touch each other.
    """
    if any(map(has_spans, forms)):
        if not all(map(is_readable, forms)):
            raise SchemaError(
                "numbers in a form of codes touch each other: the schema is damaged, prepare the data again"
            )
        chains = (_parts(ordered) for form in forms for ordered in _ordered(form))
        return add_quoted_chains(builder, start, chains, characters)
    shapes = [tuple(place for place in form if isinstance(place, str)) for form in forms]
    opened = builder.chain(start, characters('"'))
    known = {(0, frozenset(range(len(shapes)))): opened}
    todo, ends = list(known), set[int]()
    while todo:
        place, mine = key = todo.pop()
        if any(len(shapes[shape]) == place for shape in mine):
            ends.add(known[key])
        going = [shape for shape in mine if len(shapes[shape]) > place]
        for letter in sorted({letter for shape in going for letter in shapes[shape][place]}):
            after = (place + 1, frozenset(shape for shape in going if letter in shapes[shape][place]))
            if after not in known:
                known[after] = builder.state()
                todo.append(after)
            *first, last = characters(letter)
            builder.transitions[builder.chain(known[key], first)][last] = known[after]
    return {builder.join(sorted(ends), characters('"')[0])}


def _parts(form: Form) -> list[Part]:
    return [
        Words(frozenset(quote(text)[1:-1] for text in texts_of(place)))
        if (span := span_of(place)) is None
        else Numbers(*span[:3])
        for place in form
    ]


def _ordered(form: Form) -> Iterator[Form]:
    """Yield a form for every value of the first number that has the next one in an order, if it has few."""
    spans = [(place, span) for place, one in enumerate(form) if (span := span_of(one)) is not None]
    for (before, first), (place, (low, high, digits, order)) in pairwise(spans):
        if not order or choices(first) > _MOST_IN_ORDER:
            continue
        for number in range(first[0], first[1] + 1):
            least, most = (max(low, number), high) if order > 0 else (low, min(high, number))
            if least <= most:
                known: Span = (number, number, first[2], first[3])
                rest: Span = (least, most, digits, 0)
                yield (*form[:before], known, *form[before + 1 : place], rest, *form[place + 1 :])
        return
    yield form


def _add_magnitudes(
    builder: AutomatonBuilder,
    start: int,
    ranges: Sequence[tuple[int, int]],
    decimals: int,
    token: Mapping[str, int],
    pairs: Mapping[str, int] | None,
) -> set[int]:
    walks = []
    for low, high in ranges:
        for length in range(decimals + 1, max(len(str(high)), decimals + 1) + 1):
            first = max(low, 10 ** (length - 1) if length > decimals + 1 else 0)
            last = min(high, 10**length - 1)
            if first <= last:
                walks.append(_Walk(str(first).zfill(length), str(last).zfill(length), 0, True, True))
    if pairs:
        return _Pairs(builder, decimals, pairs).add(start, frozenset(walks))
    return _Digits(builder, decimals, token).add(start, frozenset(walks))


class _Digits:
    """Subset construction over walks."""

    def __init__(self, builder: AutomatonBuilder, decimals: int, token: Mapping[str, int]) -> None:
        self.builder, self.decimals, self.token = builder, decimals, token
        self.known: dict[object, int] = {}
        self.ends: set[int] = set()

    def add(self, start: int, walks: frozenset[_Walk]) -> set[int]:
        todo = [(start, walks, self.decimals == 0)]
        while todo:
            state, walks, fraction = todo.pop()
            if any(walk.done == walk.length for walk in walks):
                self.ends.add(state)
            for character, after, in_fraction in self._moves(walks, fraction):
                key = (in_fraction, frozenset(walk.key() for walk in after))
                if key not in self.known:
                    self.known[key] = self.builder.state()
                    todo.append((self.known[key], after, in_fraction))
                self.builder.transitions[state][self.token[character]] = self.known[key]
        return self.ends

    def _moves(self, walks: frozenset[_Walk], fraction: bool) -> list[tuple[str, frozenset[_Walk], bool]]:
        moves = []
        whole = frozenset(walk for walk in walks if walk.done == walk.length - self.decimals)
        if not fraction and whole:
            moves.append((".", whole, True))
        open_walks = [walk for walk in walks if walk.done < walk.length - (0 if fraction else self.decimals)]
        for digit in "0123456789":
            after = frozenset(stepped for walk in open_walks if (stepped := walk.step(digit)) is not None)
            if after:
                moves.append((digit, after, fraction))
        return moves


class _Pairs:
    """The same where a step is a number token; behind the first one all walks are equally long."""

    def __init__(self, builder: AutomatonBuilder, decimals: int, token: Mapping[str, int]) -> None:
        self.builder, self.decimals, self.token = builder, decimals, token

    def add(self, start: int, walks: frozenset[_Walk]) -> set[int]:
        known: dict[object, int] = {}
        ends: set[int] = set()
        todo = [(start, self._first(walks))]
        while todo:
            state, moves = todo.pop()
            for name, after in moves:
                key = frozenset(self._left(walk) for walk in after)
                if key not in known:
                    known[key] = self.builder.state()
                    if next(iter(after)).done == next(iter(after)).length:
                        ends.add(known[key])
                    else:
                        todo.append((known[key], self._next(after)))
                self.builder.transitions[state][self.token[name]] = known[key]
        return ends

    def _first(self, walks: frozenset[_Walk]) -> list[tuple[str, frozenset[_Walk]]]:
        """Take the first one or two digits, whichever leaves pairs before the point."""
        moves = []
        for whole in sorted({walk.length - self.decimals for walk in walks}):
            head, behind = 2 - whole % 2, (whole - 1) // 2
            of_length = [walk for walk in walks if walk.length - self.decimals == whole]
            moves += [(leading_token(digits, behind), after) for digits, after in _stepped(of_length, head)]
        return moves

    def _next(self, walks: frozenset[_Walk]) -> list[tuple[str, frozenset[_Walk]]]:
        walk = next(iter(walks))
        left, point = walk.length - walk.done, "." if walk.length - walk.done == self.decimals else ""
        return [(pair_token(point + digits), after) for digits, after in _stepped(walks, min(2, left))]

    def _left(self, walk: _Walk) -> tuple[object, ...]:
        tight_low, tight_high = walk.tight_low and walk.done < walk.length, walk.tight_high and walk.done < walk.length
        return (
            walk.length - walk.done,
            walk.low[walk.done :] if tight_low else None,
            walk.high[walk.done :] if tight_high else None,
        )


def _stepped(walks: Iterable[_Walk], digits: int) -> list[tuple[str, frozenset[_Walk]]]:
    """Return all ways to write so many digits, and where they lead."""
    ways = [("", frozenset(walks))]
    for _ in range(digits):
        ways = [
            (written + digit, after)
            for written, before in ways
            for digit in "0123456789"
            if (after := frozenset(moved for walk in before if (moved := walk.step(digit)) is not None))
        ]
    return ways
