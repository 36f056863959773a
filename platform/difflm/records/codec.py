"""The codec seam: how a record becomes text and how text becomes a record, or a counted reason why not."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias, get_args

import pyarrow as pa

from difflm.records.notices import Notice
from difflm.records.schema import Record, RecordSchema, Value

__all__ = [
    "REJECTION_REASONS",
    "Accepted",
    "Decoded",
    "Normalized",
    "NormalizedTable",
    "Record",
    "RecordCodec",
    "Rejected",
    "RejectionReason",
    "Segment",
    "Value",
]

RejectionReason: TypeAlias = Literal[
    "not_json",
    "not_an_object",
    "keys",
    "type",
    "missing",
    "range",
    "decimals",
    "category",
    "datetime",
    "length",
    "constant",
    "json_schema",
    "syntax",
]
REJECTION_REASONS: tuple[RejectionReason, ...] = get_args(RejectionReason)


class Segment(NamedTuple):
    """A piece of an encoded record. `field` indexes `schema.fields`; the closing brace belongs to the last field."""

    text: str
    field: int
    role: Literal["fixed", "value"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A text that is a record of the schema."""

    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A text that is not; `field` names the column at fault, None when the text as a whole is."""

    reason: RejectionReason
    detail: str
    field: str | None = None


Decoded: TypeAlias = Accepted | Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalized:
    """A record that fits its schema, and what had to change for it."""

    record: Record
    notices: tuple[Notice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalizedTable:
    """A table that fits its schema, and what had to change for it, counted per column and reason."""

    table: pa.Table
    notices: tuple[Notice, ...]


class RecordCodec(Protocol):
    """Records to text and back.

    `decode(encode(record)) == Accepted(record=record)` for every normalised record, and the texts of `segments(record)`
    joined are `encode(record)`. The column-wise methods serve whole tables: row i of a table encodes as
    `fixed[0] + literals[0][i] + fixed[1] + ... + literals[-1][i] + fixed[-1]`.
    """

    @property
    def schema(self) -> RecordSchema: ...

    def encode(self, record: Record) -> str:
        """Encode a record as one line of text. Lenient: values outside the training ranges are written unchanged.

        SchemaError for wrong keys or a value of the wrong type.
        """

    def decode(self, text: str) -> Decoded:
        """Decode a text strictly. Never raises."""

    def segments(self, record: Record) -> list[Segment]:
        """Return two segments per field (fixed text, value literal) and the closing text."""

    def fixed_texts(self) -> tuple[str, ...]:
        """Return the texts before each value and after the last: n_fields + 1 texts."""

    def value_literals(self, table: pa.Table) -> list[list[str]]:
        """Return, per field, the literal of every row."""

    def normalize(self, record: Record) -> Normalized:
        """Clip, round and map a record into the schema."""

    def normalize_table(self, table: pa.Table) -> NormalizedTable:
        """Normalize a table like `normalize` does a record, column by column."""

    def records_of(self, table: pa.Table) -> Iterator[Record]:
        """Yield the rows of a table as records, in canonical values (see `columns.conform_table`)."""

    def table_of(self, records: Iterable[Record]) -> pa.Table:
        """Build a table of records in the canonical types, booleans in the source's spelling."""
