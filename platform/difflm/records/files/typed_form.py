"""The form of a typed file: its Arrow types, back on made rows, and off them again."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Final, Literal, Self, TypeAlias

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, field_validator
from pydantic import Field as Option

from difflm.errors import DataError
from difflm.records.files.restoring import restored
from difflm.records.files.typed_files import kept_as_digits, without_nesting
from difflm.records.kinds.columns import as_text
from difflm.records.nested_values import fits_json, is_bytes
from difflm.records.notices import Notice, Reporter, ignore
from difflm.records.schema import CodeField, Field, IdentifierField, RecordSchema, TextField

Unit: TypeAlias = Literal["day", "s", "ms", "us", "ns"]
_UNITS: Final[Mapping[int, Unit]] = {3: "ms", 6: "us"}

_TRIED: Final = 1000
"""Rows that say whether a type comes back."""


class TypedForm(BaseModel):
    """Arrow types by column, as an Arrow schema in base64, and what they are called in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    arrow: str
    names: dict[str, str] = {}
    digits: tuple[str, ...] = Option(default=(), description="columns of bytes that are kept as hexadecimal digits")
    units: dict[str, Unit] = Option(default={}, description="by column of moments what their texts are given in")

    @field_validator("arrow")
    @classmethod
    def _is_a_schema(cls, arrow: str) -> str:
        try:
            pa.ipc.read_schema(pa.BufferReader(base64.b64decode(arrow))).names  # noqa: B018 - ValueError: no Unicode
        except (ValueError, OSError, pa.ArrowException) as error:
            raise ValueError(f"no Arrow schema ({' '.join(str(error).split())[:100]})") from error
        return arrow

    @classmethod
    def of(cls, typed: pa.Table, read: pa.Table, names: dict[str, str]) -> Self:
        """Describe a typed table, of which `read` is the canonical form, with the same columns."""
        about = {key: value for key, value in (typed.schema.metadata or {}).items() if key == b"pandas"}
        bytes_ = [name for name in typed.column_names if is_bytes(typed.column(name).type)]
        moments = [name for name in typed.column_names if _is_moment(typed.column(name).type)]
        return cls(
            arrow=_dumped(typed.schema.with_metadata(about)),
            names=names,
            digits=tuple(name for name in bytes_ if kept_as_digits(typed.column(name), read.column(name))),
            units={name: unit for name in moments if (unit := _unit(read.column(name))) is not None},
        )

    def types(self) -> pa.Schema:
        """Return the types by column."""
        return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(self.arrow)))

    def fitting(self, read: pa.Table, report: Reporter) -> TypedForm:
        """Return the form without the types that not even the rows which were read could have again."""
        types = self.types()
        for place, (name, column) in enumerate(zip(read.column_names, read.columns, strict=True)):
            kind, some = types.field(place).type, column.slice(0, _TRIED)
            if pa.types.is_null(kind) or restored(some, kind, digits=name in self.digits).type == kind:
                continue
            message = f"of the type {kind}, which made rows cannot have; they have it as {column.type}"
            report(Notice(column=name, code="kept_as_text", count=1, message=message))
            types = types.set(place, types.field(place).with_type(column.type))
        return self.model_copy(update={"arrow": _dumped(types)})

    def kept(self, schema: RecordSchema, report: Reporter) -> TypedForm:
        """Return the form without the types that made rows may not fit: free texts are texts, whatever they are."""
        types = self.types()
        for field in schema.fields:
            place = types.get_field_index(field.name)
            if place < 0 or not _is_loose(field, types.field(place).type) or _is_text(types.field(place).type):
                continue
            what = "free text" if isinstance(field, TextField) else "codes"
            message = f"of the type {types.field(place).type} and read as {what}; made rows have it as text"
            report(Notice(column=field.name, code="kept_as_text", count=1, message=message))
            types = types.set(place, types.field(place).with_type(pa.string()))
        return self.model_copy(update={"arrow": _dumped(types)})

    def shaped(self, table: pa.Table) -> pa.Table:
        """Convert rows in canonical types to the types and names of the source.

        Raises:
            DataError: a value that the source's type cannot hold; names the column and the remedy.
        """
        types = self.types()
        columns, fields = [], []
        for name, column in zip(table.column_names, table.columns, strict=True):
            place = types.get_field_index(name)
            known = types.field(place) if place >= 0 else pa.field(name, column.type)
            known = known.with_type(column.type) if pa.types.is_null(known.type) else known
            made = restored(column, known.type, digits=name in self.digits, about=table.schema.field(name).metadata)
            if made.type != known.type:
                raise DataError(
                    f"column {name!r}: a value is no {known.type}, the type of the source; write the rows with "
                    "--dialect plain"
                )
            columns.append(made)
            nullable = known.nullable or pa.types.is_floating(known.type)  # NaN comes back as missing
            fields.append(known.with_nullable(nullable).with_name(self.names.get(name, name)))
        return pa.Table.from_arrays(columns, schema=pa.schema(fields, types.metadata))

    def canonical(self, table: pa.Table, names: list[str]) -> pa.Table:
        """Undo `shaped`: rows of these columns with text for all but numbers and truth values."""
        columns = []
        for name, column in zip(names, table.columns, strict=True):
            if name in self.digits:
                digits = [None if value is None else value.hex() for value in column.to_pylist()]
                columns.append(pa.chunked_array([pa.array(digits, pa.string())]))
            elif name in self.units:
                columns.append(_spelled(column, self.units[name]))
            elif pa.types.is_duration(column.type):
                columns.append(column.cast(pa.int64()))
            else:
                (plain,) = without_nesting(pa.table({name: column}), ignore).columns
                simple = pa.types.is_integer(plain.type) or pa.types.is_boolean(plain.type)
                columns.append(plain if simple else as_text(plain))
        return pa.Table.from_arrays(columns, names=names)


def _dumped(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def _is_loose(field: Field, kind: pa.DataType) -> bool:
    """Tell whether values that a column's field allows may be none of its type: codes are, but for nested ones, and so
    is JSON of the schema seen.
    """
    if isinstance(field, TextField):
        return field.language != "json" or not fits_json(kind, field.json_schema or {"type": "null"})
    return isinstance(field, CodeField | IdentifierField) and bool(pa.types.is_nested(kind))


def _is_text(kind: pa.DataType) -> bool:
    """Tell whether every text is of the type."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_moment(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_time(kind) or pa.types.is_date(kind))


def _unit(texts: pa.ChunkedArray) -> Unit | None:
    text = next((text for text in texts.to_pylist() if text is not None), None)
    if text is None:
        return None
    parts = re.search(r"\.(\d+)", text)
    if parts is None:
        return "s" if ":" in text else "day"
    return _UNITS.get(len(parts[1]), "ns")


def _spelled(column: pa.ChunkedArray, unit: Unit) -> pa.ChunkedArray:
    if pa.types.is_date(column.type) or unit == "day":
        return column.cast(pa.date32(), safe=False).cast(pa.string())
    if pa.types.is_time(column.type):
        return column.cast(pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit), safe=False).cast(pa.string())
    return column.cast(pa.timestamp(unit, column.type.tz), safe=False).cast(pa.string())
