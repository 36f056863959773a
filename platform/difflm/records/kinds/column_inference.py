"""Column inference: the field that one column of the training split is."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from difflm.errors import DataError
from difflm.records.kinds.columns import INTEGER_PATTERN, as_text, is_decimal, parse_decimals, round_decimals
from difflm.records.kinds.literals import (
    DecimalForm,
    bounds,
    decimal_form,
    decimal_literal,
    decimal_places,
    find_format,
    leading_zeros,
)
from difflm.records.notices import Notice, NoticeCode, Reporter
from difflm.records.schema import (
    BooleanField,
    CategoricalField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Field,
    GivenKind,
    IntegerField,
    JsonField,
    SchemaConfig,
    TextField,
)
from difflm.records.tool_codec import parameters_schema

_CONTROL = r"[\x00-\x1f]"
_BOOLEAN_PAIRS = {("true", "false"), ("yes", "no"), ("t", "f"), ("y", "n"), ("on", "off")}
_NOT_FINITE = r"(?i)^[+-]?inf(inity)?$"
_SMALLEST_IDENTIFIER = 20
_MOSTLY_MISSING = 0.95
_WHOLE_LIMIT = 2.0**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column as text: its distinct values with their counts, and how many rows have none."""

    name: str
    source: pa.DataType
    rows: int
    missing: int
    distinct: pa.Array
    counts: pa.Array

    @classmethod
    def of(cls, name: str, column: pa.ChunkedArray) -> Self:
        """Count the distinct values of a column that has at least one."""
        texts = as_text(column)
        counted = pc.value_counts(texts.combine_chunks())
        values, counts = counted.field("values"), counted.field("counts")
        present = pc.is_valid(values)
        return cls(
            name=name,
            source=column.type,
            rows=len(column),
            missing=texts.null_count,
            distinct=values.filter(present),
            counts=counts.filter(present),
        )

    def without(self, gone: pa.Array) -> Self:
        """Return the column with the distinct values under the mask `gone` counted as missing."""
        lost = pc.sum(self.counts.filter(gone)).as_py()
        kept = pc.invert(gone)
        return type(self)(
            name=self.name,
            source=self.source,
            rows=self.rows,
            missing=self.missing + lost,
            distinct=self.distinct.filter(kept),
            counts=self.counts.filter(kept),
        )


def infer_column(column: Column, limits: SchemaConfig, *, kind: GivenKind | None, report: Reporter) -> Field:
    """Infer the field of a column; `kind` keeps it text. Irregularities are reported."""
    if kind == "tool_parameters":
        return _tool_parameters(column)
    if column.missing > _MOSTLY_MISSING * column.rows:
        _tell(column, "mostly_missing", column.missing, f"{column.missing} of {column.rows} values are missing", report)
    field = None if kind else _number(column, limits, report) or _boolean(column)
    if field is None and kind in (None, "categorical") and len(column.distinct) == 1 and not column.missing:
        field = ConstantField(name=column.name, value=column.distinct[0].as_py())
    if field is None and not kind:
        field = _datetime(column)
    if field is None:
        field = _text(column, limits, kind, report)
    if isinstance(field, ConstantField):
        _tell(column, "constant", column.rows, f"always {field.value!r}", report)
    if isinstance(field, IntegerField | TextField) and _SMALLEST_IDENTIFIER <= len(column.distinct) == column.rows:
        message = "every value is different: if it only names the row, drop it before training"
        _tell(column, "identifier", column.rows, message, report)
    return field


def _number(column: Column, limits: SchemaConfig, report: Reporter) -> Field | None:
    whole = pc.match_substring_regex(column.distinct, INTEGER_PATTERN)
    if not pa.types.is_floating(column.source) and pc.all(whole).as_py():
        try:
            return _integer(column, pc.cast(column.distinct, pa.int64()))
        except pa.ArrowInvalid:
            message = "whole numbers beyond 64 bits are kept as text"
            _tell(column, "out_of_int64", len(column.distinct), message, report)
            return None
    infinite = pc.match_substring_regex(column.distinct, _NOT_FINITE)
    overflows = pc.and_(is_decimal(column.distinct), pc.is_null(parse_decimals(pa.chunked_array([column.distinct]))))
    if isinstance(overflows, pa.ChunkedArray):
        overflows = overflows.combine_chunks()
    gone = pc.or_(infinite, overflows)
    if pc.all(gone).as_py():
        return None
    finite = column.without(gone) if pc.any(gone).as_py() else column
    if not pc.all(is_decimal(finite.distinct)).as_py():
        return None
    if finite.missing > column.missing:
        lost = finite.missing - column.missing
        _tell(column, "not_finite", lost, f"{lost} infinite values count as missing", report)
    return _decimal(finite, limits, report)


def _integer(column: Column, numbers: pa.Array) -> Field:
    low, high = pc.min(numbers).as_py(), pc.max(numbers).as_py()
    if low == high and not column.missing:
        return ConstantField(name=column.name, value=low)
    values = numbers.to_numpy()
    return IntegerField(
        name=column.name,
        nullable=column.missing > 0,
        missing_share=column.missing / column.rows,
        minimum=low,
        maximum=high,
        median=int(values[_median_index(values, column.counts)]),
        distinct=len(values),
    )


def _decimal(column: Column, limits: SchemaConfig, report: Reporter) -> Field:
    numbers = parse_decimals(pa.chunked_array([column.distinct])).combine_chunks().to_numpy()
    if len(np.unique(numbers)) == 1 and not column.missing:
        return ConstantField(name=column.name, value=float(numbers[0]) + 0.0)
    counts = column.counts.to_numpy()
    if np.all(numbers == np.floor(numbers)) and np.abs(numbers).max() < _WHOLE_LIMIT:
        form = DecimalForm(0, 0)
        _tell(column, "whole_decimals", column.rows, "fractions are always zero and are left out", report)
    else:
        form = decimal_form(
            decimal_places(column.distinct),
            numbers,
            counts,
            exact_digits=limits.exact_digits,
            significant_digits=limits.significant_digits,
            max_decimals=limits.max_decimals,
            rounded_share=limits.rounded_share,
        )

    def printed(number: float) -> float:
        return float(decimal_literal(number, form.decimals, form.exponent))

    kept = round_decimals(pa.chunked_array([numbers]), form.decimals, form.exponent).to_numpy() == numbers
    rounded = int(counts[~kept].sum())
    if rounded:
        unit = f"{form.decimals} decimals" + (f" in units of 1e{form.exponent}" if form.exponent else "")
        _tell(column, "rounded", rounded, f"{rounded} numbers are rounded to {unit}", report)
    return DecimalField(
        name=column.name,
        nullable=column.missing > 0,
        missing_share=column.missing / column.rows,
        minimum=printed(float(numbers.min())),
        maximum=printed(float(numbers.max())),
        median=printed(float(numbers[_median_index(numbers, column.counts)])),
        distinct=len(np.unique(numbers)),
        decimals=form.decimals,
        exponent=form.exponent,
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


def _datetime(column: Column) -> Field | None:
    texts: list[str] = column.distinct.to_pylist()
    format = find_format(texts)
    if format is None:
        return None
    (first, last), (padded, bare) = bounds(texts, format), leading_zeros(texts, format)
    return DatetimeField(
        name=column.name,
        nullable=column.missing > 0,
        missing_share=column.missing / column.rows,
        format=format,
        minimum=first,
        maximum=last,
        padded=padded,
        bare=bare,
    )


def _text(column: Column, limits: SchemaConfig, kind: GivenKind | None, report: Reporter) -> Field:
    if kind == "categorical" or (kind is None and _is_categorical(column, limits)):
        counted = zip(column.distinct.to_pylist(), column.counts.to_pylist(), strict=True)
        order = sorted(counted, key=lambda item: (-item[1], item[0]))
        return CategoricalField(
            name=column.name,
            nullable=column.missing > 0,
            missing_share=column.missing / column.rows,
            values=tuple(value for value, _ in order),
            counts=tuple(count for _, count in order),
        )
    lengths = pc.utf8_length(column.distinct)
    too_long = pc.greater(lengths, limits.text_max_characters)
    above = pc.sum(column.counts.filter(too_long)).as_py()
    if above:
        message = f"{above} texts are longer than {limits.text_max_characters} characters"
        _tell(column, "long_text", above, message, report)
    present = column.rows - column.missing
    return TextField(
        name=column.name,
        nullable=column.missing > 0,
        missing_share=column.missing / column.rows,
        max_characters=min(max(pc.max(lengths).as_py(), 1), limits.text_max_characters),
        mean_characters=pc.sum(pc.multiply(pc.cast(lengths, pa.int64()), column.counts)).as_py() / present,
        not_empty=kind in ("name", "python") and pc.min(lengths).as_py() > 0,
        one_line=not pc.any(pc.match_substring_regex(column.distinct, _CONTROL)).as_py(),
        language="python" if kind == "python" else None,
    )


def _tool_parameters(column: Column) -> JsonField:
    """Infer the schema of lists of parameters: types, number and lengths of texts as in training."""
    if column.missing:
        raise DataError(f"column {column.name!r} has {column.missing} missing values; give [] for no parameters")
    texts: list[str] = column.distinct.to_pylist()
    try:
        lists = [json.loads(text) for text in texts]
        parameters = [parameter for found in lists for parameter in found]
        schema = parameters_schema(
            {parameter["type"] for parameter in parameters} or {"STRING"},
            most=max(1, *map(len, lists), 0),
            characters=max((len(one[key]) for one in parameters for key in ("name", "description")), default=1),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"column {column.name!r} does not hold lists of parameters ({error}); see tool_codec"
        ) from error
    return JsonField(name=column.name, missing_share=0.0, json_schema=schema, max_characters=max(map(len, texts)))


def _is_categorical(column: Column, limits: SchemaConfig) -> bool:
    present = column.rows - column.missing
    few = min(limits.category_few, present // 2)
    return len(column.distinct) <= min(max(limits.category_share * present, few, 1), limits.category_max_values)


def _median_index(values: np.ndarray, counts: pa.Array) -> int:
    """Return the index of the lower weighted median of distinct `values`."""
    order: Sequence[int] = np.argsort(values, kind="stable").tolist()
    reached = np.cumsum(counts.to_numpy()[order])
    return order[int(np.searchsorted(reached, (reached[-1] + 1) // 2))]


def _tell(column: Column, code: NoticeCode, count: int, message: str, report: Reporter) -> None:
    report(Notice(column=column.name, code=code, count=count, message=message))
