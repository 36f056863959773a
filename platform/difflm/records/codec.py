"""What a codec answers: a record, the pieces of its text, or a counted reason why a text is none."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

import pyarrow as pa

from difflm.records.notices import Notice
from difflm.records.schema import Record, Value

__all__ = [
    "REJECTION_REASONS",
    "Accepted",
    "Decoded",
    "Normalized",
    "NormalizedTable",
    "Record",
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
