"""Chains of parts as automata: texts that fall apart into parts, each of which says what may stand there.

The sets of chains and of what is written of their first parts that one text may still belong to are the states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from difflm.synthesis.grammar.automaton import AutomatonBuilder

_DIGITS = "0123456789"
_FREE = "*"


class Part(Protocol):
    """A part of a text; a prefix is what is written of it."""

    def following(self, prefix: str) -> Iterable[str]:
        """Return the characters that may come next."""

    def holds(self, prefix: str) -> bool:
        """Return whether the part may end here."""

    def canonical(self, prefix: str) -> str | None:
        """Return one prefix for all that the same may follow; None where nothing begins with this one."""


@dataclass(frozen=True, slots=True)
class Words:
    """One of several texts."""

    texts: frozenset[str]

    def following(self, prefix: str) -> Iterable[str]:
        return _continuations(self.texts).get(prefix, ())

    def holds(self, prefix: str) -> bool:
        return prefix in self.texts

    def canonical(self, prefix: str) -> str | None:
        return prefix


@lru_cache(maxsize=64)
def _continuations(texts: frozenset[str]) -> dict[str, set[str]]:
    """Return the characters behind every beginning of the texts: looked for one by one, dates over thousands of years
    took seconds whenever a bundle was opened.
    """
    found: dict[str, set[str]] = {}
    for text in texts:
        for size, character in enumerate(text):
            found.setdefault(text[:size], set()).add(character)
    return found


@dataclass(frozen=True, slots=True)
class Numbers:
    """A whole number from `low` to `high`, from zero on, of `digits` digits, or of as many as it needs where that is 0.

    Behind what any digits may follow, a prefix is a star and in how many digits the number may end.
    """

    low: int
    high: int
    digits: int = 0

    def following(self, prefix: str) -> Iterable[str]:
        return _DIGITS if self._further(prefix) else ()

    def holds(self, prefix: str) -> bool:
        if prefix[:1] == _FREE:
            return "0" in prefix
        return bool(prefix) and len(prefix) >= self.digits and self.low <= int(prefix) <= self.high

    def canonical(self, prefix: str) -> str | None:
        if prefix[0] == _FREE:
            return _FREE + "".join(str(int(left) - 1) for left in prefix[1:-1] if left != "0")
        ways = {left: self._share(prefix, left) for left in self._lengths(prefix)}
        possible = [left for left, share in ways.items() if share]
        if not possible:
            return None
        if all(ways[left] == 2 for left in possible) and possible[-1] < 10:
            return _FREE + "".join(map(str, possible))
        return prefix

    def _further(self, prefix: str) -> bool:
        if prefix[:1] == _FREE:
            return prefix[1:].strip("0") != ""
        return not prefix or any(left and self._share(prefix, left) for left in self._lengths(prefix))

    def _lengths(self, prefix: str) -> Iterable[int]:
        """Return how many digits may come."""
        if self.digits:
            return (self.digits - len(prefix),) if len(prefix) <= self.digits else ()
        return (0,) if prefix == "0" else range(len(str(self.high)) - len(prefix) + 1)

    def _share(self, prefix: str, left: int) -> int:
        """Return whether all numbers (2), some (1) or none (0) with so many digits behind the prefix are in range."""
        first = int(prefix) * 10**left
        last = first + 10**left - 1
        return 0 if last < self.low or first > self.high else 2 if self.low <= first and last <= self.high else 1


def add_quoted_chains(
    builder: AutomatonBuilder,
    start: int,
    written: Iterable[Sequence[Part]],
    characters: Callable[[str], Sequence[int]],
) -> set[int]:
    """Add the quoted texts of all chains of parts; `characters` gives a text's tokens.

    Returns where a text ends: nowhere if there is no chain.
    """
    known: dict[Part, int] = {}
    chains = {tuple(known.setdefault(part, len(known)) for part in parts) for parts in written}
    if not chains:
        return set()
    opened = builder.chain(start, characters('"'))
    ends = _Chains(builder, list(known), characters).add(opened, chains)
    return {builder.join(ends, characters('"')[0])}


class _Chains:
    """Subset construction over (parts still to come, what is written of the first of them)."""

    def __init__(
        self, builder: AutomatonBuilder, parts: Sequence[Part], tokens: Callable[[str], Sequence[int]]
    ) -> None:
        self.builder, self.parts, self.tokens = builder, parts, tokens
        self.moves: dict[tuple[int, str], dict[str, str]] = {}

    def add(self, start: int, chains: set[tuple[int, ...]]) -> set[int]:
        first = self._closed({(chain, "") for chain in chains})
        known, ends, todo = {first: start}, set[int](), [first]
        while todo:
            items = todo.pop()
            if any(not rest for rest, _ in items):
                ends.add(known[items])
            following: dict[str, set[tuple[tuple[int, ...], str]]] = {}
            for rest, prefix in items:
                if rest:
                    for character, after in self._moves(rest[0], prefix).items():
                        following.setdefault(character, set()).add((rest, after))
            for character, reached in following.items():
                closed = self._closed(reached)
                if closed not in known:
                    known[closed] = self.builder.state()
                    todo.append(closed)
                *leading, last = self.tokens(character)
                self.builder.transitions[self.builder.chain(known[items], leading)][last] = known[closed]
        return ends

    def _moves(self, part: int, prefix: str) -> dict[str, str]:
        """Return, by next character, the part's prefix after it."""
        key = (part, prefix)
        if key not in self.moves:
            options = ((c, self.parts[part].canonical(prefix + c)) for c in self.parts[part].following(prefix))
            self.moves[key] = {character: after for character, after in options if after is not None}
        return self.moves[key]

    def _closed(self, items: set[tuple[tuple[int, ...], str]]) -> frozenset[tuple[tuple[int, ...], str]]:
        """Close the items: a complete part leads on to the next, and one that cannot continue is dropped."""
        closed = set[tuple[tuple[int, ...], str]]()
        for rest, prefix in items:
            if rest and self.parts[rest[0]].holds(prefix):
                closed.add((rest[1:], ""))
            if not rest or self._moves(rest[0], prefix):
                closed.add((rest, prefix))
        return frozenset(closed)
