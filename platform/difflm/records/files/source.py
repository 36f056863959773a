"""The source's form: what a table's file was like, so that made rows can come back in the same form.

source.json, in prepared data and in a bundle: the dialect of a delimited file, the Arrow types of a typed one, which
columns of a JSON file are nested. It holds nothing of any row. Where it is missing, rows are written plainly.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Final, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from difflm.errors import DataError, SchemaError
from difflm.records.files.compression import Expansion
from difflm.records.files.dialects import Dialect
from difflm.records.files.json_files import JsonForm
from difflm.records.files.sheets import WorkbookForm
from difflm.records.files.typed_files import read_arrow, read_parquet
from difflm.records.files.typed_form import TypedForm
from difflm.records.kinds.columns import as_text
from difflm.records.notices import Reporter
from difflm.records.schema import RecordSchema
from difflm.regular_files import read_file

SOURCE_NAME = "source.json"
FORMAT_VERSION: Final = 1
_KEY = b"difflm:source"
TYPED = ("parquet", "arrow", "xlsx", "ods")
"""Formats that hold types."""

_FROZEN = ConfigDict(frozen=True, extra="forbid", strict=True)
_BY_SINGLE_ROWS: Final = {
    "dialect": ("escaped", "quoted", "quoted_missing", "missing", "places", "bare"),
    "json_": ("absent", "bare"),
    "workbook": ("formats", "mixed"),
}


class SourceForm(BaseModel):
    """The form of a source: one of the parts, by the kind of its file; of a workbook its types and its layout."""

    model_config = _FROZEN

    format_version: Literal[1] = FORMAT_VERSION
    dialect: Dialect | None = Field(default=None)
    typed: TypedForm | None = Field(default=None)
    json_: JsonForm | None = Field(default=None, alias="json")
    workbook: WorkbookForm | None = Field(default=None)
    empty: dict[str, str] = Field(default={}, description="columns without a value, by the column before, or none")

    @classmethod
    def of(cls, table: pa.Table) -> SourceForm | None:
        """Return the form of the file that a table was read from; None where it was not read from one."""
        text = (table.schema.metadata or {}).get(_KEY)
        return None if text is None else cls.model_validate_json(text)

    def on(self, table: pa.Table) -> pa.Table:
        """Attach the form to a table, where `of` finds it."""
        return table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: self.dumped()})

    def dumped(self) -> bytes:
        """Return the contents of source.json."""
        plain = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return json.dumps({"format_version": FORMAT_VERSION, **plain}, ensure_ascii=False).encode()

    @property
    def sha256(self) -> str:
        """The hash of the form, in hex."""
        return hashlib.sha256(self.dumped()).hexdigest()

    def kept(self, schema: RecordSchema, report: Reporter, *, columns: Sequence[str] = ()) -> SourceForm:
        """Return what of the form every made row has, as its columns were fitted; types that are given up are told.

        Those of the source's `columns` that were not fitted have no value: made rows have them so, in their place.
        """
        before = ("", *columns)
        fitted = set(schema.names)
        empty = {name: before[place] for place, name in enumerate(columns) if name not in fitted} or self.empty
        typed = None if self.typed is None else self.typed.kept(schema, report)
        return self.model_copy(update={"typed": typed, "empty": empty})

    def public(self) -> SourceForm:
        """Return what of the form no single row decides: how the file is laid out, and the types of its columns.

        The others are of columns of which every cell, or any, is spelled so: one row more, and they are not.
        """
        found: dict[str, Any] = {}
        for part, names in _BY_SINGLE_ROWS.items():
            form = getattr(self, part)
            if form is not None:
                usual = {name: type(form).model_fields[name].default for name in names}
                found[part] = form.model_copy(update=usual)
        return self.model_copy(update=found)

    def widened(self, table: pa.Table) -> pa.Table:
        """Add the columns of the source that have no value."""
        for name, before in self.empty.items():
            if name not in table.column_names:
                place = table.column_names.index(before) + 1 if before in table.column_names else 0
                table = table.add_column(place, name, pa.nulls(table.num_rows, pa.string()))
        return table

    @classmethod
    def read(cls, folder: Path) -> SourceForm | None:
        """Read the source.json of a folder; None where there is none.

        Raises:
            SchemaError: it is damaged or of a newer version.
        """
        path = folder / SOURCE_NAME
        if not path.is_file():
            return None
        try:
            return cls.parsed_json(read_file(path), str(path))
        except ValueError as error:
            raise SchemaError(f"{path}: {error}; write it again from the training split") from error

    @classmethod
    def parsed_json(cls, text: bytes | str, name: str) -> SourceForm:
        """Read what `dumped` wrote; `name` is for errors."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise SchemaError(
                f"{name}: {place}: {first['msg']}; this version reads form {FORMAT_VERSION}: prepare the data again, "
                "or write rows plainly with --dialect plain"
            ) from error

    def agreed(self, others: Sequence[SourceForm | None]) -> SourceForm:
        """Return the form of several files of one table: this one, but for spellings of columns that not all have."""
        if self.dialect is None:
            return self
        dialects = [self.dialect, *(other.dialect for other in others if other is not None and other.dialect)]
        places = dict(set.intersection(*(set(dialect.places.items()) for dialect in dialects)))
        quoted = tuple(name for name in self.dialect.quoted if all(name in one.quoted for one in dialects))
        gone = tuple(
            name for name in self.dialect.quoted_missing if all(name in one.quoted_missing for one in dialects)
        )
        update = {"places": places, "quoted": quoted, "quoted_missing": gone}
        return self.model_copy(update={"dialect": self.dialect.model_copy(update=update)})

    def shaped(self, table: pa.Table, format_: str) -> pa.Table:
        """Convert rows in canonical types to the types and names of the source, where the format holds them.

        Raises:
            DataError: a value that the source's type cannot hold; names the column and the remedy.
        """
        return table if self.typed is None or format_ not in TYPED else self.typed.shaped(table)

    def csv_writer(
        self, sink: IO[bytes], schema: pa.Schema, guard: Callable[[str], str] | None
    ) -> AbstractContextManager[Callable[[pa.Table], None]] | None:
        """Return what writes CSV as the source does; None where the source has no dialect of its own."""
        return None if self.dialect is None else self.dialect.writer(sink, schema, guard)

    def sheet(self) -> dict[str, Any]:
        """Return how the sheet of a workbook is laid out; nothing where the source is none."""
        return {} if self.workbook is None else self.workbook.sheet()

    def json_rows(self, table: pa.Table) -> Iterator[dict[str, Any]]:
        """Yield rows as the JSON of the source has them."""
        if self.json_ is None:
            yield from table.to_pylist()
        else:
            yield from map(self.json_.row, self.json_.spelled(table).to_pylist())

    def parsed(self, content: bytes, format_: str, schema: pa.Schema) -> pa.Table | None:
        """Read a whole file that was written in this form, its columns as `read_table` has them or as text; None where
        the form says nothing of the format.

        Raises:
            DataError: it cannot be read again.
        """
        try:
            return self._parsed(content, format_, schema)
        except (pa.ArrowException, ValueError, LookupError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"rows in the form of the source ({format_}) cannot be read again ({reason}); write them with "
                "--dialect plain"
            ) from error

    def _parsed(self, content: bytes, format_: str, schema: pa.Schema) -> pa.Table | None:
        names = self.widened(schema.empty_table()).column_names
        if format_ == "csv" and self.dialect is not None:
            return self.dialect.parsed(content, names).select(schema.names)
        if format_ == "jsonl" and self.json_ is not None:
            return self.json_.parsed(content, schema)
        if format_ in ("parquet", "arrow") and self.typed is not None:
            read = read_parquet if format_ == "parquet" else read_arrow
            table = read(content, Expansion.unbounded(Path(f"a part in {format_}")))
            return self.typed.canonical(table, names).select(schema.names)
        return None


def joined_tables(read: Sequence[tuple[Path, pa.Table]]) -> pa.Table:
    """Join the tables of several files in the order of the first one's columns, and its form.

    Raises:
        DataError: a file has other columns; names it and what differs.
    """
    (first, table), *others = read
    names = table.column_names
    for file, other in others:
        lacks = [name for name in names if name not in other.column_names]
        more = [name for name in other.column_names if name not in names]
        if lacks or more:
            parts = (("lacks", lacks), ("has besides", more))
            listed = " and ".join(f"{verb} {', '.join(map(repr, some[:5]))}" for verb, some in parts if some)
            raise DataError(f"{file}: {listed}, other columns than {first}; give files with the same columns")
    if not others:
        return table
    form = SourceForm.of(table)
    columns = [joined_columns([one.column(name) for _, one in read]) for name in names]
    whole = pa.Table.from_arrays(columns, names=names)
    return whole if form is None else form.agreed([SourceForm.of(other) for _, other in others]).on(whole)


def joined_columns(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    """Join columns of several files; where their types differ, as text, but for files without a value."""
    valued = [column for column in columns if column.null_count < len(column)] or columns
    if len({column.type for column in valued}) == 1:
        kind = valued[0].type
        columns = [
            column if column.type == kind else pa.chunked_array([pa.nulls(len(column), kind)]) for column in columns
        ]
    else:
        columns = [as_text(column) for column in columns]
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], columns[0].type)
