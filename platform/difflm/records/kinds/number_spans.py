"""Numbers between fixed texts: `120/80`, `10 x 20 cm`, `18–25`, `v2.10.1`, `3. Mai 2021`.

Cells with the same texts around their numbers have one form, in which each number is a span from the smallest to the
largest of training, or one of few values. Where there are too many forms, words are one of a closed list. Digits behind
a point or comma are as many as training has, and a few other cells are forms of one text. What is written with zeros in
front, or with as many digits as a code, is a code (`codes_of_form`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final, Literal, TypeAlias

from difflm.records.fields import Form, Span

Place: TypeAlias = str | Span | tuple[str, ...]
_Group: TypeAlias = list[list[str]]

_NUMBERS = re.compile(r"([0-9]+)")
_NUMBERS_AND_WORDS = re.compile(r"([0-9]+|[^\W\d_]+)")
_LONGEST: Final = 64
_PROBES: Final = 1000
_MAX_FORMS: Final = 48
_MAX_OTHERS: Final = 10  # cells that are forms of one text
_MAX_NUMBERS: Final = 8
_MAX_WORDS: Final = 60  # at one place
_FEWEST: Final = 3  # different cells of a form
_FEWEST_CELLS: Final = 10
_ENOUGH: Final = 20  # different cells, of which one would have a zero in front if they were codes
_FEW, _OFTEN = 4, 40  # so few numbers in so many cells are all that there are
_LONGEST_NUMBER: Final = 9
_LONGEST_OF_ONE_LENGTH: Final = 4  # from five digits on, all of one length, it is a code
_LONGEST_PADDED: Final = 2
_CLOCK: Final = 59  # months, days, hours and minutes have zeros in front, and are no codes
_BLANKS: Final = {ord(blank): " " for blank in "\u00a0\u2009\u202f"}
_DIGITS: Final = "0123456789"
_POINTS: Final = (".", ",")


def find_numbers(distinct: Sequence[str], *, alone: bool = True) -> tuple[Form, ...] | None:
    """Return the forms of cells that are numbers between fixed texts; None where too many are not.

    Without `alone`, it takes more than one number.
    """
    if not all(0 < len(text) <= _LONGEST and text.translate(_BLANKS).isprintable() for text in distinct):
        return None
    for parts in (_NUMBERS, _NUMBERS_AND_WORDS):
        if len(distinct) > 2 * _PROBES:  # most columns of so many texts are something else
            some = distinct[:: len(distinct) // _PROBES]
            if _forms(some, parts, fewest=1 if alone else 2) is None:
                continue
        found = _forms(distinct, parts, fewest=1 if alone else 2)
        if found is not None:
            return found
    return None


def has_spans(form: Form) -> bool:
    """Tell whether a form has numbers or words in it."""
    return any(not isinstance(place, str) for place in form)


def span_of(place: Place) -> Span | None:
    """Return a place that is a number; None for characters and words."""
    return None if isinstance(place, str) or isinstance(place[0], str) else place


def texts_of(place: Place) -> tuple[str, ...]:
    """Return what may stand at a place that is no number."""
    return tuple(str(text) for text in place)


def choices(place: Place) -> int:
    """Count what may stand at a place of a form."""
    span = span_of(place)
    return len(place) if span is None else max(0, span[1] - span[0] + 1)


def chosen(place: Place, number: int) -> str:
    """Return what stands at a place, by a number below its choices."""
    span = span_of(place)
    return texts_of(place)[number] if span is None else f"{span[0] + number:0{span[2]}d}"


def longest(place: Place) -> int:
    """Return how many bytes a place of a form has at most in JSON."""
    span = span_of(place)
    return max(map(_written, texts_of(place))) if span is None else max(len(str(span[1])), span[2])


def _written(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode()) - 2


def holds_numbers(form: Form, text: str) -> bool:
    """Return whether a text is of a form with numbers, each in its span, and in their order."""
    found = _pattern(form).fullmatch(text)
    if found is None:
        return False
    numbers = list(map(int, found.groups()))
    spans = [span for place in form if (span := span_of(place)) is not None]
    if not all(low <= number <= high for number, (low, high, _, _) in zip(numbers, spans, strict=True)):
        return False
    steps = zip(pairwise(numbers), spans[1:], strict=True)
    return all((after - before) * span[3] >= 0 for (before, after), span in steps)


def nearest_numbers(form: Form, text: str) -> str | None:
    """Return a text of a form whose numbers are out of their spans with the nearest numbers that are not; None for a
    text of another form.
    """
    found = _pattern(form).fullmatch(text)
    if found is None:
        return None
    written, at, before = "", 0, 0
    spans = [span for place in form if (span := span_of(place)) is not None]
    for group, (low, high, digits, order) in enumerate(spans, start=1):
        number = min(max(int(found[group]), low), high)
        number = max(number, before) if order > 0 else min(number, before) if order < 0 else number
        written += text[at : found.start(group)] + f"{number:0{digits}d}"
        at, before = found.end(group), number
    return written + text[at:]


def is_readable(form: Form) -> bool:
    """Tell whether texts of a form fall apart in one way: behind a number comes no digit, behind a word no letter of
    it. All that are found do.
    """
    for place, following in pairwise(form):
        inside = set(_DIGITS if span_of(place) else "".join(texts_of(place)))
        first = _DIGITS if span_of(following) else (text[:1] for text in texts_of(following))
        if not isinstance(place, str) and not inside.isdisjoint(first):
            return False
    return True


@lru_cache(maxsize=256)
def _pattern(form: Form) -> re.Pattern[str]:
    written = [] if is_readable(form) else ["(?!)"]
    for place in form:
        span = span_of(place)
        if span is not None:
            written.append(f"([0-9]{{{span[2]}}})" if span[2] else "(0|[1-9][0-9]{0,18})")
        else:
            written.append(f"(?:{'|'.join(map(re.escape, sorted(texts_of(place), key=len, reverse=True)))})")
    return re.compile("".join(written))


def widened(form: Form) -> Form:
    """Return a form whose spans say no more than the first digit of their ends."""
    return tuple(place if (span := span_of(place)) is None else _wide(span) for place in form)


def _wide(span: Span) -> Span:
    low, high, digits, order = span
    down, up = 10 ** (len(str(low)) - 1), 10 ** (len(str(high)) - 1)
    return low // down * down, (high // up + 1) * up - 1, digits, order


def shown_form(form: Form) -> str:
    """Write a form with the ends of its numbers: `{90..180}/{60..110}`."""
    written = []
    for place in form:
        span, texts = span_of(place), texts_of(place)
        words = "|".join(texts[:_FEW]) + ("|..." if len(texts) > _FEW else "")
        written.append(f"{{{span[0]}..{span[1]}}}" if span else f"{{{words}}}" if len(texts) > 1 else texts[0])
    return "".join(written)


def _forms(distinct: Sequence[str], parts: re.Pattern[str], *, fewest: int) -> tuple[Form, ...] | None:
    groups: dict[tuple[str, ...], _Group] = {}
    for text in distinct:
        cell = parts.split(text)
        groups.setdefault(_key(cell), []).append(cell)
        if len(groups) > _MAX_FORMS + _MAX_OTHERS:
            return None
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    forms = {key: form for key, group in ordered if len(group) >= _FEWEST and (form := _form(group)) is not None}
    others = ["".join(cell) for key, group in ordered if key not in forms for cell in group]
    if len(distinct) - len(others) < max(_FEWEST_CELLS, len(distinct) / 2):
        return None
    if len(others) > _MAX_OTHERS or len(forms) > _MAX_FORMS:
        return None
    if not any(_are_numbers(groups[key], fewest=fewest) for key in forms):
        return None
    return (*forms.values(), *(tuple(text) for text in others))


def _key(cell: Sequence[str]) -> tuple[str, ...]:
    """Return the fixed texts of a cell, what stands between them, and how many digits its fractions have."""
    kinds = ("9" if run.isdecimal() else "a" for run in cell[1::2])
    fractions = (str(len(cell[place])) for place in _fractions(cell))
    return (*cell[::2], *kinds, *fractions)


def _fractions(cell: Sequence[str]) -> list[int]:
    """Return the places of the digits behind a point or comma."""
    runs = range(3, len(cell), 2)
    return [place for place in runs if cell[place - 1] in _POINTS and cell[place - 2].isdecimal()]


def _form(group: _Group) -> Form | None:
    """Return the form of cells with the same fixed texts; None where numbers are no numbers, but parts of codes."""
    places: list[Place] = []
    fractions, before = _fractions(group[0]), list[int]()
    if sum(run.isdecimal() for run in group[0][1::2]) > _MAX_NUMBERS:
        return None
    for place, text in enumerate(group[0]):
        cells = [cell[place] for cell in group]
        if place % 2 == 0 or min(cells) == max(cells):
            places += text
            before = before if place % 2 == 0 else []
            continue
        values = tuple(sorted(set(cells)))
        if not text.isdecimal():
            if len(values) > _MAX_WORDS or 2 * len(values) > len(cells):
                return None
            places.append(values)
            continue
        if all(cell[0] == "0" < cell for cell in cells) and len(set(map(len, cells))) > 1:
            places += "0"  # of a telephone's area
            cells = [cell[1:] for cell in cells]
        digits = _digits(cells, is_fraction=place in fractions)
        if digits is None:
            return None
        if len(values) <= _FEW and len(cells) >= _OFTEN:
            places.append(values)
            before = []
            continue
        numbers = list(map(int, cells))
        places.append((min(numbers), max(numbers), digits, 0 if fractions else _order(before, numbers)))
        before = numbers
    return tuple(places)


def _digits(cells: Sequence[str], *, is_fraction: bool) -> int | None:
    """Return to how many digits numbers are filled up with zeros; None where there is no one way."""
    if max(map(len, cells)) > _LONGEST_NUMBER:
        return None
    if is_fraction:
        return len(cells[0])
    if not _is_padded(cells):
        return 0
    return len(cells[0]) if len(set(map(len, cells))) == 1 and len(cells[0]) <= _LONGEST_PADDED else None


def _is_padded(cells: Sequence[str]) -> bool:
    return any(cell[0] == "0" and len(cell) > 1 for cell in cells)


def _order(before: Sequence[int], numbers: Sequence[int]) -> Literal[-1, 0, 1]:
    """Return 1 where numbers are never below those before them, -1 where never above, though they could be."""
    if len(numbers) < _FEWEST_CELLS or not before or max(min(before), min(numbers)) > min(max(before), max(numbers)):
        return 0
    if all(one <= other for one, other in zip(before, numbers, strict=True)):
        return 1
    return -1 if all(one >= other for one, other in zip(before, numbers, strict=True)) else 0


def _are_numbers(group: _Group, *, fewest: int) -> bool:
    """Tell numbers from codes: one of them has more digits than another, or none of many has a zero in front."""
    fractions, varying, plain, padded = _fractions(group[0]), 0, list[list[str]](), 0
    for place in range(1, len(group[0]), 2):
        cells = [cell[place] for cell in group]
        if min(cells) == max(cells):
            continue
        varying += cells[0].isdecimal()
        if not cells[0].isdecimal() or place in fractions:
            continue
        if not _is_padded(cells):
            plain.append(cells)
        elif max(map(int, cells)) > _CLOCK:
            padded += 1
    if varying < fewest or not plain:
        return False
    if any(len(set(map(len, cells))) > 1 for cells in plain):
        return True
    short = all(len(cells[0]) <= _LONGEST_OF_ONE_LENGTH for cells in plain)
    return varying > 1 and len(group) >= _ENOUGH and not padded and short
