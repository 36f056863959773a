"""Value literals: how one value, or a whole column, is written inside a line of JSON."""

import json
import re
from decimal import ROUND_HALF_EVEN, Decimal

import pyarrow as pa
import pyarrow.compute as pc

from difflm.errors import SchemaError
from difflm.records.fields import (
    BooleanField,
    CategoricalField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Field,
    IntegerField,
    JsonField,
    TextField,
)
from difflm.records.values import Value

NULL = "null"
_ZERO = re.compile(r"-0(\.0*)?(e-?\d+)?")


def quote(text: str) -> str:
    """A JSON string, not ASCII-escaped, without a raw line break."""
    return json.dumps(text, ensure_ascii=False)


def canonical_json(text: str) -> str | None:
    """A JSON text in the one spelling of records, None when it is no JSON."""
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return None


def decimal_literal(value: float, decimals: int, exponent: int = 0) -> str:
    """`value` with exactly `decimals` places, in units of ten to `exponent`; never a negative zero."""
    if exponent == 0:
        text = f"{value:.{decimals}f}"
    else:
        step = Decimal(1).scaleb(-decimals)
        text = f"{Decimal(repr(value)).scaleb(-exponent).quantize(step, ROUND_HALF_EVEN):f}e{exponent}"
    return text[1:] if text[0] == "-" and _ZERO.fullmatch(text) else text


def value_literal(field: Field, value: Value) -> str:
    """The literal of one value, outside the training range too; SchemaError for a wrong type."""
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
    """The literals of a column in its canonical type (see `columns.arrow_type`)."""
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
    """Per row the position of its value among the distinct ones (None when missing), and the distinct values."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.indices.to_pylist(), encoded.dictionary.to_pylist()
