"""Clocks: spans of time that count hours above a day, or days, and are spelled with colons; read as whole seconds.

`27:38:55` and `27:38` count hours, `3 days 05:21:46` is how pandas writes spans, `3 days, 5:21:46` how Python does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

PANDAS: Final = "d days hh:mm:ss"
PYTHON: Final = "d days, h:mm:ss"
_DAY: Final = 86_400
_HOURS = re.compile(r"(?P<hours>\d{1,15}):(?P<minutes>[0-5]\d)(?::(?P<seconds>[0-5]\d))?")
_DAYS: Final = {
    PANDAS: re.compile(
        r"(?P<days>-?\d{1,9}) days \+?(?P<hours>[01]\d|2[0-3]):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d)"
    ),
    PYTHON: re.compile(
        r"(?:(?P<days>-?\d{1,9}) days?, )?(?P<hours>1?\d|2[0-3]):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d)"
    ),
}


def clock_text(clock: str, value: int) -> str:
    """Spell a number of seconds, or of minutes where the clock has no seconds."""
    if clock in _DAYS:
        days, rest = divmod(value, _DAY)
        body = _counted("h" if clock == PYTHON else "hh", rest // 60, rest % 60)
        if clock == PANDAS:
            return f"{days} days {'+' if days < 0 else ''}{body}"
        return f"{days} day{'' if days in (1, -1) else 's'}, {body}" if days else body
    minutes, seconds = divmod(value, 60) if clock.endswith("ss") else (value, None)
    return _counted(clock.partition(":")[0], minutes, seconds)


def _counted(hours_form: str, minutes: int, seconds: int | None) -> str:
    hours, minutes = divmod(minutes, 60)
    text = f"{hours:0{len(hours_form)}d}:{minutes:02d}"
    return text if seconds is None else f"{text}:{seconds:02d}"


def clock_value(clock: str, text: str) -> str | None:
    """Read what a clock spells, as the text of a whole number; None for other texts."""
    found = _DAYS.get(clock, _HOURS).fullmatch(text)
    if found is None or (clock not in _DAYS and (found["seconds"] is None) == clock.endswith("ss")):
        return None
    minutes = int(found["hours"]) * 60 + int(found["minutes"])
    if found["seconds"] is None:
        return str(minutes)
    days = int(found["days"] or 0) if clock in _DAYS else 0
    return str(days * _DAY + minutes * 60 + int(found["seconds"]))


def likely_clocks(probes: Sequence[str]) -> Iterator[str]:
    """Yield the clocks that most cells may be spelled by, if any, the likelier ones first."""
    for clock, pattern in _DAYS.items():
        fits = sum(pattern.fullmatch(text) is not None for text in probes)
        if 2 * fits > len(probes) and any(" day" in text for text in probes):
            yield clock
    clocks = [found for text in probes if (found := _HOURS.fullmatch(text))]
    if 2 * len(clocks) > len(probes):
        end = "mm:ss" if clocks[0]["seconds"] else "mm"
        yield from (f"{hours}:{end}" for hours in ("hh", "h"))
