"""Numbers between fixed texts: `120/80`, `10 x 20 cm`, `18–25`, `v2.10.1`, `3. Mai 2021`.

Cells with the same texts around their numbers have one form, in which each number is a span from the smallest to the
largest of training. Digits behind a point or comma are as many as training has, and a few other cells are forms of one
text. What is written with zeros in front, or with as many digits as a code, is a code (`codes_of_form`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

from difflm.records.fields import Form, Span

_PARTS = re.compile(r"([0-9]+)")
_LONGEST: Final = 64
_MAX_FORMS: Final = 16
_MAX_WORDS: Final = 10
_MAX_NUMBERS: Final = 8
_FEWEST: Final = 3  # different cells of a form
_FEWEST_CELLS: Final = 10
_ENOUGH: Final = 20  # different cells, of which one would have a zero in front if they were codes
_LONGEST_NUMBER: Final = 9
_LONGEST_OF_ONE_LENGTH: Final = 4  # from five digits on, all of one length, it is a code
_LONGEST_PADDED: Final = 2
_UNSAFE: Final = frozenset('"\\')
_POINTS: Final = (".", ",")


def find_numbers(distinct: Sequence[str]) -> tuple[Form, ...] | None:
    """Return the forms of cells that are numbers between fixed texts; None where too many are not."""
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    for text in distinct:
        if not 0 < len(text) <= _LONGEST or not text.isprintable() or not _UNSAFE.isdisjoint(text):
            return None
        parts = _PARTS.split(text)
        groups.setdefault(_key(parts), []).append(parts)
        if len(groups) > _MAX_FORMS + _MAX_WORDS:
            return None
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    forms = {key: form for key, group in ordered if len(group) >= _FEWEST and (form := _form(group)) is not None}
    words = ["".join(parts) for key, group in ordered if key not in forms for parts in group]
    if len(distinct) - len(words) < max(_FEWEST_CELLS, len(distinct) / 2):
        return None
    if len(words) > _MAX_WORDS or len(forms) > _MAX_FORMS or not _are_numbers(groups, forms):
        return None
    return (*forms.values(), *(tuple(word) for word in words))


def has_spans(form: Form) -> bool:
    """Tell whether a form has numbers in it."""
    return any(not isinstance(place, str) for place in form)


def choices(place: str | Span) -> int:
    """Count what may stand at a place of a form."""
    return len(place) if isinstance(place, str) else max(0, place[1] - place[0] + 1)


def spelled_number(span: Span, offset: int) -> str:
    """Spell the number that is so much above the lowest of a span."""
    return f"{span[0] + offset:0{span[2]}d}"


def longest(place: str | Span) -> int:
    """Return how many bytes a place of a form has at most."""
    return max(len(c.encode()) for c in place) if isinstance(place, str) else max(len(str(place[1])), place[2])


def holds_numbers(form: Form, text: str) -> bool:
    """Return whether a text is of a form with numbers, each in its span, and in their order."""
    found = _pattern(form).fullmatch(text)
    if found is None:
        return False
    numbers = list(map(int, found.groups()))
    spans = [place for place in form if not isinstance(place, str)]
    if not all(low <= number <= high for number, (low, high, _, _) in zip(numbers, spans, strict=True)):
        return False
    steps = zip(pairwise(numbers), spans[1:], strict=True)
    return all((after - before) * span[3] >= 0 for (before, after), span in steps)


@lru_cache(maxsize=256)
def _pattern(form: Form) -> re.Pattern[str]:
    written = []
    for place in form:
        if isinstance(place, str):
            written.append(f"[{re.escape(place)}]")
        else:
            written.append(f"([0-9]{{{place[2]}}})" if place[2] else "(0|[1-9][0-9]{0,18})")
    return re.compile("".join(written))


def widened(form: Form) -> Form:
    """Return a form whose spans say no more than the first digit of their ends."""
    return tuple(place if isinstance(place, str) else _wide(place) for place in form)


def _wide(span: Span) -> Span:
    low, high, digits, order = span
    down, up = 10 ** (len(str(low)) - 1), 10 ** (len(str(high)) - 1)
    return low // down * down, (high // up + 1) * up - 1, digits, order


def _key(parts: Sequence[str]) -> tuple[str, ...]:
    """Return the fixed texts of a cell, and how many digits its fractions have."""
    fractions = (str(len(digits)) for before, digits in _numbers(parts) if before in _POINTS)
    return (*parts[::2], *fractions)


def _numbers(parts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the digits of each number behind the first with the text before."""
    yield from zip(parts[2:-1:2], parts[3::2], strict=True)


def _form(group: Sequence[Sequence[str]]) -> Form | None:
    """Return the form of cells with the same fixed texts; None where numbers are no numbers, but parts of codes."""
    places: list[str | Span] = []
    fixed, before = group[0], list[int]()
    for place, text in enumerate(fixed):
        if not place % 2:
            places += text
            continue
        cells = [parts[place] for parts in group]
        if len(cells[0]) > _LONGEST_NUMBER or max(map(len, cells)) > _LONGEST_NUMBER:
            return None
        numbers = list(map(int, cells))
        digits = _digits(cells, is_fraction=place > 1 and fixed[place - 1] in _POINTS)
        if digits is None:
            return None
        places.append((min(numbers), max(numbers), digits, _order(before, numbers)))
        before = numbers if min(numbers) < max(numbers) else []
    if any(text in _POINTS for text in fixed[2:-1:2]):  # a fraction is no number of its own
        places = [place if isinstance(place, str) else (*place[:3], 0) for place in places]
    return tuple(_fixed(places))


def _digits(cells: Sequence[str], *, is_fraction: bool) -> int | None:
    """Return to how many digits numbers are filled up with zeros; None where there is no one way."""
    lengths = set(map(len, cells))
    if is_fraction:
        return len(cells[0])
    if not any(cell[0] == "0" and len(cell) > 1 for cell in cells):
        return 0
    return len(cells[0]) if len(lengths) == 1 and len(cells[0]) <= _LONGEST_PADDED else None


def _order(before: Sequence[int], numbers: Sequence[int]) -> int:
    """Return 1 where numbers are never below those before them, -1 where never above, though they could be."""
    if len(numbers) < _FEWEST_CELLS or not before or max(min(before), min(numbers)) > min(max(before), max(numbers)):
        return 0
    if all(one <= other for one, other in zip(before, numbers, strict=True)):
        return 1
    return -int(all(one >= other for one, other in zip(before, numbers, strict=True)))


def _fixed(places: Sequence[str | Span]) -> Iterator[str | Span]:
    """Write numbers that are always the same as their digits."""
    for place in places:
        if isinstance(place, str) or place[0] < place[1]:
            yield place
        else:
            yield from spelled_number(place, 0)


def _are_numbers(groups: dict[tuple[str, ...], list[list[str]]], forms: dict[tuple[str, ...], Form]) -> bool:
    """Tell whether two numbers differ in cells of one form, and are no codes."""
    found = False
    for key in forms:
        cells = list(zip(*(parts[1::2] for parts in groups[key]), strict=True))
        if len(cells) > _MAX_NUMBERS:
            return False
        varying = [len(set(digits)) > 1 for digits in cells]
        whole = [text not in _POINTS or not place for place, text in enumerate(key[: len(cells)])]
        counted = [digits for digits, *is_one in zip(cells, varying, whole, strict=True) if all(is_one)]
        found = found or (sum(varying) > 1 and _are_counted(counted))
    return found


def _are_counted(cells: Sequence[tuple[str, ...]]) -> bool:
    """Tell numbers from codes: one of them has more digits than another, or none of many has a zero in front."""
    plain = [digits for digits in cells if not any(cell[0] == "0" and len(cell) > 1 for cell in digits)]
    if any(len(set(map(len, digits))) > 1 for digits in plain):
        return True
    enough = bool(cells) and len(cells[0]) >= _ENOUGH and len(plain) == len(cells)
    return enough and all(len(digits[0]) <= _LONGEST_OF_ONE_LENGTH for digits in plain)


def shown_form(form: Form) -> str:
    """Write a form with the ends of its numbers: `{90..180}/{60..110}`."""
    return "".join(place if isinstance(place, str) else f"{{{place[0]}..{place[1]}}}" for place in form)
