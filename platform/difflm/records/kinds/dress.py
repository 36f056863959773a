"""Dress: how a column spells its numbers, so that reading a cell and printing it again gives the cell.

`plain_text` takes the dress off a cell, `dressed_text` puts it on again, and `find_dress` finds the one dress that all
cells of a column wear, but for a few words beside them.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from difflm.records.fields import MAX_PLACES
from difflm.records.kinds.clocks import clock_text, clock_value, likely_clocks
from difflm.records.kinds.e_notation import EXPONENT, ways_of_e
from difflm.records.schema import DecimalField, Dress, Field, IntegerField
from difflm.spelled_numbers import spelled_size

PLAIN: Final = Dress()
MAX_WORDS: Final = 10
_GROUPS: Final = ("", ",", ".", " ", "\u00a0", "\u202f", "'", "\u2019")
_MINUS: Final = "-\u2212"
_CURRENCIES: Final = frozenset((
    "USD", "EUR", "GBP", "CHF", "JPY", "CNY", "INR", "RUB", "BRL", "CAD", "AUD", "NZD", "SEK", "NOK", "DKK", "PLN",
    "CZK", "HUF", "TRY", "ZAR", "MXN", "KRW", "SGD", "HKD", "RM", "Kr", "kr", "Fr", "Rs", "R", "US$", "A$", "C$", "R$",
))  # fmt: skip
_DRESSED = re.compile(
    r"(?P<open>\()?(?P<before>[+\-\u2212])?(?P<prefix>[^\d().,+\-\u2212][^\d()+\-\u2212]{0,7}?)?(?P<inside>[+\-\u2212])?"
    r"(?P<number>(?:\d|[.,]\d)(?:[\d.,'\u2019 \u00a0\u202f]*\d)?(?:[eE][+-]?\d+)?)"
    r"(?P<suffix>[^\d()]{0,10}?)(?P<behind>[-\u2212])?(?P<close>\))?",
)
_WORD = r"[^\W\d_]{%d,%d}[\u00b2\u00b3]?"
_SUFFIX = re.compile(
    rf"[ \u00a0\u202f]?{_WORD % (1, 6)}(?:/{_WORD % (1, 5)})?|[ \u00a0\u202f]?[%\u2030\u00b0][CF]?",
)
_THOUSANDS = re.compile(r"(?<=\d)(?=(?:\d{3})+$)")
_HUNDREDS = re.compile(r"(?<=\d)(?=(?:\d\d)*\d{3}$)")
_UNSAFE = re.compile(r'["\\\x00-\x1f\x7f]')
_NUMBER = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?")
_PROBES: Final = 200
_LONGEST_PHONE_SIGN: Final = 6
_LONGEST_NUMBER: Final = 40


def in_text(field: Field) -> bool:
    """Return whether tables hold a field's numbers as texts: those with words beside them, or in a dress."""
    if not isinstance(field, IntegerField | DecimalField):
        return False
    return bool(field.words) or (field.dress is not None and not field.dress.plain)


def read_cell(field: IntegerField | DecimalField, text: str) -> int | float | str | None:
    """Read a cell of a column in dress: its number, one of its words, or None where it is neither."""
    if text in field.words:
        return text
    plain = plain_text(field.dress or PLAIN, text)
    if plain is None:
        return None
    number = float(plain)
    if not math.isfinite(number):
        return None
    if isinstance(field, DecimalField):
        return number
    return int(plain) if plain.lstrip("-").isdecimal() else round(number) if number == round(number) else None


def cell_reader(field: IntegerField | DecimalField) -> Callable[[str], int | float | str | None]:
    """Return `read_cell` of one field, for many cells: most need no second look."""
    surely = None if field.words else _surely_spelled(field.dress or PLAIN, isinstance(field, IntegerField))
    if surely is None:
        return lambda text: read_cell(field, text)
    fits, number = surely.fullmatch, int if isinstance(field, IntegerField) else float
    return lambda text: number(text) if fits(text) else read_cell(field, text)


def print_cell(field: IntegerField | DecimalField, value: int | float | str) -> str:
    """Print a value as its column spells it."""
    if isinstance(value, str):
        return value
    if isinstance(field, DecimalField) and field.exponent == 0 and value == 0:
        value = 0.0
    return dressed_text(field.dress or PLAIN, value)


def dressed_text(dress: Dress, value: int | float) -> str:
    """Put the dress on a number."""
    if dress.clock:
        return clock_text(dress.clock, int(value))
    size = abs(value)
    plain = isinstance(size, int) and not dress.places and not dress.scientific
    digits = str(size) if plain else _digits(dress, float(size))
    whole, point, rest = digits.partition(".")
    if dress.group and whole.isdecimal():
        whole = (_HUNDREDS if dress.hundreds else _THOUSANDS).sub(lambda _: dress.group, whole)
    if dress.bare and whole == "0" and point:
        whole = ""
    body = whole + (dress.mark if point else "") + rest
    if value < 0:
        match dress.negative:
            case "before":
                return f"{dress.minus}{dress.prefix}{body}{dress.suffix}"
            case "inside":
                return f"{dress.prefix}{dress.minus}{body}{dress.suffix}"
            case "behind":
                return f"{dress.prefix}{body}{dress.suffix}{dress.minus}"
            case "parentheses":
                return f"({dress.prefix}{body}{dress.suffix})"
    sign = "+" if dress.plus and value > 0 else ""
    if dress.negative == "inside":
        return f"{dress.prefix}{sign}{body}{dress.suffix}"
    return f"{sign}{dress.prefix}{body}{dress.suffix}"


def _digits(dress: Dress, size: float) -> str:
    return spelled_size(
        size, places=dress.places, trimmed=dress.trimmed, capital=dress.capital, scientific=dress.scientific
    )


def plain_text(dress: Dress, text: str) -> str | None:
    """Take the dress off a cell: the number with its digits as written, a point and a minus; None where it wears
    another one, though it may be spelled in other ways than `dressed_text` would.
    """
    if dress.clock:
        return clock_value(dress.clock, text)
    sign = ""
    if dress.negative == "parentheses" and text.startswith("(") and text.endswith(")"):
        text, sign = text[1:-1], "-"
    elif dress.negative == "behind" and text.endswith(dress.minus):
        text, sign = text[: -len(dress.minus)], "-"
    elif text[:1] == dress.minus or (text[:1] == "+"):
        text, sign = text[1:], "-" if text[0] == dress.minus else ""
    outer = len(dress.prefix) + len(dress.suffix)
    if not (text.startswith(dress.prefix) and text.endswith(dress.suffix)) or len(text) < outer:
        return None
    body = text[len(dress.prefix) : len(text) - len(dress.suffix)]
    if not sign and body[:1] in (dress.minus, "+") and dress.negative == "inside":
        sign, body = "-" if body[0] == dress.minus else "", body[1:]
    if dress.group:
        body = body.replace(dress.group, "")
    if dress.mark != ".":
        body = body.replace(".", "?").replace(dress.mark, ".")
    body = body.replace("E", "e")
    return sign + body if _NUMBER.fullmatch(body) else None


def spells(dress: Dress, text: str, *, whole: bool = False) -> bool:
    """Return whether a cell read in a dress and printed again is itself; `whole` is what all of its column are."""
    plain = plain_text(dress, text)
    if plain is None or len(plain) > _LONGEST_NUMBER or (whole and not _is_whole(plain)):
        return False
    number = int(plain) if whole else float(plain)
    return dressed_text(dress, number) == text and not (number == 0 and plain[0] == "-")


def speller(dress: Dress, whole: bool = False) -> Callable[[str], bool]:
    """Return `spells` of one dress, for many cells: most need no second look."""
    surely = _surely_spelled(dress, whole)
    if surely is None:
        return lambda text: spells(dress, text, whole=whole)
    fits = surely.fullmatch
    return lambda text: fits(text) is not None or spells(dress, text, whole=whole)


@lru_cache(maxsize=64)
def _surely_spelled(dress: Dress, whole: bool) -> re.Pattern[str] | None:
    """Return what cells look like that need not be read and printed to see that they come back; None for odd dresses.

    A decimal of at most 15 digits is the shortest that reads as its double, and printed plainly from 0.0001 on.
    """
    if dress != Dress(places=dress.places, trimmed=dress.trimmed, capital=dress.capital):
        return None
    if whole:
        return None if dress.places is not None else re.compile(r"0|-?[1-9][0-9]{0,14}")
    few = r"(?=[-.0-9]{1,16}\Z)(?!-0(?:\.0*)?\Z)-?(?:0|[1-9][0-9]{0,11})"
    if dress.places is not None:
        return None if dress.trimmed else re.compile(rf"{few}\.[0-9]{{{dress.places}}}")
    zero = "" if dress.trimmed else r"\.0"
    return re.compile(rf"{few}(?:{zero}|\.(?!0000)[0-9]*[1-9])")


def _is_whole(plain: str) -> bool:
    return plain.lstrip("-").isdecimal()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dressed:
    """The dress of a column's cells, whether they are whole numbers, and the places of those that do not wear it: its
    words, or odd spellings.
    """

    dress: Dress
    whole: bool
    others: tuple[int, ...]


def find_dress(texts: Sequence[str], *, rounding: bool = False) -> Dressed | None:
    """Find the dress that most of these distinct cells wear; None where no dress says what numbers look like.

    With `rounding`, cells need not be spelled alike: what can be read in the dress wears it.
    """
    # Rare ones say most about the others.
    exponents = [text for text in texts if "e" in text.lower() and EXPONENT.search(text)]
    probes = [*texts[:: max(1, len(texts) // _PROBES)], *exponents[:_PROBES]]
    best: tuple[int, Dress] | None = None
    for dress in _candidates(probes):
        plain = [one for text in probes if (one := plain_text(dress, text)) is not None]
        whole = all(map(_is_whole, plain))
        fits = sum(map(speller(dress, whole), probes))
        if best is None or fits > best[0]:
            best = (fits, dress)
        if fits == len(probes):
            break
    if best is None or not best[0]:
        return None
    dress = best[1]
    whole = all(_is_whole(one) for text in texts if (one := plain_text(dress, text)) is not None)
    if whole:
        dress = dress.model_copy(update={"trimmed": False, "capital": False})  # there is no fraction to spell
    wears = speller(dress, whole) if not rounding else lambda text: plain_text(dress, text) is not None
    others = tuple(place for place, text in enumerate(texts) if not wears(text))
    return Dressed(dress=dress, whole=whole, others=others)


def _candidates(probes: Sequence[str]) -> Iterator[Dress]:
    """Yield dresses that the commonest cells may wear, the likelier ones first."""
    clocks = list(likely_clocks(probes))
    if clocks:
        yield from (Dress.model_validate({"clock": clock}) for clock in clocks)
        return
    found = [match for text in probes if (match := _DRESSED.fullmatch(text)) and not _UNSAFE.search(text)]
    if not found:
        return
    outer = Counter((match["prefix"] or "", match["suffix"] or "") for match in found)
    (prefix, suffix), _ = outer.most_common(1)[0]
    if not _is_outer(prefix, suffix):
        return
    worn = [match for match in found if (match["prefix"] or "", match["suffix"] or "") == (prefix, suffix)]
    numbers = [match["number"] for match in worn]
    base = {"prefix": prefix, "suffix": suffix, **_signs(worn, numbers)}
    for mark in ".,":
        for group in _GROUPS:
            if group == mark or (group and not any(group in number for number in numbers)):
                continue
            if any(character not in f"0123456789eE+-{mark}{group}" for number in numbers[:1] for character in number):
                continue
            hundreds = bool(group) and any(_is_of_hundreds(number, mark, group) for number in numbers)
            yield from _fractions(base | {"mark": mark, "group": group, "hundreds": hundreds}, numbers)


def _is_of_hundreds(number: str, mark: str, group: str) -> bool:
    """Return whether digits above thousands stand in groups of two, as in India."""
    groups = number.partition(mark)[0].split(group)
    return len(groups) > 2 and all(len(one) == 2 for one in groups[1:-1])


def _is_outer(prefix: str, suffix: str) -> bool:
    """Return whether this is something that stands around numbers, and no part of a code."""
    before = prefix.strip(" \u00a0\u202f")
    is_money = before in _CURRENCIES or (len(before) == 1 and unicodedata.category(before) in ("Sc", "Sm", "So"))
    money = suffix.strip(" \u00a0\u202f")
    is_unit = bool(_SUFFIX.fullmatch(suffix)) or (len(money) == 1 and unicodedata.category(money) == "Sc")
    return (not prefix or is_money) and (not suffix or is_unit)


def _signs(worn: Sequence[re.Match[str]], numbers: Sequence[str]) -> dict[str, object]:
    for match in worn:
        if match["open"] and match["close"]:
            return {"negative": "parentheses"}
        for name, style in (("before", "before"), ("inside", "inside"), ("behind", "behind")):
            if match[name] and match[name] in _MINUS:
                plus = any(other[name] == "+" for other in worn if name != "behind")
                return {"negative": style, "minus": match[name], "plus": plus}
    signed = [match for match in worn if match["before"] == "+" or match["inside"] == "+"]
    short = all(len(re.sub(r"\D", "", number.partition(".")[0])) <= _LONGEST_PHONE_SIGN for number in numbers)
    if not signed or not short:  # a longer number behind a plus is a telephone's
        return {}
    return {"plus": True, "negative": "inside" if signed[0]["inside"] else "before"}


def _fractions(base: dict[str, object], numbers: Sequence[str]) -> Iterator[Dress]:
    mark = str(base["mark"])
    plain = [number for number in numbers if not EXPONENT.search(number)]
    places = Counter(len(number.partition(mark)[2]) for number in plain)
    bare = any(number.startswith(mark) for number in numbers)
    capital = any("E" in number for number in numbers)
    fixed = [count for count, _ in places.most_common(2) if count <= MAX_PLACES]
    if fixed and fixed[0]:
        yield Dress.model_validate(base | {"places": fixed[0], "bare": bare})
    for trimmed in (True, False):
        yield Dress.model_validate(base | {"trimmed": trimmed, "bare": bare, "capital": capital})
    for scientific in ways_of_e([number.replace(str(base["group"]), "").replace(mark, ".") for number in numbers]):
        for trimmed in (True, False):
            yield Dress.model_validate(base | {"trimmed": trimmed, "bare": bare, "scientific": scientific})
        if fixed and fixed[0]:
            yield Dress.model_validate(base | {"places": fixed[0], "bare": bare, "scientific": scientific})
    if len(fixed) > 1 and fixed[1]:
        yield Dress.model_validate(base | {"places": fixed[1], "bare": bare})
