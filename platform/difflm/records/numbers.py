"""Numbers: how many decimals a column of decimals needs, exact where it can be."""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from difflm.records.literals import decimal_literal

_DOUBLE_DIGITS: Final = 15


class DecimalForm(NamedTuple):
    """How a column is printed: decimals, the power of ten it is counted in, and whether that is less than the source has."""

    decimals: int
    exponent: int
    rounded: bool


def decimal_form(
    texts: Sequence[str], numbers: Sequence[float], *, exact_digits: int, significant_digits: int, max_decimals: int | None
) -> DecimalForm:
    """The form of a column from its distinct `texts` and the finite `numbers` they stand for.

    Every digit of the source is kept while the widest value has at most `exact_digits`. Otherwise `significant_digits` of
    the interquartile range (of the distinct values) survive; where even that cannot be printed in plain digits, values are
    counted in units of a power of ten.
    """
    source = max((decimals_of(text) for text in texts), default=0)
    largest = max(abs(number) for number in numbers)
    whole_digits = len(f"{largest:.0f}")
    if whole_digits + source <= exact_digits and (max_decimals is None or source <= max_decimals):
        return DecimalForm(source, 0, rounded=False)
    magnitude = math.floor(math.log10(_spread(numbers)))
    needed = significant_digits - 1 - magnitude
    if whole_digits <= _DOUBLE_DIGITS and max(needed, 0) + min(whole_digits, 2) <= _DOUBLE_DIGITS:
        decimals = max(0, min(source, needed, _DOUBLE_DIGITS - whole_digits))
        exponent = 0
    else:
        exponent = math.floor(math.log10(largest))
        decimals = max(0, min(needed + exponent, _DOUBLE_DIGITS - 2))
    if max_decimals is not None:
        decimals = min(decimals, max_decimals)
    exact = all(float(decimal_literal(number, decimals, exponent)) == number for number in numbers)
    return DecimalForm(decimals, exponent, rounded=not exact)


def decimals_of(text: str) -> int:
    """Decimals that a plain or scientific number is written with."""
    if "e" in text or "E" in text:
        return max(0, -int(Decimal(text).normalize().as_tuple().exponent))
    _, _, fraction = text.partition(".")
    return len(fraction)


def widest(texts: pa.Array) -> list[str]:
    """Among distinct number texts, enough of them to know the most decimals: the one with most, and all with an exponent."""
    scientific = pc.match_substring(texts, "e", ignore_case=True)
    plain = texts.filter(pc.invert(scientific))
    chosen: list[str] = texts.filter(scientific).to_pylist()
    if len(plain):
        points = pc.find_substring(plain, ".")
        fractions = pc.if_else(pc.less(points, 0), 0, pc.subtract(pc.subtract(pc.utf8_length(plain), points), 1))
        chosen.append(plain[int(np.argmax(fractions.to_numpy(zero_copy_only=False)))].as_py())
    return chosen


def _spread(numbers: Sequence[float]) -> float:
    """Interquartile range of the distinct values, or the next best thing above zero."""
    scaled = np.asarray(sorted(numbers)) / 4.0  # so that differences of the largest doubles stay finite
    low, high = np.quantile(scaled, 0.25), np.quantile(scaled, 0.75)
    for width in (high - low, scaled[-1] - scaled[0], max(abs(scaled[0]), abs(scaled[-1]))):
        if width * 4.0 > 0.0 and math.isfinite(width * 4.0):
            return float(width * 4.0)
        if width > 0.0:
            return float(width)
    return 1.0
