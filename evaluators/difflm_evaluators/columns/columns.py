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

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from difflm.errors import DataError
from difflm.records.kinds.columns import parse_decimals
from difflm.records.kinds.dress import in_text, read_cell
from difflm.records.kinds.moments import COMPACT, field_moment
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

MAX_CELLS = 2**24
"""Features times rows of one encoded sample: 64 MiB in float32."""


FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labels(Sequence[str | None]):
    """Reads like a tuple of texts, None where missing. `codes_N` numbers `values`, and is -1 where missing."""

    values: tuple[str, ...]
    codes_N: IntArray

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> "Labels":
        """Take any texts as labels; labels as they are."""
        return texts if isinstance(texts, Labels) else cls.read(pa.chunked_array([pa.array(texts, pa.string())]))

    @classmethod
    def read(cls, texts: pa.ChunkedArray) -> "Labels":
        """Wrap an Arrow column of type string, or of a dictionary of strings, which is kept as it is."""
        whole = texts.unify_dictionaries().combine_chunks()
        encoded = whole if pa.types.is_dictionary(whole.type) else whole.dictionary_encode()
        if encoded.dictionary.null_count:  # missing in the dictionary and not among the rows
            encoded = encoded.dictionary_decode().dictionary_encode()
        codes_N: IntArray = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return cls(values=tuple(encoded.dictionary.to_pylist()), codes_N=codes_N)

    def spelled(self, spell: Callable[[str], str]) -> "Labels":
        """Spell every value another way."""
        return Labels(values=tuple(spell(value) for value in self.values), codes_N=self.codes_N)

    @property
    def missing_N(self) -> npt.NDArray[np.bool_]:
        """True where there is no text."""
        return self.codes_N < 0

    def lookup(self, number: Callable[[str | None], int]) -> IntArray:
        """Return `number(text)` of every row, None being the missing text; call it once per distinct value."""
        table = np.array([number(value) for value in (*self.values, None)], dtype=np.int64)
        return table[self.codes_N]

    def take(self, rows: IntArray) -> "Labels":
        """Select the labels at these positions."""
        return Labels(values=self.values, codes_N=self.codes_N[rows])

    def __len__(self) -> int:
        return len(self.codes_N)

    def __iter__(self) -> Iterator[str | None]:
        known = (*self.values, None)
        return (known[code] for code in self.codes_N.tolist())

    @overload
    def __getitem__(self, rows: int) -> str | None: ...
    @overload
    def __getitem__(self, rows: slice) -> "Labels": ...
    def __getitem__(self, rows: int | slice) -> "str | Labels | None":
        if isinstance(rows, slice):
            return Labels(values=self.values, codes_N=self.codes_N[rows])
        code = int(self.codes_N[rows])
        return None if code < 0 else self.values[code]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]  # two spellings of the same texts would differ


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
        return Column(name=field.name, kind=kind, numbers_N=_seconds(array, field, where), labels_N=())
    if isinstance(field, IdentifierField):
        named = pc.if_else(pc.is_valid(array), pa.scalar("named"), pa.scalar(None, pa.string()))
        return Column(name=field.name, kind=kind, numbers_N=np.zeros(0), labels_N=Labels.read(named))
    if isinstance(field, IntegerField | DecimalField) and in_text(field) and _is_text(array):
        return Column(name=field.name, kind=kind, numbers_N=_dressed(array, field, where), labels_N=())
    if kind == "numeric":
        return Column(name=field.name, kind=kind, numbers_N=_numbers(array, where), labels_N=())
    labels = _labels(array, field, where)
    lengths_V = np.array([*(len(text) for text in labels.values), np.nan])
    lengths_N = lengths_V[labels.codes_N] if kind == "text" else np.zeros(0)
    return Column(name=field.name, kind=kind, numbers_N=lengths_N, labels_N=labels)


def _numbers(array: pa.ChunkedArray, where: str) -> FloatArray:
    """Return numbers as float64; text is accepted where every value is a number."""
    if pa.types.is_boolean(array.type) or pa.types.is_temporal(array.type):
        raise DataError(f"{where} has type {array.type} but the schema says numbers; convert it")
    try:
        cast = _parsed(array) if _is_text(array) else pc.cast(array, pa.float64(), safe=False)
        numbers: FloatArray = cast.to_numpy(zero_copy_only=False).astype(np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"{where} should hold numbers but has type {array.type}: {_one_line(error)}; mend it"
        ) from error
    mask_N = array.is_null().to_numpy(zero_copy_only=False).astype(bool)
    infinite = int(np.isinf(numbers).sum())
    if infinite:
        first = int(np.argmax(np.isinf(numbers))) + 1
        counted = f"{infinite} infinite numbers, the first in record {first}"
        raise DataError(f"{where} has {counted}; leave those cells empty or drop the rows")
    numbers[mask_N] = np.nan
    return numbers


def _parsed(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Read texts as float64; ArrowInvalid naming the first that is no number, and its place."""
    texts = pc.cast(texts, pa.string())
    numbers = parse_decimals(texts)
    if numbers.null_count > texts.null_count:
        wrong_N = pc.and_(pc.is_valid(texts), pc.is_null(numbers))
        count, first = pc.sum(wrong_N).as_py(), pc.index(wrong_N, True).as_py()
        raise pa.ArrowInvalid(
            f"{count} values are no numbers, the first {texts[first].as_py()!r} in record {first + 1}"
        )
    return numbers


def _dressed(array: pa.ChunkedArray, field: IntegerField | DecimalField, where: str) -> FloatArray:
    """Return the numbers of cells in a dress, NaN for words and where missing; each distinct cell is read once."""
    labels = Labels.read(pc.cast(array, pa.string()))
    numbers = [np.nan]
    for text in labels.values[::-1]:
        value = read_cell(field, text)
        if value is None:
            place = list(labels).index(text) + 1
            raise DataError(f"{where} should hold numbers, but record {place} has {text[:60]!r}; mend it")
        numbers.insert(0, np.nan if isinstance(value, str) else float(value))
    numbers_V: FloatArray = np.array(numbers, dtype=np.float64)
    return numbers_V[labels.codes_N]


def _is_text(array: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_string(array.type) or pa.types.is_large_string(array.type))


def constant_label(value: str | int | float | bool) -> str:
    """Spell the value of a constant column as a category: numbers as floats, so that 1 and 1.0 are equal."""
    return repr(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _labels(array: pa.ChunkedArray, field: Field, where: str) -> Labels:
    if isinstance(field, ConstantField) and not isinstance(field.value, str):
        if isinstance(field.value, bool):
            return Labels.of([None if value is None else str(value) for value in array.to_pylist()])
        return Labels.of([None if np.isnan(value) else repr(value) for value in _numbers(array, where).tolist()])
    if pa.types.is_boolean(array.type):
        if not isinstance(field, BooleanField):
            raise DataError(f"{where} has type bool but the schema says {field.kind}; give the source's text")
        return Labels.read(pc.if_else(array, field.true_text, field.false_text))
    if pa.types.is_floating(array.type) or pa.types.is_temporal(array.type) or pa.types.is_nested(array.type):
        raise DataError(f"{where} has type {array.type} but the schema says {field.kind}; give the source's text")
    try:
        labels = Labels.read(array if pa.types.is_dictionary(array.type) else pc.cast(array, pa.string()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{where} should hold text but has type {array.type}: {_one_line(error)}; mend it") from error
    if isinstance(field, BooleanField):
        spelled = {text.lower(): text for text in (field.true_text, field.false_text)}
        return labels.spelled(lambda text: spelled.get(text.lower(), text))
    return labels


def _seconds(array: pa.ChunkedArray, field: DatetimeField, where: str) -> FloatArray:
    """Return date and time as seconds since 1970-01-01; each distinct value is parsed once."""
    text_format = " or ".join(field.formats)
    if pa.types.is_integer(array.type) and field.format in COMPACT:
        array = array.cast(pa.string())  # dates without separators are whole numbers in typed sources
    if not (pa.types.is_temporal(array.type) or _is_text(array) or pa.types.is_null(array.type)):
        raise DataError(f"{where} has type {array.type} but the schema says date or time ({text_format}); convert it")
    values = array.to_pylist()
    seconds: dict[object, float] = dict.fromkeys((None, *field.words), np.nan)
    for value in dict.fromkeys(values):  # in their order, so that the first at fault is named
        if value in seconds:
            continue
        moment = field_moment(field, value) if isinstance(value, str) else value
        if moment is None:
            place = f"{value!r} in record {values.index(value) + 1}"
            raise DataError(f"{where} has {place}, which is not of the form {text_format}; mend it")
        seconds[value] = timestamp(moment, where)
    return np.array([seconds[value] for value in values], dtype=np.float64)


def timestamp(moment: object, where: str) -> float:
    """Return seconds since 1970-01-01 of a date or time, UTC where it names no zone; DataError for anything else."""
    if isinstance(moment, datetime):
        zoned = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return (zoned - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    if isinstance(moment, date):
        return float((moment - date(1970, 1, 1)).days * 86_400)
    raise DataError(f"{where} holds {type(moment).__name__} values, which are no date or time; convert it")


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0]


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
