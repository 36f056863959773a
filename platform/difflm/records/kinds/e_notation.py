"""E notation: the ways in which a column may spell very small and very large numbers, as its cells show them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from pydantic import TypeAdapter

from difflm.records.fields import MAX_PLACES
from difflm.spelled_numbers import NEVER, Scientific

_FORM: Final = TypeAdapter(Scientific)
EXPONENT = re.compile(r"\d[eE][+-]?\d")
_IN_E = re.compile(r"[1-9](?:\.(?P<rest>\d+))?(?P<letter>[eE])(?P<sign>[+-]?)(?P<power>\d{1,3})")
_USUAL_BELOW: Final = (-4, -6, -3)  # Python, Excel and most others; JavaScript; Java
_USUAL_ABOVE: Final = (16, 21, 7, 15)
_NUMBER = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)")


def ways_of_e(numbers: Sequence[str]) -> Iterator[Scientific]:
    """Yield ways of E notation that give these numbers, the likelier ones first; none where no number has it."""
    found = [match for number in numbers if (match := _IN_E.fullmatch(number))]
    if not found:
        return
    letters = Counter(match["letter"] for match in found)
    looks: dict[str, object] = {
        "letter": max(letters, key=lambda letter: (letters[letter], letter)),
        "plus": all(match["sign"] for match in found),
        "width": min(len(match["power"]) for match in found),
    }
    lengths = {len(match["rest"] or "") for match in found}
    shortest: dict[str, object] = {"pointed": any(match["rest"] == "0" for match in found)}
    alone = len(lengths) == 1 and max(lengths) <= MAX_PLACES
    fixed: list[dict[str, object]] = [{"mantissa": length} for length in lengths if alone]
    ways = [*fixed, shortest] if lengths == {2} and looks["letter"] == "E" else [shortest, *fixed]  # Excel has two
    plain = [number for number in numbers if _NUMBER.fullmatch(number) and not EXPONENT.search(number)]
    for way in ways:
        for when in _boundaries(found, plain):
            yield _FORM.validate_python({**looks, **way, **when})


def _boundaries(found: Sequence[re.Match[str]], plain: Sequence[str]) -> Iterator[dict[str, object]]:
    """Yield where E notation may begin, below and above, and that it is where it is shorter, or everywhere."""
    if not plain:
        yield {"when": "always"}
        return
    powers = [int(match["sign"] + match["power"]) for match in found]
    sizes = [float(number) for number in plain]
    usual = [math.floor(math.log10(size)) for size in sizes if 0 < size < math.inf]
    low, high = min(usual, default=0), max(usual, default=0)
    small, large = [power for power in powers if power < low], [power for power in powers if power > high]
    if len(small) + len(large) == len(powers):
        below = _first_within(_USUAL_BELOW, max(small) + 1, low) if small else min(_USUAL_BELOW[0], low)
        above = _first_within(_USUAL_ABOVE, high + 1, min(large)) if large else NEVER
        yield {"below": below, "above": above}
    yield {"when": "shorter"}


def _first_within(usual: Sequence[int], low: int, high: int) -> int:
    return next((power for power in usual if low <= power <= high), low)
