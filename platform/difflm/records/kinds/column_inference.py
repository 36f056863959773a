"""Column inference: the field that one column of the training split is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from difflm.errors import DataError
from difflm.records.fields import Form, Shape
from difflm.records.kinds.codes_of_form import code_count, find_shapes, looks_like_codes, looks_measured
from difflm.records.kinds.columns import is_decimal
from difflm.records.kinds.date_inference import datetime_field, undated
from difflm.records.kinds.distinct_values import Column
from difflm.records.kinds.moments import find_formats
from difflm.records.kinds.number_inference import dressed_field, number_field
from difflm.records.kinds.number_spans import find_numbers
from difflm.records.kinds.seen_json import seen_json
from difflm.records.kinds.text_inference import is_address, text_field, tool_parameters
from difflm.records.limits import MAX_DIGITS
from difflm.records.notices import Reporter
from difflm.records.schema import (
    BooleanField,
    CategoricalField,
    CodeField,
    ConstantField,
    Field,
    GivenKind,
    IdentifierField,
    IntegerField,
    SchemaConfig,
    TextField,
)

_CONTROL: Final = r"[\x00-\x1f]"
_BOOLEAN_PAIRS: Final = {("true", "false"), ("yes", "no"), ("t", "f"), ("y", "n"), ("on", "off")}
_SMALLEST_IDENTIFIER: Final = 20
_CODES_PER_ROW: Final = 1000
_MOSTLY_MISSING: Final = 0.95
_MAX_GIVEN_SHAPES: Final = 256
_NAMING = re.compile(
    r"(?i:(?:^|[_\s.-])(?:id|uid|uuid|guid|key|index|idx|serial|row|rowid|column_1|nr|no|number|nummer|num[eé]ro|número|"
    r"numer|n[°º])\.?$)|(?i:^unnamed: ?0$|[a-z](?:number|nummer|nr)\.?$)|[a-z](?:Id|ID|No)\.?$"
)


def infer_column(
    column: Column, limits: SchemaConfig, *, kind: GivenKind | None, report: Reporter, target: bool = False
) -> Field:
    """Infer the field of a column; `kind` settles what it is, and a target never only names the row.

    Irregularities are reported.

    Raises:
        DataError: a value does not fit the given kind; names row and value.
    """
    if kind == "tool_parameters":
        return tool_parameters(column)
    if column.missing > _MOSTLY_MISSING * column.rows:
        message = f"{column.missing} of {column.rows} values are missing"
        column.tell("mostly_missing", column.missing, message, report)
    field = _inferred(column, limits, report, target=target) if kind is None else _given(column, limits, kind, report)
    if isinstance(field, ConstantField):
        column.tell("constant", column.rows, f"always {field.value!r}", report)
    if isinstance(field, IdentifierField):
        message = f"every value is different: made anew for each row; {column.setting('code')} or text learns it"
        column.tell("identifier", column.rows, message, report)
    elif isinstance(field, IntegerField | TextField) and _SMALLEST_IDENTIFIER <= len(column.distinct) == column.rows:
        message = f"every value is different: if it only names the row, set {column.setting('identifier')}"
        column.tell("identifier", column.rows, message, report)
    return field


def _inferred(column: Column, limits: SchemaConfig, report: Reporter, *, target: bool) -> Field:
    field: Field | None = None
    if not pa.types.is_floating(column.source):
        field = datetime_field(column, report, compact=True)
    if field is None:
        field = number_field(column, limits, report) or _boolean(column)
    if isinstance(field, IntegerField) and not target and _names_rows(column, field):
        return _numbered(column, field)
    if field is None and len(column.distinct) == 1 and not column.missing:
        field = ConstantField(name=column.name, value=column.distinct[0].as_py())
    if field is None:
        field = datetime_field(column, report) or dressed_field(column, limits, report)
    if field is not None:
        return field
    undated(column, report)
    _tell_spellings(column, report)
    if _is_categorical(column, limits):
        return _categorical(column)
    json_schema = seen_json(column.distinct.to_pylist())
    code = _code(column, target=target) if json_schema is None else None
    return code or text_field(column, limits, None, report, json_schema=json_schema)


def _tell_spellings(column: Column, report: Reporter) -> None:
    """Report plain numbers that would be printed in other ways than the source has them, if they are no codes."""
    numbers = pc.all(is_decimal(column.distinct)).as_py() and pc.any(pc.match_substring(column.distinct, ".")).as_py()
    if numbers and len(column.distinct) > 1:
        shown = ", ".join(map(repr, column.distinct[:3].to_pylist()))
        message = (
            f"numbers that no one way of printing gives back ({shown}) are kept as they are spelled; "
            f"{column.setting('number')} prints them alike, schema.respell=true those of all columns"
        )
        column.tell("spelled", column.rows - column.missing, message, report)


def _given(column: Column, limits: SchemaConfig, kind: GivenKind, report: Reporter) -> Field:
    match kind:
        case "categorical":
            if len(column.distinct) == 1 and not column.missing:
                return ConstantField(name=column.name, value=column.distinct[0].as_py())
            return _categorical(column)
        case "ordinal":
            return _ordinal(column, limits.orders.get(column.name))
        case "number":
            return _given_number(column, limits, report)
        case "datetime":
            return _given_date(column, report)
        case "code":
            return _given_code(column)
        case "identifier":
            return _given_identifier(column, limits)
        case _:
            return text_field(column, limits, kind, report)


def _given_number(column: Column, limits: SchemaConfig, report: Reporter) -> Field:
    field = number_field(column, limits, report) or dressed_field(column, limits, report, given=True)
    if field is None:
        raise column.misfit(column.distinct[0].as_py(), "number", "it is beyond 64 bits; set text or code")
    return field


def _given_date(column: Column, report: Reporter) -> Field:
    field = datetime_field(column, report, compact=True, given=True) or datetime_field(column, report, given=True)
    if field is None:
        texts: list[str] = column.distinct.to_pylist()
        wrong = next((text for text in texts if find_formats([text]) is None), texts[0])
        remedy = "none of the known formats of dates fits it; correct it, or set text or code"
        raise column.misfit(wrong, "datetime", remedy)
    return field


def _given_code(column: Column) -> CodeField:
    numbers = find_numbers(column.distinct.to_pylist())
    return _code_field(column, numbers or _given_shapes(column))


def _given_shapes(column: Column) -> tuple[Shape, ...]:
    texts: list[str] = column.distinct.to_pylist()
    shapes = find_shapes(texts, least=1, most=_MAX_GIVEN_SHAPES)
    if shapes is None:
        wrong = next((text for text in texts if find_shapes([text], least=1) is None), texts[-1])
        remedy = f"codes have up to 64 characters and {_MAX_GIVEN_SHAPES} forms; set text"
        raise column.misfit(wrong, "code", remedy)
    return shapes


def _given_identifier(column: Column, limits: SchemaConfig) -> IdentifierField:
    if column.missing:
        row = pc.index(pc.is_null(column.texts), True).as_py() + 1
        raise DataError(
            f"column {column.name!r} is to be identifier (schema.kinds.{column.name}), but row {row} has none; fill it "
            "in, or set text or code"
        )
    if not column.is_unique:
        often = column.distinct[pc.index(pc.greater(column.counts, 1), True).as_py()].as_py()
        raise column.misfit(often, "identifier", "as another row has; a name stands for one row, so set code or text")
    field = number_field(column, limits, lambda notice: None)
    if isinstance(field, IntegerField):
        return _numbered(column, field)
    return _padded(column) or _named_by_code(column, _given_shapes(column))


def _names_rows(column: Column, field: IntegerField) -> bool:
    """Return whether whole numbers only name their rows: all different, and running, or under a name that says so."""
    if not column.is_unique or column.rows < _SMALLEST_IDENTIFIER or field.points:
        return False
    runs = field.minimum in (0, 1) and field.maximum < 2 * column.rows
    return runs or _NAMING.search(column.name) is not None


def _numbered(column: Column, field: IntegerField) -> IdentifierField:
    """Count on behind the largest number of training, or from 0 or 1 as training does."""
    start = field.minimum if field.minimum in (0, 1) else field.maximum + 1
    stored = "integer" if pa.types.is_integer(column.source) or pa.types.is_string(column.source) else "text"
    return IdentifierField.model_validate({"name": column.name, "start": start, "stored": stored})


def _padded(column: Column) -> IdentifierField | None:
    """Count on behind the largest number of a fixed number of digits; None for what has other characters."""
    texts: list[str] = column.distinct.to_pylist()
    digits = len(texts[0])
    numbered = all(text.isascii() and text.isdecimal() and len(text) == digits for text in texts)
    if not numbered or digits >= MAX_DIGITS:
        return None
    return IdentifierField(name=column.name, start=max(map(int, texts)) + 1, digits=digits)


def _named_by_code(column: Column, shapes: tuple[Shape, ...]) -> IdentifierField:
    return IdentifierField(name=column.name, shapes=shapes)


def _code(column: Column, *, target: bool) -> CodeField | IdentifierField | None:
    texts: list[str] = column.distinct.to_pylist()
    is_name = column.is_unique and column.rows >= _SMALLEST_IDENTIFIER and not target and _NAMING.search(column.name)
    alone = not column.is_unique or column.rows < _SMALLEST_IDENTIFIER or target
    numbers = None if is_name or is_address(texts) else find_numbers(texts, alone=alone)
    if numbers is not None:
        return _code_field(column, numbers)
    shapes = find_shapes(texts) if looks_like_codes(texts) else None
    if shapes is None:
        return None
    field = _code_field(column, shapes)
    if is_name:
        return _padded(column) or _named_by_code(column, shapes)
    many = code_count(shapes) >= _CODES_PER_ROW * column.rows
    unique = column.is_unique and column.rows >= _SMALLEST_IDENTIFIER
    names = unique and many and not target and not looks_measured(texts)
    return _named_by_code(column, shapes) if names else field


def _code_field(column: Column, shapes: tuple[Form, ...]) -> CodeField:
    return CodeField(
        name=column.name,
        nullable=column.missing > 0,
        missing_share=column.missing / column.rows,
        shapes=shapes,
    )


def _categorical(column: Column) -> CategoricalField:
    counted = sorted(zip(pc.negate(column.counts).to_pylist(), column.distinct.to_pylist(), strict=True))
    return _closed_list(column, [(text, -count) for count, text in counted], ordered=False)


def _ordinal(column: Column, order: Sequence[str] | None) -> CategoricalField:
    counts = dict(zip(column.distinct.to_pylist(), column.counts.to_pylist(), strict=True))
    if order is None:
        return _closed_list(column, sorted(counts.items(), key=lambda item: _natural(item[0])), ordered=True)
    unknown = next((text for text in counts if text not in order), None)
    if unknown is not None:
        remedy = f"which is not among its schema.orders ({', '.join(order)}); add it"
        raise column.misfit(unknown, "ordinal", remedy)
    return _closed_list(column, [(text, counts[text]) for text in order if text in counts], ordered=True)


def _natural(text: str) -> tuple[float, list[tuple[int, int, str]]]:
    """Return a key that orders numbers by their value, and texts with numbers in them as people do."""
    parts = re.findall(r"(\d+)|(\D+)", text)
    runs = [(digits.lstrip("0"), letters) for digits, letters in parts]  # as texts: there is no end to their length
    key = [(1, 0, letters) if letters else (0, len(digits), digits) for digits, letters in runs]
    try:
        return float(text), key
    except ValueError:
        return float("inf"), key


def _closed_list(column: Column, counted: Sequence[tuple[str, int]], *, ordered: bool) -> CategoricalField:
    return CategoricalField(
        name=column.name,
        nullable=column.missing > 0,
        missing_share=column.missing / column.rows,
        values=tuple(value for value, _ in counted),
        counts=tuple(count for _, count in counted),
        ordered=ordered,
    )


def _boolean(column: Column) -> Field | None:
    texts: list[str] = column.distinct[:3].to_pylist()
    if len(texts) != 2:
        if pa.types.is_boolean(column.source) and not column.missing:
            return ConstantField(name=column.name, value=texts[0] == "true")
        if not pa.types.is_boolean(column.source):
            return None
        texts = ["true", "false"]
    true, false = texts if (texts[0].lower(), texts[1].lower()) in _BOOLEAN_PAIRS else reversed(texts)
    if (true.lower(), false.lower()) not in _BOOLEAN_PAIRS:
        return None
    counts = dict(zip(column.distinct.to_pylist(), column.counts.to_pylist(), strict=True))
    return BooleanField(
        name=column.name,
        nullable=column.missing > 0,
        missing_share=column.missing / column.rows,
        true_text=true,
        false_text=false,
        counts=(counts.get(true, 0), counts.get(false, 0)),
        stored="boolean" if pa.types.is_boolean(column.source) else "text",
    )


def _is_categorical(column: Column, limits: SchemaConfig) -> bool:
    present = column.rows - column.missing
    few = min(limits.category_few, present // 2)
    return len(column.distinct) <= min(max(limits.category_share * present, few, 1), limits.category_max_values)
