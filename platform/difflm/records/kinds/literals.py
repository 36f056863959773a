"""Literals: how a value, or a whole column, is written inside a line of JSON."""

import json
import math
import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from difflm.errors import SchemaError
from difflm.records.kinds.codes_of_form import reaches
from difflm.records.kinds.dress import in_text, read_cell
from difflm.records.schema import (
    BooleanField,
    CategoricalField,
    CodeField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Field,
    IdentifierField,
    IntegerField,
    JsonField,
    TextField,
    Value,
)
from difflm.telemetry import parse_json

IntArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float64]
_DOUBLE_DIGITS: Final = 15
_WIDE: Final = Context(prec=1000)
"""For the largest double in units of the smallest: a column may be asked about numbers far beyond its own."""
_LARGEST: Final = float(np.finfo(np.float64).max)


class DecimalForm(NamedTuple):
    """How a column is printed: decimals, and the power of ten that values are counted in."""

    decimals: int
    exponent: int


ATOM_ROWS, ATOM_SHARE = 8, 0.01
"""Rows that share a value make it an atom; and the share of all rows that may have an atom rounded."""


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
    rows with most decimals, and wherever values have more decimals that many rows share, such as 0.066666667: somebody
    who looks for these very values would miss them. Otherwise `significant_digits` of the interquartile range (of the
    distinct values) survive; where even that cannot be printed in plain digits, values are counted in units of a power
    of ten.
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
            shared = counts[(counts >= ATOM_ROWS) & (places > decimals)].sum()
            if shared > ATOM_SHARE * counts.sum():
                decimals = min(limit, _DOUBLE_DIGITS - whole_digits)
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
IDENTIFIER = "0"
"""The literal of every identifier: which row it names is no part of what is learned."""
_ZERO = re.compile(r"-0(\.0*)?(e-?\d+)?")


def quote(text: str) -> str:
    """Quote a text as a JSON string, not ASCII-escaped, without a raw line break."""
    return json.dumps(text, ensure_ascii=False)


def canonical_json(text: str) -> str | None:
    """Return a JSON text in the canonical spelling of records, None when it is no JSON."""
    try:
        return json.dumps(parse_json(text), ensure_ascii=False)
    except ValueError:
        return None


def decimal_literal(value: float, decimals: int, exponent: int = 0) -> str:
    """Format `value` with exactly `decimals` places, in units of ten to `exponent`; never a negative zero."""
    if exponent == 0:
        text = f"{value:.{decimals}f}"
    else:
        step = Decimal(1).scaleb(-decimals)
        scaled = Decimal(repr(value)).scaleb(-exponent).quantize(step, ROUND_HALF_EVEN, _WIDE)
        text = f"{scaled:f}e{exponent}"
    return text[1:] if text[0] == "-" and _ZERO.fullmatch(text) else text


def value_literal(field: Field, value: Value) -> str:
    """Return the literal of one value, outside the training range too; SchemaError for a wrong type."""
    if value is None:
        return NULL
    match field:
        case IntegerField() | DecimalField() if isinstance(value, str) and value in field.words:
            return quote(value)
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
        case CodeField() if isinstance(value, str) and reaches(field.shapes, value):
            return quote(value)
        case IdentifierField() if isinstance(value, int if field.stored == "integer" else str):
            return IDENTIFIER
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
        case IntegerField() | DecimalField() if in_text(field):
            return _dressed(field, column)
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


def _dressed(field: IntegerField | DecimalField, column: pa.ChunkedArray) -> list[str]:
    codes, cells = dictionary_of(column)
    literals = [value_literal(field, read_cell(field, str(cell))) for cell in cells]
    return [NULL if code is None else literals[code] for code in codes]


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
