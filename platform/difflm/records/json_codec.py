"""The JSON codec: a record is one line of JSON, keys in column order."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NoReturn

import pyarrow as pa

from difflm.errors import DataError, SchemaError
from difflm.records.codec import Accepted, Decoded, Normalized, NormalizedTable, Rejected, Segment
from difflm.records.kinds.columns import arrow_schema, arrow_type, conform_table
from difflm.records.kinds.dress import in_text, print_cell, read_cell
from difflm.records.kinds.literal_checks import Fault, Number, Pairs, check_literal
from difflm.records.kinds.literals import column_literals, quote, value_literal
from difflm.records.normalizing import normalize_column
from difflm.records.notices import Notice
from difflm.records.schema import (
    BooleanField,
    CategoricalField,
    DecimalField,
    Field,
    IntegerField,
    Record,
    RecordSchema,
    TextField,
    Value,
)

_BATCH_ROWS = 4096
_MAX_KNOWN = 1 << 14
_REPEATED = (str, Number)
"""Types of literals that many records share: what is known of one is looked up, for so many literals a field."""


class JsonRecordCodec:
    """`{"age": 39, "workclass": "State-gov", "x": 1.50, "b": true, "t": null}`, or the values alone, as a list.

    `decode(encode(record)) == Accepted(record=record)` for every normalised record, and the texts of `segments(record)`
    joined are `encode(record)`. The column-wise methods serve whole tables: row i of a table encodes as
    `fixed[0] + literals[0][i] + fixed[1] + ... + literals[-1][i] + fixed[-1]`.

    Decoding accepts any white space and any JSON escapes; keys and their order, types, ranges, decimals, categories and
    date formats have to be right.
    """

    def __init__(self, schema: RecordSchema, *, keyed: bool = True) -> None:
        """Write the names of fields with every record, or with `keyed` false `[39, "State-gov", 1.50, true, null]`:
        for models whose tokens are dear, and who know the fields.
        """
        self._schema, self._keyed = schema, keyed
        self._categories = [
            frozenset(field.values) if isinstance(field, CategoricalField) else frozenset() for field in schema.fields
        ]
        self._known: list[dict[object, Value]] = [{} for _ in schema.fields]
        keys = [quote(name) for name in schema.names]
        self._fixed = (
            (f"{{{keys[0]}: ", *(f", {key}: " for key in keys[1:]), "}")
            if keyed
            else ("[", *([", "] * (len(keys) - 1)), "]")
        )

    @property
    def schema(self) -> RecordSchema:
        """The schema that records are written and checked by."""
        return self._schema

    def fixed_texts(self) -> tuple[str, ...]:
        """Return the texts before each value and after the last: n_fields + 1 texts."""
        return self._fixed

    def encode(self, record: Record) -> str:
        """Encode a record as one line of JSON. SchemaError names the column when keys or types are not the schema's."""
        return "".join(segment.text for segment in self.segments(record))

    def segments(self, record: Record) -> list[Segment]:
        """Return two segments per field and the closing brace; their texts joined are `encode(record)`."""
        if tuple(record) != self._schema.names:
            raise SchemaError(f"record has the keys {list(record)}, expected {list(self._schema.names)} in this order")
        pieces = []
        for index, (field, value) in enumerate(zip(self._schema.fields, record.values(), strict=True)):
            pieces.append(Segment(self._fixed[index], index, "fixed"))
            pieces.append(Segment(value_literal(field, value), index, "value"))
        pieces.append(Segment(self._fixed[-1], len(self._schema.fields) - 1, "fixed"))
        return pieces

    def value_literals(self, table: pa.Table) -> list[list[str]]:
        """Return, per field, the literal of every row; DataError when a column is missing."""
        conformed = conform_table(table, self._schema)
        return [column_literals(field, conformed.column(i)) for i, field in enumerate(self._schema.fields)]

    def encode_table(self, table: pa.Table) -> list[str]:
        """Encode one line per row, the same as encoding its records one by one."""
        literals = self.value_literals(table)
        pattern = "".join(text.replace("%", "%%") + "%s" for text in self._fixed[:-1]) + self._fixed[-1]
        return [pattern % row for row in zip(*literals, strict=True)]

    def decode(self, text: str) -> Decoded:
        """Decode `text` into its record, or return why it is none. Never raises."""
        try:
            parsed = _DECODER.decode(text.strip(" \t\r\n"))
        except (ValueError, RecursionError) as error:
            return Rejected(reason="not_json", detail=str(error)[:200])
        items = self._items(parsed)
        if isinstance(items, Rejected):
            return items
        record: Record = {}
        for place, (name, item) in enumerate(zip(self._schema.names, items, strict=True)):
            known, repeated = self._known[place], type(item) in _REPEATED
            if repeated and item in known:
                record[name] = known[item]
                continue
            field = self._schema.fields[place]
            value = check_literal(field, item, self._categories[place])
            if isinstance(value, Fault):
                return Rejected(reason=value.reason, detail=value.detail, field=name)
            if repeated and len(known) < _MAX_KNOWN and not isinstance(field, TextField):
                known[item] = value
            record[name] = value
        return Accepted(record=record)

    def _items(self, parsed: object) -> Sequence[object] | Rejected:
        """Return the values of a parsed record, in order of the columns."""
        names = self._schema.names
        if not self._keyed:
            if not isinstance(parsed, list):
                return Rejected(reason="not_an_object", detail=f"expected a list, got {str(parsed)[:60]}")
            if len(parsed) != len(names):
                return Rejected(reason="keys", detail=f"{len(parsed)} values, and there are {len(names)} fields")
            return parsed
        if not isinstance(parsed, Pairs):
            return Rejected(reason="not_an_object", detail=f"expected an object, got {str(parsed)[:60]}")
        keys = tuple(key for key, _ in parsed.items)
        return (
            [item for _, item in parsed.items]
            if keys == names
            else Rejected(reason="keys", detail=_key_fault(keys, names))
        )

    def normalize(self, record: Record) -> Normalized:
        """Return the nearest record that the schema allows, and notices of the changes."""
        normalized = self.normalize_table(self.table_of([record]))
        return Normalized(record=next(self.records_of(normalized.table)), notices=normalized.notices)

    def normalize_table(self, table: pa.Table) -> NormalizedTable:
        """Return the nearest table that the schema allows, column by column, and notices with the counts of changes."""
        notices: list[Notice] = []
        conformed = conform_table(table, self._schema, report=notices.append)
        columns = [
            normalize_column(conformed.column(i), field, report=notices.append)
            for i, field in enumerate(self._schema.fields)
        ]
        return NormalizedTable(table=pa.Table.from_arrays(columns, schema=conformed.schema), notices=tuple(notices))

    def records_of(self, table: pa.Table) -> Iterator[Record]:
        """Yield rows as records, in canonical values: decimals as printed, nothing clipped."""
        names = self._schema.names
        for batch in conform_table(table, self._schema).to_batches(max_chunksize=_BATCH_ROWS):
            columns = [_values(field, batch.column(i)) for i, field in enumerate(self._schema.fields)]
            for row in zip(*columns, strict=True):
                yield dict(zip(names, row, strict=True))

    def table_of(self, records: Iterable[Record]) -> pa.Table:
        """Build a table in canonical types, booleans as in the source; DataError names row and column of a fault."""
        columns: list[list[Value]] = [[] for _ in self._schema.fields]
        for row, record in enumerate(records):
            if tuple(record) != self._schema.names:
                expected = list(self._schema.names)
                raise DataError(f"record {row} has the keys {list(record)}, expected {expected} in this order")
            for column, value in zip(columns, record.values(), strict=True):
                column.append(value)
        arrays = [_array(field, values) for field, values in zip(self._schema.fields, columns, strict=True)]
        return pa.Table.from_arrays(arrays, schema=arrow_schema(self._schema))


def _not_a_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=Pairs, parse_float=Number, parse_int=Number, parse_constant=_not_a_number)


def _key_fault(keys: tuple[str, ...], names: tuple[str, ...]) -> str:
    for index, name in enumerate(names):
        if index >= len(keys) or keys[index] != name:
            found = repr(keys[index])[:60] if index < len(keys) else "nothing"
            return f"key {index} should be {name!r}, found {found}"
    return f"{len(keys) - len(names)} keys too many, the first {keys[len(names)][:60]!r}"


def _values(field: Field, column: pa.Array) -> list[Value]:
    values: list[Value] = column.to_pylist()
    if isinstance(field, BooleanField) and field.stored == "text":
        meaning: Mapping[Value, Value] = {field.true_text: True, field.false_text: False, None: None}
        return [meaning[value] for value in values]
    if isinstance(field, IntegerField | DecimalField) and in_text(field):
        return [None if value is None else read_cell(field, str(value)) for value in values]
    return values


def _array(field: Field, values: list[Value]) -> pa.Array:
    for row, value in enumerate(values):
        if value is not None and not _holds(field, value):
            place = f"record {row}, column {field.name!r} ({field.kind})"
            raise DataError(f"{place}: cannot hold {str(value)[:60]!r}; give a value of its kind or None")
    if isinstance(field, BooleanField) and field.stored == "text":
        spelling: Mapping[Value, Value] = {True: field.true_text, False: field.false_text, None: None}
        values = [spelling[value] for value in values]
    elif isinstance(field, IntegerField | DecimalField) and in_text(field):
        values = [None if value is None else print_cell(field, value) for value in values]
    elif isinstance(field, DecimalField):
        values = [None if value is None else float(value) for value in values]
    return pa.array(values, type=arrow_type(field))


def _holds(field: Field, value: Value) -> bool:
    try:
        value_literal(field, value)
    except SchemaError:
        return False
    return not isinstance(value, int) or -(2**63) <= value < 2**63
