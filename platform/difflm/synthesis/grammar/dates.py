"""Dates as automata: the days of the calendar in a strptime format, exactly those of given ranges.

Ranges fall apart into boxes in which the parts of a date are independent (`calendar_boxes`); the sets of boxes that one
text may still belong to are the automaton's states. Only a written time zone is left out of account: such texts may lie
up to a day outside the ranges. Draws of those are rejected where records are judged: by the codec outside the training
range, by `RecordSet.fault` outside a condition. Numbers below ten are written as training writes them, with a leading
zero or without one; every moment can be written either way.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from difflm.records.kinds.codes import IntervalSet, ordered_codes, word_codes
from difflm.records.kinds.literals import quote
from difflm.records.kinds.moments import pieces
from difflm.records.schema import DatetimeField
from difflm.synthesis.grammar.automaton import AutomatonBuilder
from difflm.synthesis.grammar.calendar_boxes import FIRST, LAST, Box, boxes
from difflm.synthesis.grammar.chains import Words, add_quoted_chains

_ZONES = ["Z"] + [
    f"{sign}{hour:02d}{colon}{minute:02d}"
    for sign in "+-"
    for hour in range(15)
    for colon in ("", ":")
    for minute in (0, 15, 30, 45)
]
_ANY = "*"
_ZONE_RESERVE = 15 * 3600 * 10**6
_LONGEST = {"Y": 4, "f": 6, "p": 2, "b": 3, "B": 9, "a": 3, "z": 6}  # of the others, two


@dataclass(frozen=True, slots=True)
class _Fraction:
    """Digits after the point of seconds, as many as `digits` has numbers, which make `low` to `high` microseconds;
    those behind the sixth are any.
    """

    low: int
    high: int
    digits: tuple[int, ...] = (1, 2, 3, 4, 5, 6)

    def following(self, prefix: str) -> Iterable[str]:
        return "0123456789" if len(prefix) < self.digits[-1] else ()

    def holds(self, prefix: str) -> bool:
        micro = prefix[:6].ljust(6, "0")
        return len(prefix) in self.digits and (prefix[0] == _ANY or self.low <= int(micro) <= self.high)

    def canonical(self, prefix: str) -> str | None:
        """Replace digits that anything may follow by their number; None where nothing in range begins with them."""
        if prefix[0] == _ANY:
            return _ANY * len(prefix)
        least, most = int(prefix[:6].ljust(6, "0")), int(prefix[:6].ljust(6, "9"))
        if most < self.low or least > self.high:
            return None
        return _ANY * len(prefix) if self.low <= least and most <= self.high else prefix


_Part: TypeAlias = Words | _Fraction


def longest_date(field: DatetimeField) -> int:
    """Return the number of bytes of the longest date in the field's formats, or of characters of its longest word."""
    longest = _LONGEST | {"f": max(field.fraction, default=_LONGEST["f"])}
    dates = (
        sum(longest.get(piece[1], 2) if piece[0] == "%" else len(piece.encode()) for piece in pieces(format))
        for format in field.formats
    )
    return max(*dates, *(len(quote(word)) - 2 for word in field.words), 0)


def add_date(
    builder: AutomatonBuilder,
    start: int,
    field: DatetimeField,
    codes: IntervalSet,
    characters: Callable[[str], Sequence[int]],
) -> set[int]:
    """Add the quoted dates and words of a field whose codes are in `codes`; `characters` gives a text's tokens.

    Returns where a date ends: nowhere if no date of the format is in `codes`.
    """
    return add_quoted_chains(builder, start, _dates(field, codes), characters)


def any_date(field: DatetimeField, codes: IntervalSet) -> bool:
    """Return whether a date or word of the field is in `codes`: of whole days, none is between two midnights."""
    return any(True for _ in _dates(field, codes))


def _dates(field: DatetimeField, codes: IntervalSet) -> Iterator[Sequence[_Part]]:
    if field.words:
        yield from (
            [Words(frozenset([quote(word)[1:-1]]))] for word, code in word_codes(field).items() if code in codes
        )
        codes = codes & ordered_codes(field)
    for format_pieces in map(pieces, field.formats):
        reserve = _ZONE_RESERVE if "%z" in format_pieces else 0
        for first, last in codes.spans:
            for box in boxes(max(first - reserve, FIRST), min(last + reserve, LAST)):
                yield from _written(box, format_pieces, field)


def _written(box: Box, format_pieces: Sequence[str], field: DatetimeField) -> Iterable[list[_Part]]:
    """Yield the parts of every text of a box in a format; none where the box excludes what the format leaves out.

    What strptime does not read is 1 January 1900, midnight.
    """
    named = {piece[1] for piece in format_pieces if piece[0] == "%"} - set(field.zero)
    left_out = (
        ("Yy", 1900 in box.year_list()),
        ("mbB", 1 in box.months),
        ("d", box.days[0] == 1),
        ("HI", box.hours[0] == 0),
        ("M", box.minutes[0] == 0),
        ("S", box.seconds[0] == 0),
        ("f", box.microseconds[0] == 0),
    )
    if not all(inside or named & set(directives) for directives, inside in left_out):
        return
    if "I" not in named:
        yield [_part(piece, box, box.hours, field) for piece in format_pieces]
        return
    for first, last in ((0, 11), (12, 23)):
        hours = (max(first, box.hours[0]), min(last, box.hours[1]))
        if hours[0] <= hours[1]:
            yield [_part(piece, box, hours, field) for piece in format_pieces]


def _part(piece: str, box: Box, hours: tuple[int, int], field: DatetimeField) -> _Part:
    if piece == "%f" and "f" in field.zero:
        return Words(frozenset("0" * count for count in field.fraction or (6,)))
    if piece[0] == "%" and piece[1] in field.zero:
        return Words(frozenset(_numbers([0], piece[1], field)))
    if piece == "%f":
        return _Fraction(*box.microseconds, *((field.fraction,) if field.fraction else ()))
    return Words(frozenset(_texts(piece, box, hours, field)))


def _texts(piece: str, box: Box, hours: tuple[int, int], field: DatetimeField) -> list[str]:
    match piece:
        case "%Y":
            return [f"{year:04d}" for year in box.year_list()]
        case "%y":  # strptime reads 69 to 99 as 1969 to 1999
            return [f"{year % 100:02d}" for year in box.year_list() if 1969 <= year <= 2068]
        case "%m":
            return _numbers(box.months, piece[1], field)
        case "%b":
            return _names([calendar.month_abbr[month] for month in box.months], field)
        case "%B":
            return _names([calendar.month_name[month] for month in box.months], field)
        case "%a":
            return _names(list(calendar.day_abbr), field)
        case "%d":
            return _numbers(range(box.days[0], box.days[1] + 1), piece[1], field)
        case "%H":
            return _numbers(range(hours[0], hours[1] + 1), piece[1], field)
        case "%I":
            return _numbers([hour % 12 or 12 for hour in range(hours[0], hours[1] + 1)], piece[1], field)
        case "%p":
            return _names(["AM" if hours[0] < 12 else "PM"], field)
        case "%M":
            return _numbers(range(box.minutes[0], box.minutes[1] + 1), piece[1], field)
        case "%S":
            return _numbers(range(box.seconds[0], box.seconds[1] + 1), piece[1], field)
        case "%z":
            return list(field.zones) or _ZONES
        case character:
            return [character]


def _numbers(values: Iterable[int], letter: str, field: DatetimeField) -> list[str]:
    """Format numbers in two digits, or one where that is enough; both forms where training shows neither."""
    zeros = [zero for zero, others in ((True, field.bare), (False, field.padded)) if letter not in others]
    return [f"{value:02d}" if zero else str(value) for value in values for zero in zeros]


def _names(names: Sequence[str], field: DatetimeField) -> list[str]:
    """Spell names as training does: as the calendar does, in capitals, in small letters, or in all three ways."""
    ways: dict[str, tuple[Callable[[str], str], ...]] = {"title": (str,), "upper": (str.upper,), "lower": (str.lower,)}
    return [spell(name) for name in names for spell in ways.get(field.names, (str, str.upper, str.lower))]
