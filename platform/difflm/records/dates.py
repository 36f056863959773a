"""Dates: the formats that are recognised in text columns, parsing in one of them, and how its numbers are written."""

import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from itertools import product
from typing import Final

_DAYS: Final = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y",
    "%m/%d/%y", "%d.%m.%y", "%d-%b-%Y", "%d %b %Y", "%d-%b-%y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y",
)  # fmt: skip
_TIMES: Final = ("%H:%M:%S", "%H:%M:%S.%f", "%H:%M", "%I:%M %p", "%I:%M:%S %p")
_ZONES: Final = ("", "Z", "%z", " UTC")
FORMATS: Final[tuple[str, ...]] = (
    *_DAYS,
    *(day + between + time + zone for day, between, time, zone in product(_DAYS, " T", _TIMES, _ZONES)),
    *_TIMES,
    "%Y-%m",
    "%b %Y",
    "%B %Y",
    "%a %b %d %H:%M:%S %Y",
    "%a, %d %b %Y %H:%M:%S %z",
)
_PROBES: Final = 25
_LONGEST: Final = 40
_PATTERNS: Final = {"Y": r"\d{4}", "y": r"\d\d", "f": r"\d+", "z": r"(?:Z|[-+][\d:]+)"} | dict.fromkeys(
    "pbBa", "[A-Za-z]+"
)
_LOOKS_LIKE_ONE = re.compile(r"(?=.*[0-9])[0-9A-Za-z:/., +-]{4,40}", re.ASCII)


@lru_cache(maxsize=65536)
def parse_datetime(text: str, format: str) -> datetime | None:
    """Parse `text` in the strptime `format`; None when it does not fit."""
    if len(text) > _LONGEST or not text.isascii():
        return None
    try:
        return datetime.strptime(text, format)
    except ValueError:
        return None


def find_format(distinct: Sequence[str]) -> str | None:
    """Return the first recognised format that all distinct texts fit, None when there is none."""
    probes = distinct[:: max(1, len(distinct) // _PROBES)]
    if not probes or not all(_LOOKS_LIKE_ONE.fullmatch(text) for text in probes):
        return None
    for format in FORMATS:
        if all(parse_datetime(text, format) for texts in (probes, distinct) for text in texts):
            return format
    return None


def bounds(distinct: Sequence[str], format: str) -> tuple[str, str]:
    """Return the earliest and the latest of the texts that fit `format`; texts that do not are left out."""
    moments = [(moment, text) for text in distinct if (moment := parse_datetime(text, format)) is not None]
    return min(moments)[1], max(moments)[1]


def pieces(format: str) -> list[str]:
    """Split a format into directives and single characters."""
    found, characters = list[str](), iter(format)
    for character in characters:
        found.append(character + next(characters) if character == "%" else character)
    return found


def leading_zeros(distinct: Sequence[str], format: str) -> tuple[str, str]:
    """Return the letters of directives whose numbers below ten always have a leading zero, and of those that never do.

    Letters of numbers that are written both ways, or are never below ten, are in neither.
    """
    pattern = re.compile("".join(_pattern(piece) for piece in pieces(format)))
    found = [match for text in distinct if (match := pattern.fullmatch(text))]
    padded, bare = "", ""
    for letter in pattern.groupindex:
        widths = {len(match[letter]) for match in found if int(match[letter]) < 10}
        padded += letter if widths == {2} else ""
        bare += letter if widths == {1} else ""
    return padded, bare


def _pattern(piece: str) -> str:
    if piece[0] != "%":
        return re.escape(piece)
    letter = piece[1]
    return _PATTERNS.get(letter, rf"(?P<{letter}>\d\d?)")
