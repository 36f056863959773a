"""Codes of a fixed form: which characters stand at which place, and as many different codes as there are.

Cells of one length, with the same marks at the same places, have one shape. At each place it allows the characters of
the class that training has there (digits, capitals, ...), or exactly those seen where they are few and seen often. Two
or three digits that stay below what months, days, hours, minutes or weeks have do so in every code: 2024-W53, 23h59.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Iterator, Sequence
from typing import Final

from difflm.errors import SynthesisError
from difflm.records.fields import Form, Record, Shape
from difflm.records.kinds.number_spans import choices, chosen, has_spans, holds_numbers, nearest_numbers
from difflm.records.schema import CodeField, IdentifierField, RecordSchema, Value

MAX_SHAPES: Final = 8
_MAX_PLACES: Final = 64
_FEWEST: Final = 3
_FEWEST_CODES: Final = 10
_WORD = re.compile(r"(?<![^ ])[a-z]{3,}(?![^ ])")
_OFTEN: Final = 40
_FEW: Final = 4
_CLASSES: Final = (
    string.digits,
    string.ascii_uppercase,
    string.ascii_lowercase,
    string.digits + "ABCDEF",
    string.digits + "abcdef",
    string.digits + string.ascii_uppercase,
    string.digits + string.ascii_lowercase,
    string.ascii_letters,
    string.digits + string.ascii_letters,
)
_UNSAFE: Final = frozenset('"\\')
_DIGITS_IN: Final = 50  # of so many cells one may be without a digit, such as the colour #fadbed
_MEASURED = re.compile(
    r"\d[.,'\u2019]\d|[$\u20ac\u00a3\u00a5%\u2030\u00b0]|\d ?[x\u00d7] ?\d|(?<![\w:])\d{1,2}:\d\d(?::\d\d)?(?![\w:])"
)
_BOUNDS: Final = (12, 23, 24, 31, 59, 366)
_WEEKS: Final = (53,)
_FROM_ONE: Final = frozenset((12, 31, 53, 366))
_BY_CHANCE: Final = 1e-6
_MAX_BOUNDED: Final = 32


def find_shapes(distinct: Sequence[str], *, least: int = _FEWEST, most: int = MAX_SHAPES) -> tuple[Shape, ...] | None:
    """Return the shapes that all distinct cells have, None where they are no codes: too many forms, or words."""
    groups: dict[tuple[int, tuple[tuple[int, str], ...]], list[str]] = {}
    for text in distinct:
        if not 0 < len(text) <= _MAX_PLACES or not text.isprintable() or not _UNSAFE.isdisjoint(text):
            return None
        marks = tuple((place, letter) for place, letter in enumerate(text) if not _is_plain(letter))
        groups.setdefault((len(text), marks), []).append(text)
        if len(groups) > most:
            return None
    if any(len(group) < least for group in groups.values()):
        return None
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(shape for _, group in ordered for shape in _bounded(_shape(group), group))


def looks_like_codes(distinct: Sequence[str]) -> bool:
    """Return whether cells are more likely codes than words: nearly all have digits, and none a word beside a blank."""
    if len(distinct) < _FEWEST_CODES or any(" " in text and _WORD.search(text) for text in distinct):
        return False
    without = sum(not any(letter.isdigit() for letter in text) for text in distinct)
    return without <= len(distinct) / _DIGITS_IN


def looks_measured(distinct: Sequence[str]) -> bool:
    """Return whether most cells have amounts, sizes, places or times in them, which are no names made by counting."""
    return 2 * sum(_MEASURED.search(text) is not None for text in distinct) > len(distinct)


def _is_plain(letter: str) -> bool:
    return letter.isascii() and letter.isalnum()


def _shape(group: Sequence[str]) -> Shape:
    return tuple(_allowed(set(letters), len(group)) for letters in zip(*group, strict=True))


def _bounded(shape: Shape, group: Sequence[str]) -> list[Shape]:
    """Return a shape as those in which no run of digits goes beyond its bound; all codes of the group stay."""
    shapes = [shape]
    for start, stop in _digit_runs(group):
        numbers = [int(text[start:stop]) for text in group]
        bound = _bound(numbers, stop - start, group[0][:start])
        if bound is None:
            continue
        least = 1 if bound in _FROM_ONE and min(numbers) > 0 else 0
        pieces = list(_digits_between(least, f"{bound:0{stop - start}d}"))
        if len(shapes) * len(pieces) <= _MAX_BOUNDED:
            shapes = [met for one in shapes for piece in pieces if (met := _met(one, start, piece)) is not None]
    return shapes


def _digit_runs(group: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield where runs of two or three digits start and stop in all of the group."""
    digits = "".join("9" if all(map(str.isdecimal, letters)) else "a" for letters in zip(*group, strict=True))
    for found in re.finditer("9+", digits):
        if 2 <= len(found[0]) <= 3:
            yield found.span()


def _bound(numbers: Sequence[int], width: int, before: str) -> int | None:
    """Return what months, days, ... have at most, if so many numbers are hardly below it by chance."""
    largest = max(numbers)
    bounds = _WEEKS if before[-1:] in ("W", "w") else _BOUNDS
    bound = next((bound for bound in bounds if largest <= bound <= largest + max(1, bound // 8)), None)
    if bound is None or len(numbers) < _OFTEN or len(str(bound)) != width:
        return None
    return bound if ((bound + 1) / 10**width) ** len(numbers) < _BY_CHANCE else None


def _digits_between(least: int, bound: str) -> Iterator[Shape]:
    """Yield the digits by place of all numbers from `least`, 0 or 1, to a bound, each once."""
    for place, digit in enumerate(bound):
        rest = bound[place + 1 :]
        whole = not rest.strip("9")
        below = string.digits[: int(digit) + whole]
        if below:
            piece = (*bound[:place], below, *[string.digits] * len(rest))
            yield from _without_zero(piece) if least else [piece]
        if whole:
            return


def _without_zero(piece: Shape) -> Iterator[Shape]:
    """Yield the digits by place without the number 0."""
    for place, letters in enumerate(piece):
        if others := letters.replace("0", ""):
            yield (*piece[:place], others, *piece[place + 1 :])
        if "0" not in letters:
            return
        piece = (*piece[:place], "0", *piece[place + 1 :])


def _met(shape: Shape, start: int, piece: Shape) -> Shape | None:
    """Return a shape that also has these digits from a place on; None where there is none."""
    met = ["".join(letter for letter in shape[start + at] if letter in letters) for at, letters in enumerate(piece)]
    return (*shape[:start], *met, *shape[start + len(piece) :]) if all(met) else None


def _allowed(seen: set[str], rows: int) -> str:
    if len(seen) == 1 and (rows >= _FEW or not _is_plain(next(iter(seen)))):
        return next(iter(seen))
    if len(seen) <= _FEW and rows >= _OFTEN:
        return "".join(sorted(seen))
    return next((letters for letters in _CLASSES if seen <= set(letters)), "".join(sorted(seen)))


def is_of_form(shapes: Sequence[Form], text: str) -> bool:
    """Return whether a text is a code of one of the shapes."""
    return any(
        len(shape) == len(text) and all(letter in place for letter, place in zip(text, shape, strict=True))
        for shape in shapes
    ) or any(has_spans(shape) and holds_numbers(shape, text) for shape in shapes)


def nearest_code(shapes: Sequence[Form], text: str) -> str | None:
    """Return a text that is a code but for the size of its numbers with the nearest numbers; None for other texts."""
    found = (near for shape in shapes if has_spans(shape) and (near := nearest_numbers(shape, text)) is not None)
    return next((near for near in found if is_of_form(shapes, near)), None)


def reaches(shapes: Sequence[Form], text: str) -> bool:
    """Return whether a text is a code, but for the size of its numbers."""
    return is_of_form(shapes, text) or nearest_code(shapes, text) is not None


def code_count(shapes: Sequence[Form]) -> int:
    """Count the codes that there are, those of two shapes twice, whatever the order of numbers in them."""
    return sum(math.prod(map(choices, shape)) for shape in shapes)


def numbered_code(shapes: Sequence[Form], number: int) -> str:
    """Return the code of a number from 0 to `code_count(shapes) - 1`; another one for every number."""
    for shape in shapes:
        size = math.prod(map(choices, shape))
        if number < size:
            letters = []
            for place in reversed(shape):
                number, letter = divmod(number, choices(place))
                letters.append(chosen(place, letter))
            return "".join(reversed(letters))
        number -= size
    raise ValueError(f"there is no code of the number {number}")


def identifier(field: IdentifierField, index: int) -> str | int:
    """Return the name of a row: another one for every index, in whatever order or process rows are made.

    Codes are taken in steps of the golden ratio of their number, so that neighbours look unlike each other.

    Raises:
        SynthesisError: there are no more codes of the form.
    """
    if field.start is not None:
        number = field.start + index * field.step
        return number if field.stored == "integer" else f"{number:0{field.digits}d}"
    count = code_count(field.shapes)
    if index >= count:
        raise SynthesisError(
            f"column {field.name!r}: there are {count:,} different names of its form, row {index:,} has none; ask for "
            f"fewer rows, or learn the column as it is with schema.kinds.{field.name}=code"
        )
    step = int(count * 0.6180339887498949) | 1
    while math.gcd(step, count) != 1:
        step += 2
    return numbered_code(field.shapes, (count // 3 + index * step) % count)


def refuse_unnamed(schema: RecordSchema, stop: int) -> None:
    """Refuse rows up to `stop` (not included) where some of them would have no name left.

    Raises:
        SynthesisError: names the column and how many names there are.
    """
    for field in schema.fields:
        if isinstance(field, IdentifierField) and stop > 0:
            identifier(field, stop - 1)


def named(record: Record, schema: RecordSchema, index: int) -> Record:
    """Return a record with the identifiers of its row; the same record where the schema has none."""
    names = {field.name: identifier(field, index) for field in schema.fields if isinstance(field, IdentifierField)}
    return {key: names.get(key, value) for key, value in record.items()} if names else record


def holds_code(field: CodeField | IdentifierField, value: Value) -> bool:
    """Return whether a value may stand in the column."""
    if isinstance(field, CodeField):
        return isinstance(value, str) and is_of_form(field.shapes, value)
    return isinstance(value, int if field.stored == "integer" else str) and not isinstance(value, bool)
