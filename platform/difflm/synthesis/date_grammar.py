"""Dates as automata: the digits and names of a strptime format, with the years of the training split.

Days that a month does not have, and dates outside the range within the first and last year, remain possible: decoding
rejects and draws those again.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Sequence

from difflm.records.dates import parse_datetime
from difflm.records.fields import DatetimeField
from difflm.synthesis.automaton import AutomatonBuilder


def _numbers(first: int, last: int) -> list[str]:
    """Two digits, or one where that is enough: both can be read, and a column may be written either way."""
    return list(dict.fromkeys(text for n in range(first, last + 1) for text in (f"{n:02d}", str(n))))


def _names(names: Sequence[str]) -> list[str]:
    """Names as the calendar spells them, in capitals and in small letters."""
    return list(dict.fromkeys(text for name in names for text in (name, name.upper(), name.lower())))


_FRACTION: Sequence[str] = ("000000",)  # one to six digits
_ZONES = ["Z"] + [
    f"{sign}{hour:02d}{colon}{minute:02d}"
    for sign in "+-"
    for hour in range(15)
    for colon in ("", ":")
    for minute in (0, 15, 30, 45)
]
_ALTERNATIVES: dict[str, Sequence[str]] = {
    "m": _numbers(1, 12),
    "d": _numbers(1, 31),
    "H": _numbers(0, 23),
    "I": _numbers(1, 12),
    "M": _numbers(0, 59),
    "S": _numbers(0, 59),
    "p": _names(["AM", "PM"]),
    "b": _names(calendar.month_abbr[1:]),
    "B": _names(calendar.month_name[1:]),
    "a": _names(list(calendar.day_abbr)),
    "z": _ZONES,
}


def date_parts(field: DatetimeField) -> list[Sequence[str]]:
    """The alternatives of every part of a date in the field's format, in order."""
    low, high = parse_datetime(field.minimum, field.format), parse_datetime(field.maximum, field.format)
    if low is None or high is None:
        raise ValueError(
            f"column {field.name!r}: its bounds {field.minimum!r} and {field.maximum!r} do not fit {field.format!r}"
        )
    parts: list[Sequence[str]] = []
    characters = iter(field.format)
    for character in characters:
        if character != "%":
            parts.append([character])
            continue
        directive = next(characters)
        if directive == "Y":
            parts.append([f"{year:04d}" for year in range(low.year, high.year + 1)])
        elif directive == "y":
            parts.append(sorted({f"{year % 100:02d}" for year in range(low.year, high.year + 1)}))
        elif directive == "f":
            parts.append(_FRACTION)
        else:
            parts.append(_ALTERNATIVES[directive])
    return parts


def add_date(
    builder: AutomatonBuilder, start: int, field: DatetimeField, characters: Callable[[str], Sequence[int]]
) -> set[int]:
    """Add the quoted dates of a field; `characters` gives a text's tokens one by one. Returns where a date ends."""
    ends = {builder.chain(start, characters('"'))}
    for alternatives in date_parts(field):
        if alternatives is _FRACTION:
            ends = _add_fraction(builder, ends, [characters(digit)[0] for digit in "0123456789"])
        else:
            ends = _add_part(builder, ends, [tuple(characters(text)) for text in alternatives])
    (quote,) = characters('"')
    return {builder.join(ends, quote)}


def _add_part(builder: AutomatonBuilder, starts: set[int], alternatives: Sequence[tuple[int, ...]]) -> set[int]:
    """Add one part behind each of `starts`. Alternatives that nothing longer begins with end in one common state."""
    tree, common = builder.state(), builder.state()
    prefixes = {tokens[:length] for tokens in alternatives for length in range(1, len(tokens))}
    ends = {common}
    for tokens in alternatives:
        state = builder.chain(tree, tokens[:-1])
        if tokens in prefixes:
            ends.add(builder.follow(state, tokens[-1]))
        else:
            builder.transitions[state][tokens[-1]] = common
    for start in starts:
        builder.transitions[start].update(builder.transitions[tree])
    return ends


def _add_fraction(builder: AutomatonBuilder, starts: set[int], digits: Sequence[int]) -> set[int]:
    """Add one to six digits behind each of `starts`."""
    ends: set[int] = set()
    for _ in range(6):
        after = builder.state()
        for start in starts:
            builder.transitions[start].update(dict.fromkeys(digits, after))
        starts = {after}
        ends.add(after)
    return ends
