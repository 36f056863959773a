"""Rounded figures: counts, medians and lengths of a protected schema, so that none of them is that of single rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from difflm.records.kinds.columns import INT64_MAX
from difflm.records.kinds.literals import decimal_literal
from difflm.records.kinds.seen_json import loosened
from difflm.records.protection.columns import Cells
from difflm.records.protection.rare import common_shapes
from difflm.records.protection.settings import ProtectConfig
from difflm.records.schema import (
    BooleanField,
    CategoricalField,
    CodeField,
    ConstantField,
    DecimalField,
    Field,
    IdentifierField,
    IntegerField,
    JsonField,
    RecordSchema,
    TextField,
)

_DIGITS: Final = 2


def rounded_schema(schema: RecordSchema, table: pa.Table, config: ProtectConfig) -> RecordSchema:
    """Round the figures of all protected columns; `table` are the rows that the schema was inferred from."""
    fields = tuple(
        _rounded(field, table, config.threshold) if config.covers(field.name) else field for field in schema.fields
    )
    return schema.model_copy(update={"fields": fields})


def rounded_count(rows: int, least: int) -> int:
    """Round a number of rows to a multiple of `least`, upwards where it is less."""
    return 0 if rows == 0 else max(least, round(rows / least) * least)


def rounded_up(number: int) -> int:
    """Round a whole number above zero up to two significant digits."""
    unit: int = 10 ** max(0, len(str(number)) - _DIGITS)
    return -(-number // unit) * unit


def rounded_edges(edges: Sequence[float]) -> tuple[float, ...]:
    """Round increasing edges of bins, but for both ends, to a power of ten of at most a quarter of the smaller bin."""
    found = list(edges)
    for place in range(1, len(edges) - 1):
        width = min(edges[place] - edges[place - 1], edges[place + 1] - edges[place])
        step = 10.0 ** math.floor(math.log10(width / 4))
        if step >= 1:
            found[place] = round(edges[place] / step) * step
    return tuple(found)


def _rounded(field: Field, table: pa.Table, least: int) -> Field:
    changes: dict[str, Any] = {}
    if not isinstance(field, ConstantField | IdentifierField | JsonField):
        missing = rounded_count(round(field.missing_share * table.num_rows), least)
        changes["missing_share"] = min(1.0, missing / table.num_rows)
    match field:
        case CategoricalField(counts=counts):
            changes["counts"] = tuple(rounded_count(count, least) for count in counts)
        case BooleanField(counts=(true, false)):
            changes["counts"] = (rounded_count(true, least), rounded_count(false, least))
        case IntegerField():
            changes["median"] = _rounded_median(field, field.median)
        case DecimalField(exponent=0):
            literal = decimal_literal(_rounded_median(field, field.median), field.decimals)
            changes["median"] = min(max(float(literal), field.minimum), field.maximum)
        case TextField():
            changes["max_characters"] = rounded_up(field.max_characters)
            changes["mean_characters"] = float(round(field.mean_characters, 1))
            changes["json_schema"] = None if field.json_schema is None else loosened(field.json_schema)
        case CodeField() | IdentifierField(start=None):
            cells = Cells.of(field.name, table.column(field.name))
            changes["shapes"] = common_shapes(cells, field.shapes, least)
        case IdentifierField(start=start) if start not in (0, 1):
            assert start is not None
            changes["start"] = min(rounded_up(start), INT64_MAX) if start > 0 else start
        case _:
            pass
    return field.model_copy(update=changes)


def _rounded_median(field: IntegerField | DecimalField, median: float) -> Any:
    """Round a median to a hundredth of the range, within it."""
    span = field.maximum - field.minimum
    if not 0 < span < math.inf:
        return median
    power = math.floor(math.log10(span / 100))
    if power < 0:
        return median if isinstance(field, IntegerField) else round(median, -power)
    nearest = round(median / 10**power) * 10**power
    return min(max(nearest, field.minimum), field.maximum)
