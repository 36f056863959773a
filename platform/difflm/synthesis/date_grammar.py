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


def _numbers(first: int, last: int, width: int = 2) -> list[str]:
    return [str(number).zfill(width) for number in range(first, last + 1)]


_DIGIT = [str(digit) for digit in range(10)]
_ZONES = ["Z"] + [
    f"{sign}{hour:02d}{colon}{minute:02d}"
    for sign in "+-"
    for hour in range(15)
    for colon in ("", ":")
    for minute in (0, 15, 30, 45)
]
_ALTERNATIVES: dict[str, list[Sequence[str]]] = {
    "m": [_numbers(1, 12)],
    "d": [_numbers(1, 31)],
    "H": [_numbers(0, 23)],
    "I": [_numbers(1, 12)],
    "M": [_numbers(0, 59)],
    "S": [_numbers(0, 59)],
    "f": [_DIGIT] * 6,
    "p": [["AM", "PM"]],
    "b": [list(calendar.month_abbr)[1:]],
    "B": [list(calendar.month_name)[1:]],
    "a": [list(calendar.day_abbr)],
    "z": [_ZONES],
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
            parts.append(_numbers(low.year, high.year, 4))
        elif directive == "y":
            parts.append(sorted({f"{year % 100:02d}" for year in range(low.year, high.year + 1)}))
        else:
            parts += _ALTERNATIVES[directive]
    return parts


def add_date(
    builder: AutomatonBuilder, start: int, field: DatetimeField, characters: Callable[[str], Sequence[int]]
) -> set[int]:
    """Add the quoted dates of a field; `characters` gives a text's tokens one by one. Returns where a date ends."""
    state = builder.chain(start, characters('"'))
    for alternatives in date_parts(field):
        after = builder.state()
        for text in alternatives:
            *path, last = characters(text)
            builder.transitions[builder.chain(state, path)][last] = after
        state = after
    return {builder.chain(state, characters('"'))}
