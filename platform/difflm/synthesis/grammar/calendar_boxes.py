"""Calendar boxes: ranges of moments as boxes in which the parts of a date are independent of each other."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEAST = (1, 1, 1, 0, 0, 0, 0)
_MOST = (9999, 12, 31, 23, 59, 59, 999_999)
_SPAN: TypeAlias = tuple[int, int]
FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Box:
    """Closed ranges of years, hours, minutes, seconds, microseconds and days, and a set of months."""

    years: _SPAN
    months: tuple[int, ...]
    days: _SPAN
    hours: _SPAN
    minutes: _SPAN
    seconds: _SPAN
    microseconds: _SPAN
    leap_years_only: bool = False

    def year_list(self) -> list[int]:
        low, high = self.years
        return [year for year in range(low, high + 1) if not self.leap_years_only or calendar.isleap(year)]


def boxes(first: int, last: int) -> Iterator[Box]:
    """Yield disjoint boxes that together hold the moments from `first` to `last`, in microseconds since 1970."""
    low, high = _parts(first), _parts(last)
    for ranges in _between(low, high, 0):
        years, months, days, hours, minutes, seconds, microseconds = ranges
        times = (hours, minutes, seconds, microseconds)
        for choice, longest, leap in (
            ((1, 3, 5, 7, 8, 10, 12), 31, False),
            ((4, 6, 9, 11), 30, False),
            ((2,), 28, False),
            ((2,), 29, True),
        ):
            chosen = tuple(month for month in choice if months[0] <= month <= months[1])
            span = (29, 29) if leap else (1, longest)
            within = (max(days[0], span[0]), min(days[1], span[1]))
            box = Box(years, chosen, within, *times, leap_years_only=leap)
            if chosen and within[0] <= within[1] and (not leap or box.year_list()):
                yield box


def _parts(code: int) -> tuple[int, ...]:
    moment = _EPOCH + timedelta(microseconds=code)
    return (
        moment.year,
        moment.month,
        moment.day,
        moment.hour,
        moment.minute,
        moment.second,
        moment.microsecond,
    )


def _between(low: tuple[int, ...], high: tuple[int, ...], place: int) -> Iterator[tuple[_SPAN, ...]]:
    """Yield all tuples from `low` to `high` in order, from `place` on, as products of ranges."""
    if place == len(low):
        yield ()
    elif low[place:] == _LEAST[place:] and high[place:] == _MOST[place:]:
        yield tuple(zip(_LEAST[place:], _MOST[place:], strict=True))
    elif low[place] == high[place]:
        yield from _prefixed(low[place], _between(low, high, place + 1))
    else:
        top, bottom = low[: place + 1] + _MOST[place + 1 :], high[: place + 1] + _LEAST[place + 1 :]
        inner = (low[place] + 1, high[place] - 1)
        if low[place + 1 :] == _LEAST[place + 1 :]:
            inner = (low[place], inner[1])
        else:
            yield from _prefixed(low[place], _between(low, top, place + 1))
        if high[place + 1 :] == _MOST[place + 1 :]:
            inner = (inner[0], high[place])
        else:
            yield from _prefixed(high[place], _between(bottom, high, place + 1))
        if inner[0] <= inner[1]:
            yield (inner, *zip(_LEAST[place + 1 :], _MOST[place + 1 :], strict=True))


def _prefixed(value: int, rest: Iterator[tuple[_SPAN, ...]]) -> Iterator[tuple[_SPAN, ...]]:
    for ranges in rest:
        yield ((value, value), *ranges)
