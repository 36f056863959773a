"""Normalising: the nearest column that a field allows, and what had to change for it."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from difflm.errors import SchemaError
from difflm.records.kinds.codes_of_form import is_of_form, nearest_code, numbered_code
from difflm.records.kinds.columns import arrow_type
from difflm.records.kinds.dress import in_text, print_cell, read_cell
from difflm.records.kinds.literals import dictionary_of
from difflm.records.kinds.moments import field_moment, microseconds
from difflm.records.kinds.number_spans import has_spans
from difflm.records.notices import Notice, NoticeCode, Reporter, ignore
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


def normalize_column(column: pa.ChunkedArray, field: Field, *, report: Reporter = ignore) -> pa.ChunkedArray:
    """Return a canonical column with every value inside the range of training.

    Numbers and dates are clipped, unseen categories become missing (or the most frequent one where nothing is ever
    missing), long texts are cut, and missing values in a column that never had any become its median, most frequent or
    first value. Each change is reported with its count.
    """
    filled = _fill(column, field, report)
    match field:
        case IntegerField() | DecimalField() if in_text(field):
            return _clip_cells(filled, field, report)
        case IntegerField() | DecimalField():
            return _clip(filled, field, report)
        case CategoricalField():
            known = pa.array(field.values, pa.string())
            unseen = pc.and_kleene(pc.invert(pc.is_in(filled, value_set=known)), pc.is_valid(filled))
            stand_in = None if field.nullable else field.commonest
            return _replace(filled, unseen, stand_in, field, "category", report)
        case DatetimeField():
            return _clip_dates(filled, field, report)
        case TextField():
            long = pc.greater(pc.utf8_length(filled), field.max_characters)
            _tell(long, field, "length", f"cut to {field.max_characters} characters", report)
            return pc.utf8_slice_codeunits(filled, 0, field.max_characters)
        case ConstantField():
            other = pc.not_equal(filled, _scalar(field, field.value))
            return _replace(filled, other, field.value, field, "category", report)
        case CodeField():
            return _clip_codes(filled, field, report)
        case BooleanField() | IdentifierField() | JsonField():
            return filled


def _fill(column: pa.ChunkedArray, field: Field, report: Reporter) -> pa.ChunkedArray:
    if field.nullable or column.null_count == 0:
        return column
    return _replace(column, pc.is_null(column), _stand_in(field), field, "missing", report)


def _stand_in(field: Field) -> Value:
    match field:
        case IntegerField() | DecimalField() if in_text(field):
            return print_cell(field, field.median)
        case IntegerField() | DecimalField():
            return field.median
        case CategoricalField():
            return field.commonest
        case CodeField():
            return numbered_code(field.shapes, 0)
        case IdentifierField():
            return 0 if field.stored == "integer" else ""
        case BooleanField():
            true = field.counts[0] >= field.counts[1]
            return true if field.stored == "boolean" else (field.true_text if true else field.false_text)
        case DatetimeField():
            return field.minimum
        case TextField():
            return ""
        case JsonField():
            raise SchemaError(f"column {field.name!r} is missing a value; give JSON of its schema in every row")
        case ConstantField():
            return field.value


def _clip(column: pa.ChunkedArray, field: IntegerField | DecimalField, report: Reporter) -> pa.ChunkedArray:
    low, high = _scalar(field, field.minimum), _scalar(field, field.maximum)
    outside = pc.or_(pc.less(column, low), pc.greater(column, high))
    if field.points:
        points = pa.array(field.points, arrow_type(field))
        outside = pc.and_(outside, pc.invert(pc.is_in(column, value_set=points)))
    _tell(outside, field, "range", f"clipped to {field.minimum}..{field.maximum}", report)
    return pc.if_else(outside, pc.if_else(pc.less(column, low), low, high), column)


def _clip_cells(column: pa.ChunkedArray, field: IntegerField | DecimalField, report: Reporter) -> pa.ChunkedArray:
    """Clip numbers that are texts; words stay."""
    codes, cells = dictionary_of(column)
    nearest: list[str] = []
    for cell in cells:
        value = read_cell(field, str(cell))
        if value is None or isinstance(value, str) or value in field.points:
            nearest.append(str(cell))
        else:
            nearest.append(print_cell(field, min(max(value, field.minimum), field.maximum)))
    result = pa.chunked_array([pa.array([None if code is None else nearest[code] for code in codes], pa.string())])
    outside = pc.and_(pc.fill_null(pc.not_equal(result, column), False), pc.is_valid(column))
    _tell(outside, field, "range", f"clipped to {field.minimum}..{field.maximum}", report)
    return result


def _clip_codes(column: pa.ChunkedArray, field: CodeField, report: Reporter) -> pa.ChunkedArray:
    """Clip the numbers in codes."""
    if not any(map(has_spans, field.shapes)):
        return column
    codes, cells = dictionary_of(column)
    near = [text if is_of_form(field.shapes, text) else nearest_code(field.shapes, text) for text in map(str, cells)]
    result = pa.chunked_array([pa.array([None if code is None else near[code] for code in codes], pa.string())])
    outside = pc.and_(pc.fill_null(pc.not_equal(result, column), False), pc.is_valid(column))
    _tell(outside, field, "range", "brought within the numbers of training", report)
    return result


def _clip_dates(column: pa.ChunkedArray, field: DatetimeField, report: Reporter) -> pa.ChunkedArray:
    bounds = field_moment(field, field.minimum), field_moment(field, field.maximum)
    first, last = (None if moment is None else microseconds(moment) for moment in bounds)
    codes, values = dictionary_of(column)
    nearest: list[Value] = []
    for value in values:
        moment = field_moment(field, str(value))
        if value in field.words or value in field.points:
            nearest.append(value)
        elif moment is None or first is None or last is None:
            nearest.append(None if field.nullable else field.minimum)
        else:
            code = microseconds(moment)
            nearest.append(field.minimum if code < first else field.maximum if code > last else value)
    result = pa.chunked_array([pa.array([None if code is None else nearest[code] for code in codes], pa.string())])
    changed = pc.fill_null(pc.not_equal(result, column), True)
    _tell(
        pc.and_(changed, pc.is_valid(column)), field, "range", f"brought into {field.minimum}..{field.maximum}", report
    )
    return result


def _replace(
    column: pa.ChunkedArray, mask: pa.ChunkedArray, value: Value, field: Field, code: NoticeCode, report: Reporter
) -> pa.ChunkedArray:
    _tell(mask, field, code, f"replaced by {'a missing value' if value is None else repr(value)}", report)
    return pc.if_else(pc.fill_null(mask, False), _scalar(field, value), column)


def _tell(mask: pa.ChunkedArray, field: Field, code: NoticeCode, what: str, report: Reporter) -> None:
    count = pc.sum(mask).as_py() or 0
    if count:
        report(Notice(column=field.name, code=code, count=count, message=f"{count} values were {what}"))


def _scalar(field: Field, value: Value) -> Any:
    return pa.scalar(value, arrow_type(field))
