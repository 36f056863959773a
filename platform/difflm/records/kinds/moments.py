"""Moments: the formats of dates that are recognised in text columns, and how their parts are spelled."""

from __future__ import annotations

import re
import string
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from itertools import product
from typing import Any, Final

from difflm.records.schema import DatetimeField

_DAYS: Final = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y",
    "%m/%d/%y", "%d.%m.%y", "%d-%b-%Y", "%d %b %Y", "%d-%b-%y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y", "%Y-%d-%m",
    "%d-%B-%Y", "%d %b %y", "%d%b%Y", "%Y-%b-%d", "%b %d %Y", "%B %d %Y",
)  # fmt: skip
_TIMES: Final = ("%H:%M:%S", "%H:%M:%S.%f", "%H:%M", "%I:%M %p", "%I:%M:%S %p", "%H:%M:%S,%f", "%I:%M%p")
_ZONES: Final = ("", "Z", "%z", " UTC", " %z")
COMPACT: Final = ("%Y%m%d", "%d%m%Y", "%m%d%Y", "%Y%m", "%Y%m%d%H%M%S", "%Y%m%d%H%M", "%Y%m%d%H")
FORMATS: Final[tuple[str, ...]] = (
    *_DAYS,
    *(day + between + time + zone for day, between, time, zone in product(_DAYS, " T", _TIMES, _ZONES)),
    *_TIMES,
    *(f"{day}, {time}" for day, time in product(("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y"), _TIMES)),
    "%Y-%m",
    "%b %Y",
    "%B %Y",
    "%Y/%m",
    "%m/%Y",
    "%b-%y",
    "%b-%Y",
    *("%B-%Y", "%b %y", "%B %y", "%b, %Y", "%B, %Y", "%b/%Y", "%Y %b", "%Y %B", "%Y-%b", "%Y-%B"),
    *("%d %b, %Y", "%d %B, %Y", "%d. %b %Y", "%d. %B %Y", "%d/%b/%Y", "%d/%b/%y"),
    "%Y%m%dT%H%M%SZ",
    "%Y%m%dT%H%M%S",
    "%Y%m%d-%H%M%S",
    "%a %b %d %H:%M:%S %Y",
    "%a, %d %b %Y %H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S GMT",
    "%d/%b/%Y:%H:%M:%S %z",
    "%H:%M Uhr",
    "%H:%M:%S Uhr",
    "%d.%m.%Y %H:%M Uhr",
    "%d.%m.%Y, %H:%M Uhr",
    "%Y年%m月%d日",
    "%Y年%m月",
    "%Y년 %m월 %d일",
    "%Y년 %m월",
)
_NAMES_OF_PARTS: Final = "年月日년월일"
_PLAIN = re.compile(rf"[\x00-\x7f{_NAMES_OF_PARTS}]*")
_PROBES: Final = 25
_LONGEST: Final = 40
_MAX_FORMATS: Final = 4
_MAX_FORMS: Final = 24
_MAX_ZONES: Final = 64
_MAX_IMPOSSIBLE: Final = 8  # different ones in a column
_LIKELY_YEARS: Final = range(1900, 2101)
_WIDTHS: Final = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2}
_PATTERNS: Final = {"Y": r"\d{4}", "y": r"\d\d", "f": r"(?P<f>\d+)", "z": r"(?P<z>Z|[-+][\d:]+)"} | {
    letter: f"(?P<{letter}>[A-Za-z]+)" for letter in "pbBa"
}
_CLASSES: Final = str.maketrans(string.digits + string.ascii_letters, "9" * 10 + "a" * 52)
"""Digits and letters as one of each: what texts of one form have in common, so that each form is found once."""
_LOOKS_LIKE_ONE = re.compile(rf"(?=.*[0-9])[0-9A-Za-z:/., +{_NAMES_OF_PARTS}-]{{4,40}}")
_DATED = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}(?!\d|\1\d)|\d{1,2}[ -]?[A-Za-z]{3,9}[ -]?\d{2,4}")
_FINER = re.compile(r"(?<=\d[.,])(\d{6})\d{1,3}(?!\d)")
"""What strptime does not read: digits of a second behind the sixth, as of .NET, Java, Go and Arrow."""
_HOURS_ALONE = re.compile(r"(?<=\d)\s?[+-]\d\d$")
"""An offset of whole hours, as PostgreSQL writes it, which strptime does not read either."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@lru_cache(maxsize=65536)
def parse_datetime(text: str, format: str) -> datetime | None:
    """Parse `text` in the strptime `format`, its moment to the microsecond; None when it does not fit."""
    if len(text) > _LONGEST or not _PLAIN.fullmatch(text) or (format in COMPACT and not _is_compact(text, format)):
        return None
    if "%f" in format:
        text = _FINER.sub(r"\1", text)
    if "%z" in format:
        text = _HOURS_ALONE.sub(r"\g<0>00", text)
    try:
        return datetime.strptime(text, format)
    except ValueError:
        return None


def _is_compact(text: str, format: str) -> bool:
    """Return whether a text has the digits of a format without separators, where each part has its full width."""
    return text.isdecimal() and len(text) == sum(_WIDTHS[letter] for letter in format[1::2])


def field_moment(field: DatetimeField, text: str) -> datetime | None:
    """Parse a text in the first format of the field that it fits; None where it fits none, as words do."""
    for format in field.formats:
        if (moment := parse_datetime(text, format)) is not None:
            return moment
    return None


def microseconds(moment: datetime) -> int:
    """Return the microseconds since 1970, a moment without a zone taken as UTC."""
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def find_format(distinct: Sequence[str], among: Sequence[str] = FORMATS) -> str | None:
    """Return the first recognised format that all distinct texts fit, None when there is none."""
    probes = distinct[:: max(1, len(distinct) // _PROBES)]
    if not probes or not all(_LOOKS_LIKE_ONE.fullmatch(text) for text in probes):
        return None
    for format in _formats_by_look().get(_look(probes[0]), ()):
        if format in among and all(parse_datetime(text, format) for texts in (probes, distinct) for text in texts):
            return format
    return None


def find_compact(distinct: Sequence[str], *, least: int = 3) -> FoundFormats | None:
    """Find the format without separators that distinct texts fit, with years that dates of people have.

    Whole numbers of six or more digits hardly ever look like that by chance; `least` says how many it takes. Beside
    them may stand what databases write for no date, zeros alone, and for no end, a day of the year 9999.
    """
    nothing = {text for text in distinct[:_PROBES] if not text.strip("0")} or {
        text for text in ("0", "000000", "00000000") if text in distinct
    }
    usual = [text for text in distinct if text not in nothing]
    if len(usual) < least or not all(len(text) >= 6 and text.isdecimal() for text in usual):
        return None
    for format in COMPACT:
        if all(_is_likely(text, format) for texts in (usual[:_PROBES], usual) for text in texts):
            others = tuple(place for place, text in enumerate(distinct) if text in nothing)
            ends = sum(_is_end(text) for text in usual)
            return FoundFormats(formats=(format,), others=others) if len(usual) - ends >= least else None
    return None


def _is_likely(text: str, format: str) -> bool:
    moment = parse_datetime(text, format)
    return moment is not None and (moment.year in _LIKELY_YEARS or _is_end(text))


def _is_end(text: str) -> bool:
    return text.startswith("9999") or text[4:8] == "9999"


@cache
def _formats_by_look() -> dict[str, list[str]]:
    """List the formats by what their texts look like: trying all of them on one text takes a second."""
    found: dict[str, list[str]] = defaultdict(list)
    for format in FORMATS:
        text = re.sub("%[pbBa]", "a", re.sub("%[YymdHIMSf]", "9", format))
        for look in dict.fromkeys(_look(text.replace("%z", zone)) for zone in ("+9", "-9", "+9:9", "-9:9", "Z")):
            found[look].append(format)
    return found


def _look(text: str) -> str:
    return re.sub("[A-Za-z]+", "a", re.sub(r"\d+", "9", text))


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFormats:
    """The formats of a column, and the places of the distinct texts that fit none."""

    formats: tuple[str, ...]
    others: tuple[int, ...]


def find_formats(distinct: Sequence[str]) -> FoundFormats | None:
    """Find the few formats of a column's distinct texts; None where hardly anything looks like a date.

    Texts of one form (where letters, digits and marks stand) share a format, and one that has been found goes before
    others that would fit, too.
    """
    probes = distinct[:: max(1, len(distinct) // _PROBES)]
    if 2 * sum(bool(_LOOKS_LIKE_ONE.fullmatch(text)) for text in probes) <= len(probes):
        return None
    one = find_format(distinct)
    if one is not None:
        return FoundFormats(formats=(one,), others=())
    forms: dict[str, list[int]] = defaultdict(list)
    for place, text in enumerate(distinct):
        forms[_form(text[:_LONGEST].translate(_CLASSES))].append(place)
        if len(forms) > _MAX_FORMS:
            return None
    formats, others = list[str](), list[int]()
    for places in sorted(forms.values(), key=lambda places: (-len(places), places)):
        texts = [distinct[place] for place in places]
        found = find_format(texts, formats) or find_format(texts)
        if found is None and (impossible := _impossible(texts)):
            others += [place for place in places if distinct[place] in impossible]
            places = [place for place in places if distinct[place] not in impossible]
            texts = [distinct[place] for place in places]
            found = find_format(texts, formats) or find_format(texts)
        if found is None or (found not in formats and len(formats) == _MAX_FORMATS):
            others += places
        elif found not in formats:
            formats.append(found)
    return FoundFormats(formats=tuple(formats), others=tuple(sorted(others))) if formats else None


def _impossible(texts: Sequence[str]) -> frozenset[str]:
    """Return the few of many texts that are no days of the calendar, though they look like dates: 00.00.0000,
    30.02.2021.
    """
    found: set[str] = set()
    for count, text in enumerate(texts, 1):
        known = _formats_by_look().get(_look(text), ())
        if not known or (2 * len(found) > count and count >= _PROBES):
            return frozenset()
        if all(parse_datetime(text, format) is None for format in known):
            found.add(text)
        if len(found) > _MAX_IMPOSSIBLE:
            return frozenset()
    return frozenset(found) if 2 * len(found) < len(texts) else frozenset()


@lru_cache(maxsize=4096)
def _form(classes: str) -> str:
    return re.sub(r"[A-Za-z]+", "a", re.sub(r"\d{1,2}", "9", re.sub(r"[+-](\d\d:?\d\d)$", r"+\1", classes)))


def looks_dated(distinct: Sequence[str]) -> bool:
    """Return whether nearly all texts have something like a day in them, though in no known format."""
    probes = distinct[:: max(1, len(distinct) // _PROBES)]
    return 10 * sum(bool(_DATED.match(text)) for text in probes) >= 9 * len(probes)


def pieces(format: str) -> list[str]:
    """Split a format into directives and single characters."""
    found, characters = list[str](), iter(format)
    for character in characters:
        found.append(character + next(characters) if character == "%" else character)
    return found


def spelling(distinct: Sequence[str], formats: Sequence[str]) -> dict[str, Any]:
    """Return how training spells the parts of dates, as keyword arguments of `DatetimeField`.

    Letters of numbers that are written both ways are neither `padded` nor `bare`. Those that are never below ten are as
    the others: minutes of a quarter of an hour never were, and a sampled 5 is written 05.
    """
    values: dict[str, set[str]] = defaultdict(set)
    for format in formats:
        pattern = re.compile("".join(_pattern(piece) for piece in pieces(format)))
        mine = [text for text in distinct if parse_datetime(text, format) is not None]
        for match in filter(None, map(pattern.fullmatch, mine)):
            for letter, value in match.groupdict().items():
                values[letter].add(value)
    widths = {
        letter: {len(value) for value in found if int(value) < 10}
        for letter, found in values.items()
        if letter not in "fzpbBa"
    }
    zones = tuple(sorted(values["z"]))
    padded = {letter for letter, found in widths.items() if found == {2}}
    bare = {letter for letter, found in widths.items() if found == {1}}
    for letter in (letter for letter, found in widths.items() if letter in "mdHIMS" and not found):
        (bare if bare and padded <= {*"MS"} and letter not in "MS" else padded).add(letter)
    return {
        "padded": "".join(letter for letter in widths if letter in padded),
        "bare": "".join(letter for letter in widths if letter in bare),
        "zero": "".join(letter for letter in "HMSf" if values[letter] and not any(map(int, values[letter]))),
        "zones": zones if len(zones) <= _MAX_ZONES else (),
        "fraction": tuple(sorted({len(value) for value in values["f"]})),
        "names": _case(values["b"] | values["B"] | values["a"], values["p"]),
    }


def _case(names: set[str], halves: set[str]) -> str:
    """Return how names of months and days are written, and AM and PM in the same way; empty: in several ways."""
    both = names | halves
    if both and all(text == text.upper() for text in both):
        return "upper"
    if both and all(text == text.lower() for text in both):
        return "lower"
    is_title = all(text == text.title() for text in names) and all(text == text.upper() for text in halves)
    return "title" if names and is_title else ""


def _pattern(piece: str) -> str:
    if piece[0] != "%":
        return re.escape(piece)
    letter = piece[1]
    return _PATTERNS.get(letter, rf"(?P<{letter}>\d\d?)")
