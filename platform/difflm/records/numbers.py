"""Numbers: how many decimals a column of decimals needs, exact where it can be."""

import math
from decimal import Decimal
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

IntArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float64]
_DOUBLE_DIGITS: Final = 15
_LARGEST: Final = float(np.finfo(np.float64).max)


class DecimalForm(NamedTuple):
    """How a column is printed: decimals, and the power of ten that values are counted in."""

    decimals: int
    exponent: int


def decimal_form(
    places: IntArray,
    numbers: FloatArray,
    counts: IntArray,
    *,
    exact_digits: int,
    significant_digits: int,
    max_decimals: int | None,
    rounded_share: float,
) -> DecimalForm:
    """The form of a column from its distinct finite `numbers`, the decimal `places` of each, and their `counts`.

    Every digit of the source is kept while the widest value has at most `exact_digits`, but for the `rounded_share` of
    rows with most decimals. Otherwise `significant_digits` of the interquartile range (of the distinct values) survive;
    where even that cannot be printed in plain digits, values are counted in units of a power of ten.
    """
    source = _usual_places(places, counts, rounded_share)
    largest = float(np.abs(numbers).max())
    whole_digits = len(f"{largest:.0f}")
    limit = source if max_decimals is None else min(source, max_decimals)
    decimals, exponent = limit, 0
    if whole_digits + source > exact_digits:
        middle, whole = _spreads(numbers)
        needed = significant_digits - 1 - math.floor(math.log10(middle))
        if whole_digits <= _DOUBLE_DIGITS and max(needed, 0) + min(whole_digits, 2) <= _DOUBLE_DIGITS:
            decimals = max(0, min(limit, needed, _DOUBLE_DIGITS - whole_digits))
        else:
            exponent = math.floor(math.log10(largest))
            enough = (
                significant_digits + 1 - math.floor(math.log10(whole))
            )  # where the quartiles are far below the range
            decimals = max(0, min(min(needed, enough) + exponent, _DOUBLE_DIGITS - 1))
    return DecimalForm(decimals, exponent)


def decimal_places(texts: pa.Array) -> IntArray:
    """Decimals that each number text is written with, plain (`1.50`: 2) or scientific (`1.5e-3`: 4)."""
    points = pc.find_substring(texts, ".")
    places = pc.if_else(pc.less(points, 0), 0, pc.subtract(pc.subtract(pc.utf8_length(texts), points), 1))
    counted: IntArray = places.to_numpy(zero_copy_only=False).astype(np.int64)
    scientific = np.flatnonzero(pc.match_substring(texts, "e", ignore_case=True).to_numpy(zero_copy_only=False))
    for index in scientific.tolist():
        counted[index] = max(0, -int(Decimal(texts[index].as_py()).normalize().as_tuple().exponent))
    return counted


def _usual_places(places: IntArray, counts: IntArray, rounded_share: float) -> int:
    """The fewest decimals that all but `rounded_share` of the rows are written with at most."""
    order = np.argsort(places, kind="stable")
    reached = np.cumsum(counts[order])
    return int(places[order[int(np.searchsorted(reached, math.ceil(reached[-1] * (1.0 - rounded_share))))]])


def _spreads(numbers: FloatArray) -> tuple[float, float]:
    """Interquartile range and range of the distinct values, both above zero.

    Of a single value, a small part of it, so that nearly all of its digits count.
    """
    scaled = np.sort(numbers) / 4.0  # so that differences of the largest doubles stay finite
    low, high = np.quantile(scaled, 0.25), np.quantile(scaled, 0.75)
    whole = float(scaled[-1] - scaled[0]) or float(np.abs(scaled).max()) * 1e-8 or 1.0
    middle = float(high - low) or whole
    return min(4.0 * middle, _LARGEST), min(4.0 * whole, _LARGEST)
