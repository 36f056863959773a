"""Plain values: what is plainly the same value in another spelling, in tables that went through other programs.

Midnight of a date, 1 and 0 for truth values, 5.0 for 5, codes whose leading zeros are lost. All of it is told. What
is of another kind than the training table's column is an error that names both kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, time
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from difflm.errors import DataError
from difflm.records.kinds.column_inference import infer_column
from difflm.records.kinds.columns import as_text, parse_decimals, round_decimals
from difflm.records.kinds.distinct_values import Column
from difflm.records.kinds.dress import in_text, read_cell
from difflm.records.kinds.moments import field_moment
from difflm.records.notices import ignore
from difflm.records.schema import (
    BooleanField,
    CategoricalField,
    CodeField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Field,
    IntegerField,
    RecordSchema,
    SchemaConfig,
    TextField,
)

Tell: TypeAlias = Callable[[str], None]
Spelling: TypeAlias = Mapping[str, str]
"""Another spelling by the spelling of the table, of values that need one."""

FEW_ROUNDED = 0.01
"""A share of training rows with more digits than the schema has is no reason to let other rows have them."""

_TRUE = ("true", "t", "yes", "y", "on", "1", "1.0")
_FALSE = ("false", "f", "no", "n", "off", "0", "0.0")
_KINDS = {
    "integer": "whole numbers", "decimal": "numbers", "categorical": "categories", "boolean": "truth values",
    "datetime": "dates or times", "text": "texts", "code": "codes", "identifier": "names of rows", "json": "JSON",
    "constant": "one value",
}  # fmt: skip


def plainly_read(table: pa.Table, train: pa.Table, schema: RecordSchema, name: str, tell: Tell) -> pa.Table:
    """Spell the values of a table, which has the schema's columns, as the training table does.

    Raises:
        DataError: a column is of another kind; the message begins with `name` and names the column and both kinds.
    """
    columns = []
    for field in schema.fields:
        column = _plain(table.column(field.name))
        respelled, what = _respelled(column, train.column(field.name), field)
        if what is not None:
            tell(f"{name}: column {field.name!r}: {what}")
        _refuse_another_kind(respelled, field, name)
        columns.append(respelled)
    return pa.Table.from_arrays(columns, names=list(schema.names))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _respelled(column: pa.ChunkedArray, train: pa.ChunkedArray, field: Field) -> tuple[pa.ChunkedArray, str | None]:
    """Return the column as training spells it, and what to tell of that."""
    match field:
        case IntegerField() | ConstantField(value=bool() | int()) if pa.types.is_boolean(column.type):
            return column.cast(pa.int64()), "true and false are read as 1 and 0"
        case BooleanField(stored="boolean") if pa.types.is_boolean(column.type):
            return column, None
        case DecimalField() if not in_text(field):
            return (_rounded(column, field) if _loses_digits(_plain(train), field) else column), None
    texts = as_text(column)
    distinct = [text for text in pc.unique(texts).to_pylist() if text is not None]
    what: str | None
    match field:
        case BooleanField():
            spelling = _truth(distinct, field)
            what = "{0!r} is read as {1!r}"
        case IntegerField() if not in_text(field):
            spelling = _whole(distinct)
            what = None  # a number all the same
        case DatetimeField():
            spelling = _moments(distinct, field)
            what = "{0!r} is read as {1!r}, the form of the training table"
        case CategoricalField() | TextField() | CodeField() | ConstantField(value=str()):
            known = [text for text in pc.unique(as_text(_plain(train))).to_pylist() if text is not None]
            spelling = _codes(distinct, known)
            what = "leading zeros are lost: {0!r} is read as {1!r}"
        case _:
            return column, None
    if not spelling:
        is_code = isinstance(field, CategoricalField | TextField | CodeField) and pa.types.is_floating(column.type)
        return texts if is_code else column, None
    found, wanted = next(iter(spelling.items()))
    count = pc.sum(pc.is_in(texts, value_set=pa.array(list(spelling), pa.string()))).as_py()
    told = None if what is None else f"{what.format(found, wanted)} ({count:,} cells)"
    return _mapped(texts, spelling), told


def _loses_digits(train: pa.ChunkedArray, field: DecimalField) -> bool:
    """Tell whether the schema has fewer digits than training rows, but for a few of them."""
    numbers = _numbers(train)
    if numbers is None:
        return False
    changed = pc.sum(pc.not_equal(numbers, round_decimals(numbers, field.decimals, field.exponent))).as_py()
    return bool((changed or 0) > FEW_ROUNDED * len(train))


def _rounded(column: pa.ChunkedArray, field: DecimalField) -> pa.ChunkedArray:
    """Round numbers to the digits of the schema; what is none, or has no more of them, is left as it is."""
    numbers = _numbers(column)
    if numbers is None:
        return column
    rounded = round_decimals(numbers, field.decimals, field.exponent)
    return column if pc.all(pc.equal(rounded, numbers)).as_py() is not False else rounded


def _numbers(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return a column's numbers as float64; None for one with words beside them, or of another kind."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        numbers = parse_decimals(column.cast(pa.string()))
    elif pa.types.is_floating(column.type):
        numbers = column.cast(pa.float64())
    else:
        return None
    none = numbers.null_count > column.null_count or pc.all(pc.is_finite(numbers)).as_py() is False
    return None if none else numbers


def _mapped(texts: pa.ChunkedArray, spelling: Spelling) -> pa.ChunkedArray:
    encoded = texts.combine_chunks().dictionary_encode()
    values = pa.array([spelling.get(text, text) for text in encoded.dictionary.to_pylist()], pa.string())
    return pa.chunked_array([values.take(encoded.indices)], pa.string())


def _truth(distinct: list[str], field: BooleanField) -> Spelling:
    """Spell truth values, where all are plain ones, as the field does."""
    own = {field.true_text.lower(), field.false_text.lower()}
    words = {**dict.fromkeys(_TRUE, field.true_text), **dict.fromkeys(_FALSE, field.false_text)}
    if all(text.lower() in own for text in distinct) or not all(text.lower() in words for text in distinct):
        return {}
    return {text: words[text.lower()] for text in distinct}


def _whole(distinct: list[str]) -> Spelling:
    whole = {text: text.partition(".")[0] for text in distinct if "." in text and not text.partition(".")[2].strip("0")}
    return {text: short for text, short in whole.items() if short.lstrip("-").isdigit()}


def _moments(distinct: list[str], field: DatetimeField) -> Spelling:
    """Spell moments in ISO form, where the field has another form, in the field's; one that loses something is kept."""
    spelling, form = {}, field.format
    for text in distinct:
        if _is_dated(text, field):
            continue
        try:
            moment = datetime.fromisoformat(text)
            wanted = moment.strftime(form)
            again = datetime.strptime(wanted, form)
        except ValueError:
            continue
        same = (
            again == moment
            if again.tzinfo is not None or moment.tzinfo is None
            else again == moment.replace(tzinfo=None)
        )
        if same and (moment.tzinfo is None or moment.time() == time()) == (again.tzinfo is None):
            spelling[text] = wanted
    return spelling


def _is_dated(text: str, field: DatetimeField) -> bool:
    return text in field.words or field_moment(field, text) is not None


def _codes(distinct: list[str], known: list[str]) -> Spelling:
    """Find codes of digits that are known but for zeros in front, and for the fraction that numbers get."""
    values = set(known)
    padded = [text for text in known if text.isdigit() and text.startswith("0") and len(text) > 1]
    if not padded:
        return {}
    by_number: dict[str, list[str]] = {}
    for text in padded:
        by_number.setdefault(text.lstrip("0") or "0", []).append(text)
    lengths = {len(text) for text in known if text.isdigit()}
    width = lengths.pop() if len(lengths) == 1 and all(text.isdigit() for text in known) else None
    spelling = {}
    for text in distinct:
        number = text.removesuffix(".0")
        if text in values or not number.isdigit() or (number.startswith("0") and len(number) > 1):
            continue
        found = by_number.get(number, [])
        if len(found) == 1 and number not in values:
            spelling[text] = found[0]
        elif width is not None and len(number) < width:
            spelling[text] = number.zfill(width)
        elif number in values:
            spelling[text] = number
    return spelling


def _refuse_another_kind(column: pa.ChunkedArray, field: Field, name: str) -> None:
    """Refuse a column of texts of which some are no values of the field's kind."""
    if not isinstance(field, IntegerField | DecimalField | DatetimeField | BooleanField):
        return
    texts = as_text(column)
    match field:
        case BooleanField():
            known = pa.array([field.true_text.lower(), field.false_text.lower()], pa.string())
            fits = pc.is_in(pc.utf8_lower(texts), value_set=known)
        case DatetimeField():
            fits = _is_among(texts, lambda text: _is_dated(text, field))
        case IntegerField() | DecimalField() if in_text(field) and pa.types.is_string(column.type):
            fits = _is_among(texts, lambda text: read_cell(field, text) is not None)
        case _:
            fits = pc.is_valid(parse_decimals(texts))
    wrong = pc.and_(pc.is_valid(texts), pc.invert(fits))
    count = pc.sum(wrong).as_py() or 0
    if not count:
        return
    first = pc.index(wrong, True).as_py()
    kind = _kind_of(column, field)
    here = "other values here" if kind == field.kind else f"{_KINDS[kind]} here"
    raise DataError(
        f"{name}: column {field.name!r} has {here} and {_of(field)} in the training table: {count:,} of {len(texts):,} "
        f"cells are none, the first {texts[first].as_py()[:60]!r} in record {first + 1}; mend it, or give a table with "
        "the training table's kinds of columns"
    )


def _is_among(texts: pa.ChunkedArray, fits: Callable[[str], bool]) -> pa.ChunkedArray:
    """Mark the texts that fit; each distinct one is looked at once."""
    good = [text for text in pc.unique(texts).to_pylist() if text is not None and fits(text)]
    return pc.is_in(texts, value_set=pa.array(good, pa.string()))


def _kind_of(column: pa.ChunkedArray, field: Field) -> str:
    """Name the kind that the column would have by itself."""
    return infer_column(Column.of(field.name, column), SchemaConfig(), kind=None, report=ignore).kind


def _of(field: IntegerField | DecimalField | DatetimeField | BooleanField) -> str:
    """Describe the kind of a field with an example."""
    match field:
        case BooleanField():
            return f"truth values ({field.true_text}, {field.false_text})"
        case DatetimeField():
            return f"dates or times such as {field.minimum}"
        case _:
            return f"{_KINDS[field.kind]} such as {field.median}"
