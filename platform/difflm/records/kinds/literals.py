"""Literals: how a value, or a whole column, is written inside a line of JSON, and the forms in which dates are written.

Dates: the formats that are recognised in text columns, parsing in one of them, and how its parts are spelled.
"""

import json
import math
import re
from collections.abc import Sequence
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from itertools import product
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from difflm.errors import SchemaError
from difflm.records.schema import (
    BooleanField,
    CategoricalField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Field,
    IntegerField,
    JsonField,
    TextField,
    Value,
)

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
    """Infer a column's form from its distinct finite `numbers`, the decimal `places` of each, and their `counts`.

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
    """Count the decimals of each number text, plain (`1.50`: 2) or scientific (`1.5e-3`: 4)."""
    points = pc.find_substring(texts, ".")
    places = pc.if_else(pc.less(points, 0), 0, pc.subtract(pc.subtract(pc.utf8_length(texts), points), 1))
    counted: IntArray = places.to_numpy(zero_copy_only=False).astype(np.int64)
    scientific = np.flatnonzero(pc.match_substring(texts, "e", ignore_case=True).to_numpy(zero_copy_only=False))
    for index in scientific.tolist():
        counted[index] = max(0, -int(Decimal(texts[index].as_py()).normalize().as_tuple().exponent))
    return counted


def _usual_places(places: IntArray, counts: IntArray, rounded_share: float) -> int:
    """Return the fewest decimals that are enough for all but `rounded_share` of the rows."""
    order = np.argsort(places, kind="stable")
    reached = np.cumsum(counts[order])
    return int(places[order[int(np.searchsorted(reached, math.ceil(reached[-1] * (1.0 - rounded_share))))]])


def _spreads(numbers: FloatArray) -> tuple[float, float]:
    """Return the interquartile range and the range of the distinct values, both above zero.

    Of a single value, a small part of it, so that nearly all of its digits count.
    """
    scaled = np.sort(numbers) / 4.0  # so that differences of the largest doubles stay finite
    low, high = np.quantile(scaled, 0.25), np.quantile(scaled, 0.75)
    whole = float(scaled[-1] - scaled[0]) or float(np.abs(scaled).max()) * 1e-8 or 1.0
    middle = float(high - low) or whole
    return min(4.0 * middle, _LARGEST), min(4.0 * whole, _LARGEST)


NULL = "null"
_ZERO = re.compile(r"-0(\.0*)?(e-?\d+)?")


def quote(text: str) -> str:
    """Quote a text as a JSON string, not ASCII-escaped, without a raw line break."""
    return json.dumps(text, ensure_ascii=False)


def canonical_json(text: str) -> str | None:
    """Return a JSON text in the canonical spelling of records, None when it is no JSON."""
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return None


def decimal_literal(value: float, decimals: int, exponent: int = 0) -> str:
    """Format `value` with exactly `decimals` places, in units of ten to `exponent`; never a negative zero."""
    if exponent == 0:
        text = f"{value:.{decimals}f}"
    else:
        step = Decimal(1).scaleb(-decimals)
        text = f"{Decimal(repr(value)).scaleb(-exponent).quantize(step, ROUND_HALF_EVEN):f}e{exponent}"
    return text[1:] if text[0] == "-" and _ZERO.fullmatch(text) else text


def value_literal(field: Field, value: Value) -> str:
    """Return the literal of one value, outside the training range too; SchemaError for a wrong type."""
    if value is None:
        return NULL
    match field:
        case IntegerField() if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        case DecimalField() if isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value)
            if number - number == 0.0:
                return decimal_literal(number, field.decimals, field.exponent)
        case BooleanField() if isinstance(value, bool):
            return "true" if value else "false"
        case CategoricalField() | DatetimeField() | TextField() if isinstance(value, str):
            return quote(value)
        case JsonField() if isinstance(value, str) and (text := canonical_json(value)) is not None:
            return text
        case ConstantField() if type(value) is type(field.value):
            return quote(value) if isinstance(value, str) else json.dumps(value)
        case _:
            pass
    raise SchemaError(f"column {field.name!r} ({field.kind}) cannot hold {value!r}; give a value of its kind or None")


def column_literals(field: Field, column: pa.ChunkedArray) -> list[str]:
    """Return the literals of a column in its canonical type (see `columns.arrow_type`)."""
    match field:
        case IntegerField():
            return [text if text is not None else NULL for text in pc.cast(column, pa.string()).to_pylist()]
        case DecimalField(exponent=0):
            return _plain_decimals(column, field.decimals)
        case BooleanField(stored="text"):
            spelled = {field.true_text: "true", field.false_text: "false", None: NULL}
            return [spelled[text] for text in column.to_pylist()]
        case _:
            return _by_distinct_value(field, column)


def _plain_decimals(column: pa.ChunkedArray, decimals: int) -> list[str]:
    pattern = f"%.{decimals}f"
    zero = pattern % 0.0
    negative_zero = "-" + zero
    texts = [NULL if value is None else pattern % value for value in column.to_pylist()]
    return [zero if text == negative_zero else text for text in texts]


def _by_distinct_value(field: Field, column: pa.ChunkedArray) -> list[str]:
    codes, values = dictionary_of(column)
    literals = [value_literal(field, value) for value in values]
    return [NULL if code is None else literals[code] for code in codes]


def dictionary_of(column: pa.ChunkedArray) -> tuple[list[int | None], list[Value]]:
    """Return, per row, the index of its value among the distinct ones (None when missing), and the distinct values."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.indices.to_pylist(), encoded.dictionary.to_pylist()
