"""Texts within JSON: the pattern of dates, times, numbers and bytes, so that made ones are dates, times, ... too."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Sequence
from typing import Final

_DAY: Final = (
    r"(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    r"|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_CLOCK: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_FRACTION: Final = r"(?:\.(?P<fraction>[0-9]{1,9}))?"
_MOMENT = re.compile(
    rf"(?P<year>[0-9]{{4}})-{_DAY[:-1]}|02-29)(?P<clock> {_CLOCK}{_FRACTION}(?P<zone>Z|[+-][0-9]{{4}})?)?"
)
_TIME = re.compile(rf"{_CLOCK}{_FRACTION}")
_NUMBER = re.compile(r"(?P<sign>-?)(?P<whole>[0-9]{1,38})(?:\.(?P<fraction>[0-9]{1,38}))?")
_BYTES = re.compile(r"0x(?P<digits>(?:[0-9a-f]{2})*)")


def text_form(texts: Sequence[str]) -> dict[str, str]:
    """Return the format of texts that are all dates, moments, clocks, decimals or hex(adecimal digits), and the pattern
    that they have by the standard of JSON Schema; nothing for others.
    """
    for name, form, pattern_of in (
        ("moment", _MOMENT, _moments),
        ("clock", _TIME, _times),
        ("decimal", _NUMBER, _numbers),
        ("hex", _BYTES, _bytes),
    ):
        if form.fullmatch(texts[0]) is None:
            continue
        found = [match for text in texts if (match := form.fullmatch(text)) is not None]
        if len(found) < len(texts):
            continue
        pattern = pattern_of(found)
        if not all(re.fullmatch(pattern, text) for text in texts):  # such as the 29th of February of a common year
            return {}
        is_day = name == "moment" and found[0]["clock"] is None
        return {"format": "date" if is_day else name, "pattern": f"^{pattern}$"}
    return {}


def _moments(found: Sequence[re.Match[str]]) -> str:
    """Return the pattern of the days of the decades seen, with a clock where all have one."""
    years = sorted(
        {decade * 10 + year for decade in {int(match["year"]) // 10 for match in found} for year in range(10)}
    )
    decades = "|".join(sorted({f"{year // 10:03d}[0-9]" for year in years}))
    leap = "|".join(f"{year:04d}" for year in years if calendar.isleap(year))
    days = rf"(?:(?:{decades})-{_DAY}" + (rf"|(?:{leap})-02-29)" if leap else ")")
    if all(match["clock"] is None for match in found):
        return days
    if any(match["clock"] is None for match in found):
        return r"(?!)"
    zones = sorted({match["zone"] or "" for match in found})
    return f"{days} {_CLOCK}{_fractions(found)}(?:{'|'.join(zones).replace('+', chr(92) + '+')})"


def _times(found: Sequence[re.Match[str]]) -> str:
    return _CLOCK + _fractions(found)


def _fractions(found: Sequence[re.Match[str]]) -> str:
    lengths = _lengths(found, "fraction")
    return _one_of(rf"\.[0-9]{{{places}}}" if places else "" for places in lengths) if any(lengths) else ""


def _numbers(found: Sequence[re.Match[str]]) -> str:
    sign = "-?" if any(match["sign"] for match in found) else ""
    lengths = _lengths(found, "whole")
    if any(match["whole"][0] == "0" and len(match["whole"]) > 1 for match in found):
        whole = _one_of(f"[0-9]{{{length}}}" for length in lengths)
    else:
        whole = f"(?:0|[1-9][0-9]{{0,{max(lengths) - 1}}})"
    return sign + whole + _fractions(found)


def _bytes(found: Sequence[re.Match[str]]) -> str:
    counts = [length // 2 for length in _lengths(found, "digits")]
    return f"0x(?:[0-9a-f]{{2}}){{{min(counts)},{max(counts)}}}"


def _lengths(found: Sequence[re.Match[str]], part: str) -> list[int]:
    return sorted({len(match[part] or "") for match in found})


def _one_of(patterns: Iterable[str]) -> str:
    return f"(?:{'|'.join(patterns)})"
