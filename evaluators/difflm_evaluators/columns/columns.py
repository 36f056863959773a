"""Columns as the evaluators see them: numbers, categories or text lengths, read from a table by its schema.

| schema kind                       | read as                                                               |
|-----------------------------------|-----------------------------------------------------------------------|
| integer, decimal                  | float64 numbers, NaN where missing                                    |
| datetime                          | float64 seconds since 1970 (UTC where the text names no zone)         |
| categorical, boolean, constant    | text, None where missing; booleans in the source's spelling           |
| identifier                        | one category for all rows: a name says nothing of what was learned     |
| text, code                        | text, None where missing; compared by its length in characters        |

Words beside numbers or dates have no number either: NaN.

A column whose values cannot be read as its schema kind is an error naming the column, never a guess.

Seeded samples of the rows of a table, for evaluators whose cost grows faster than the rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from difflm.errors import DataError
from difflm.records.kinds.dress import in_text
from difflm.records.schema import (
    BooleanField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Field,
    IdentifierField,
    IntegerField,
    RecordSchema,
)
from difflm_evaluators.columns.cell_numbers import is_text, one_line, read_dressed, read_numbers, read_seconds
from difflm_evaluators.columns.labels import Labels

MAX_CELLS = 2**24
"""Features times rows of one encoded sample: 64 MiB in float32."""


FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

Kind = Literal["numeric", "category", "text"]

_KINDS: Mapping[str, Kind] = {
    "integer": "numeric",
    "decimal": "numeric",
    "datetime": "numeric",
    "categorical": "category",
    "boolean": "category",
    "constant": "category",
    "text": "text",
    "code": "text",
    "identifier": "category",
    "json": "text",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of one table. `numbers_N` holds numbers or text lengths; `labels_N` holds categories or text."""

    name: str
    kind: Kind
    numbers_N: FloatArray
    labels_N: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.labels_N) if self.kind == "category" else len(self.numbers_N)

    @property
    def missing_N(self) -> npt.NDArray[np.bool_]:
        """True where the value is missing."""
        if self.kind == "category":
            return Labels.of(self.labels_N).missing_N
        return np.isnan(self.numbers_N)

    @property
    def present(self) -> FloatArray:
        """The numbers (or lengths) that are not missing."""
        return self.numbers_N[~np.isnan(self.numbers_N)]


Columns = Mapping[str, Column]


def take_rows(columns: Columns, rows: IntArray) -> dict[str, Column]:
    """Select the rows at these positions."""
    return {
        name: Column(
            name=name,
            kind=column.kind,
            numbers_N=column.numbers_N[rows] if len(column.numbers_N) else column.numbers_N,
            labels_N=Labels.of(column.labels_N).take(rows) if len(column.labels_N) else (),
        )
        for name, column in columns.items()
    }


def column_kind(schema_field: Field) -> Kind:
    """Tell how the evaluators treat a schema field."""
    return kind_of(schema_field.kind)


def kind_of(schema_kind: str) -> Kind:
    """Tell how the evaluators treat a kind of the schema, such as "decimal"."""
    return _KINDS[schema_kind]


def read_columns(table: pa.Table, schema: RecordSchema, role: str) -> dict[str, Column]:
    """Read every column of `table` as its schema field asks, in schema order; `role` names the table in errors.

    Raises:
        DataError: columns missing, unknown or doubled; values that are not of the schema's kind; infinite numbers.
    """
    names = list(table.column_names)
    missing = [name for name in schema.names if name not in names]
    unknown = [name for name in names if name not in schema.names]
    doubled = sorted({name for name in names if names.count(name) > 1})
    for label, wrong in (("lacks", missing), ("has unknown", unknown), ("repeats", doubled)):
        if wrong:
            listed = ", ".join(map(repr, wrong[:5])) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
            raise DataError(f"{role} table {label} column {listed}; give it exactly the columns of the schema")
    return {field.name: _read_column(table.column(field.name), field, role) for field in schema.fields}


def _read_column(array: pa.ChunkedArray, field: Field, role: str) -> Column:
    kind = column_kind(field)
    labelled = kind != "numeric" and not isinstance(field, ConstantField)
    if pa.types.is_dictionary(array.type) and not (labelled and pa.types.is_string(array.type.value_type)):
        array = array.cast(array.type.value_type)
    where = f"{role} table, column {field.name!r}"
    if isinstance(field, DatetimeField):
        return Column(name=field.name, kind=kind, numbers_N=read_seconds(array, field, where), labels_N=())
    if isinstance(field, IdentifierField):
        named = pc.if_else(pc.is_valid(array), pa.scalar("named"), pa.scalar(None, pa.string()))
        return Column(name=field.name, kind=kind, numbers_N=np.zeros(0), labels_N=Labels.read(named))
    if isinstance(field, IntegerField | DecimalField) and in_text(field) and is_text(array):
        return Column(name=field.name, kind=kind, numbers_N=read_dressed(array, field, where), labels_N=())
    if kind == "numeric":
        return Column(name=field.name, kind=kind, numbers_N=read_numbers(array, where), labels_N=())
    labels = _labels(array, field, where)
    lengths_V = np.array([*(len(text) for text in labels.values), np.nan])
    lengths_N = lengths_V[labels.codes_N] if kind == "text" else np.zeros(0)
    return Column(name=field.name, kind=kind, numbers_N=lengths_N, labels_N=labels)


def constant_label(value: str | int | float | bool) -> str:
    """Spell the value of a constant column as a category: numbers as floats, so that 1 and 1.0 are equal."""
    return repr(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _labels(array: pa.ChunkedArray, field: Field, where: str) -> Labels:
    if isinstance(field, ConstantField) and not isinstance(field.value, str):
        if isinstance(field.value, bool):
            return Labels.of([None if value is None else str(value) for value in array.to_pylist()])
        return Labels.of([None if np.isnan(value) else repr(value) for value in read_numbers(array, where).tolist()])
    if pa.types.is_boolean(array.type):
        if not isinstance(field, BooleanField):
            raise DataError(f"{where} has type bool but the schema says {field.kind}; give the source's text")
        return Labels.read(pc.if_else(array, field.true_text, field.false_text))
    if pa.types.is_floating(array.type) or pa.types.is_temporal(array.type) or pa.types.is_nested(array.type):
        raise DataError(f"{where} has type {array.type} but the schema says {field.kind}; give the source's text")
    try:
        labels = Labels.read(array if pa.types.is_dictionary(array.type) else pc.cast(array, pa.string()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{where} should hold text but has type {array.type}: {one_line(error)}; mend it") from error
    if isinstance(field, BooleanField):
        spelled = {text.lower(): text for text in (field.true_text, field.false_text)}
        return labels.spelled(lambda text: spelled.get(text.lower(), text))
    return labels


def category_codes(*columns: Column) -> tuple[list[str | None], list[IntArray]]:
    """Give every category of the columns (missing is one of them) a number by first appearance; codes per column."""
    labels = [Labels.of(column.labels_N) for column in columns]
    numbering: dict[str | None, int] = {}
    for part in labels:
        seen, first = np.unique(part.codes_N, return_index=True)
        for code in seen[np.argsort(first)].tolist():
            numbering.setdefault(None if code < 0 else part.values[code], len(numbering))
    return list(numbering), [part.lookup(lambda text: numbering.get(text, -1)) for part in labels]


def row_count(table: Columns) -> int:
    """Count the rows of a table; 0 when it has no column."""
    column = next(iter(table.values()), None)
    return 0 if column is None else max(len(column.labels_N), len(column.numbers_N))


def draw_rows(table: Columns, most: int, random: np.random.Generator) -> dict[str, Column]:
    """Draw at most `most` rows without replacement, in the table's order; all of them if there are no more."""
    rows = row_count(table)
    if rows <= most:
        return dict(table)
    return take_rows(table, np.sort(random.choice(rows, size=most, replace=False)))
