"""Canonical columns: the Arrow type of each field and the conversion of a column, as read, into it."""

import math
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from difflm.errors import DataError
from difflm.records.kinds.codes_of_form import reaches
from difflm.records.kinds.dress import in_text, print_cell, read_cell
from difflm.records.kinds.literals import decimal_literal
from difflm.records.kinds.moments import field_moment
from difflm.records.notices import Notice, Reporter, ignore
from difflm.records.schema import (
    BooleanField,
    CodeField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Field,
    IdentifierField,
    IntegerField,
    RecordSchema,
)
from difflm.spelled_numbers import PRINTED

INTEGER_PATTERN = r"^(0|-?[1-9][0-9]*)$"
DECIMAL_PATTERN = r"^[+-]?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][+-]?[0-9]+)?$"
DIGIT_PATTERN = r"^[+-]?\.?[0-9]"
INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
_EXACT_WHOLE = 2.0**53


def arrow_type(field: Field) -> pa.DataType:
    """Map integer to int64, decimal to float64, boolean to string or bool as in the source, all text to string.

    Numbers in a dress, or with words beside them, are texts.
    """
    match field:
        case IntegerField() | DecimalField() if in_text(field):
            return pa.string()
        case IdentifierField(stored="integer"):
            return pa.int64()
        case IntegerField():
            return pa.int64()
        case DecimalField():
            return pa.float64()
        case BooleanField(stored="boolean"):
            return pa.bool_()
        case ConstantField(value=bool()):
            return pa.bool_()
        case ConstantField(value=int()):
            return pa.int64()
        case ConstantField(value=float()):
            return pa.float64()
        case _:
            return pa.string()


def arrow_schema(schema: RecordSchema) -> pa.Schema:
    """Return the Arrow schema of every table in canonical types; see `PRINTED` for the metadata of its fields."""
    return pa.schema([pa.field(field.name, arrow_type(field), metadata=_printed_so(field)) for field in schema.fields])


def _printed_so(field: Field) -> dict[bytes, bytes] | None:
    if not isinstance(field, DecimalField) or field.dress is None or in_text(field):
        return None
    return {PRINTED: field.dress.model_dump_json(exclude_defaults=True).encode()}


def conform_table(table: pa.Table, schema: RecordSchema, *, report: Reporter = ignore) -> pa.Table:
    """Return the schema's columns of `table`, in order, in canonical types.

    Decimals are rounded to the places their field prints; all other values are kept, even outside the training ranges.
    Values that a column's kind cannot hold (text in a number column) become missing and are reported with their count.
    DataError for a missing column. Conforming a second time changes nothing.
    """
    wanted = arrow_schema(schema)
    columns = []
    for field in schema.fields:
        if field.name not in table.column_names:
            known = ", ".join(map(repr, table.column_names))
            raise DataError(f"the table has no column {field.name!r}; it has {known}")
        columns.append(conform_column(table.column(field.name), field, report=report))
    return pa.Table.from_arrays(columns, schema=wanted)


def conform_column(column: pa.ChunkedArray, field: Field, *, report: Reporter = ignore) -> pa.ChunkedArray:
    """Cast one column to its canonical type; unreadable values become missing and are reported."""
    wanted = arrow_type(field)
    if isinstance(field, IntegerField | DecimalField) and in_text(field):
        return _dressed(column, field, report)
    if column.type == wanted and pa.types.is_floating(wanted):
        return _printed(pc.if_else(pc.is_finite(column), column, pa.scalar(None, wanted)), field)
    if column.type == wanted and not isinstance(field, BooleanField | CodeField | DatetimeField):
        return column
    texts = as_text(column)
    match field:
        case BooleanField():
            converted = _booleans(texts, field)
        case _ if pa.types.is_integer(wanted):
            converted = _integers(texts, field, report)
        case _ if pa.types.is_floating(wanted):
            converted = _printed(parse_decimals(texts), field)
        case _ if pa.types.is_boolean(wanted):
            converted = _by_value(texts, lambda text: {"true": True, "false": False}.get(text.lower()), wanted)
        case CodeField():
            converted = _by_value(texts, lambda text: text if reaches(field.shapes, text) else None, wanted)
        case DatetimeField() if field.words or field.others:
            converted = _by_value(texts, lambda text: text if _is_dated(field, text) else None, wanted)
        case _:
            converted = texts
    lost = converted.null_count - column.null_count
    if lost:
        report(_unreadable(texts, converted, field, lost))
    return converted


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Format a simple column as text: numbers as printed, booleans as true/false, dates in ISO form."""
    if pa.types.is_string(column.type):
        return column
    if pa.types.is_dictionary(column.type):
        return as_text(column.cast(column.type.value_type))
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
    if pa.types.is_timestamp(column.type) or pa.types.is_time(column.type):
        column = _coarsest(column)
    return column.cast(pa.string())


def _coarsest(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Cast moments to the coarsest unit that keeps them: days, seconds, milliseconds, microseconds."""
    if pa.types.is_time(column.type):
        exact = [pa.time32("s"), pa.time32("ms"), pa.time64("us")]
    else:
        zone = column.type.tz
        exact = [*([] if zone else [pa.date32()]), *(pa.timestamp(unit, zone) for unit in ("s", "ms", "us"))]
    for wanted in exact:
        coarse = column.cast(wanted, safe=False)
        if coarse.cast(column.type, safe=False).equals(column):
            return coarse
    return column


def parse_decimals(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Parse decimal texts as float64; what is no finite number becomes missing."""
    readable = is_decimal(texts)
    plain = pc.replace_substring_regex(pc.if_else(readable, texts, pa.scalar(None, pa.string())), r"^\+", "")
    try:
        numbers = pc.cast(plain, pa.float64())
    except pa.ArrowInvalid:  # Arrow reads fewer spellings than the pattern allows, ".5e3" for one
        numbers = _by_value(plain, float, pa.float64())
    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))


def is_decimal(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Mark the texts that are decimal numbers, without leading zeros (those are codes)."""
    return pc.and_(pc.match_substring_regex(texts, DECIMAL_PATTERN), pc.match_substring_regex(texts, DIGIT_PATTERN))


def _printed(numbers: pa.ChunkedArray, field: Field) -> pa.ChunkedArray:
    return round_decimals(numbers, field.decimals, field.exponent) if isinstance(field, DecimalField) else numbers


def round_decimals(numbers: pa.ChunkedArray, decimals: int, exponent: int) -> pa.ChunkedArray:
    """Round finite float64 to `decimals` places in units of ten to `exponent`; reading the literal back is exact."""
    missing = numbers.is_null().to_numpy()
    values = pc.fill_null(numbers, 0.0).to_numpy()
    if exponent == 0:
        # Below 2**53 both the whole number and the power of ten are exact doubles, so the quotient is the nearest one.
        power = 10.0**decimals
        with np.errstate(over="ignore"):
            scaled = values * power
        rounded = np.where(np.abs(scaled) < _EXACT_WHOLE, np.rint(scaled) / power, values) + 0.0
    else:
        distinct, places = np.unique(values, return_inverse=True)
        rounded = np.array([float(decimal_literal(value, decimals, exponent)) for value in distinct.tolist()])[places]
    return pa.chunked_array([pa.array(rounded, pa.float64(), mask=missing)])


def _integers(texts: pa.ChunkedArray, field: Field, report: Reporter) -> pa.ChunkedArray:
    whole = pc.match_substring_regex(texts, INTEGER_PATTERN)
    if pc.all(whole).as_py() is not False:
        try:
            return pc.cast(texts, pa.int64())
        except pa.ArrowInvalid:  # beyond 64 bits: handled value by value below
            pass
    rounded = 0

    def read(text: str) -> int | None:
        nonlocal rounded
        try:
            number = float(text)
            if not math.isfinite(number):
                return None
            exact = int(text) if text.lstrip("-").isdecimal() else round(number)
        except ValueError:
            return None
        rounded += exact != number and not text.lstrip("-").isdecimal()
        return exact if INT64_MIN <= exact <= INT64_MAX else None

    readable = pc.if_else(is_decimal(texts), texts, pa.scalar(None, pa.string()))
    converted = _by_value(readable, read, pa.int64())
    if rounded:
        message = f"{rounded} decimals were rounded to whole numbers"
        report(Notice(column=field.name, code="rounded", count=rounded, message=message))
    return converted


def _is_dated(field: DatetimeField, text: str) -> bool:
    return text in field.words or field_moment(field, text) is not None


def _dressed(column: pa.ChunkedArray, field: IntegerField | DecimalField, report: Reporter) -> pa.ChunkedArray:
    """Spell numbers as training does, words as they are; numbers of a typed column get the dress on."""
    typed = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    plain = field.model_copy(update={"dress": None, "words": ()})
    texts = as_text(column)
    respelled = 0

    def read(text: str) -> str | None:
        nonlocal respelled
        value = read_cell(plain if typed else field, text)
        if value is None:
            return None
        if isinstance(value, float) and isinstance(field, DecimalField):
            exact, value = value, float(decimal_literal(value, field.decimals, field.exponent))
            if exact != value:  # rounding is told where the field is inferred
                return print_cell(field, value)
        printed = print_cell(field, value)
        respelled += not typed and printed != text
        return printed

    converted = _by_value(texts, read, pa.string())
    if respelled:
        message = f"{respelled} different numbers are spelled as the column's others"
        report(Notice(column=field.name, code="spelled", count=respelled, message=message))
    lost = converted.null_count - column.null_count
    if lost:
        report(_unreadable(texts, converted, field, lost))
    return converted


def _booleans(texts: pa.ChunkedArray, field: BooleanField) -> pa.ChunkedArray:
    true, false = field.true_text.lower(), field.false_text.lower()
    if field.stored == "boolean":
        return _by_value(texts, lambda text: {true: True, false: False}.get(text.lower()), pa.bool_())
    spelled = {true: field.true_text, false: field.false_text}
    return _by_value(texts, lambda text: spelled.get(text.lower()), pa.string())


def _by_value(texts: pa.ChunkedArray, read: Callable[[str], object], wanted: pa.DataType) -> pa.ChunkedArray:
    """Convert each distinct text once."""
    encoded = texts.combine_chunks().dictionary_encode()
    values = pa.array([read(text) for text in encoded.dictionary.to_pylist()], type=wanted)
    return pa.chunked_array([values.take(encoded.indices)], type=wanted)


def _unreadable(texts: pa.ChunkedArray, converted: pa.ChunkedArray, field: Field, lost: int) -> Notice:
    where = pc.index(pc.and_(pc.is_null(converted), pc.is_valid(texts)), True).as_py()
    example = texts[where].as_py() if where >= 0 else "not finite"
    return Notice(
        column=field.name,
        code="unreadable",
        count=lost,
        message=f"{lost} values are not {field.kind} and count as missing; row {where} has {str(example)[:60]!r}",
    )
