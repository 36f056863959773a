"""Frames: tables of pandas, polars and Arrow in, and made rows out as the same kind of frame with the same dtypes."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import pyarrow as pa

from difflm.errors import BundleError, DataError, is_fault
from difflm.records.arrow_messages import unpacked_size
from difflm.records.fields import BooleanField, CategoricalField, ConstantField, Field
from difflm.records.files.reading import ReadConfig, canonical_table, read_table, unique_names
from difflm.records.files.restoring import restored
from difflm.records.files.typed_files import becomes_digits
from difflm.records.frames.pandas_frames import arrow_of_pandas, empty_table, frame_like, known_categories
from difflm.records.frames.polars_frames import arrow_of_polars, known_types, polars_frame_like
from difflm.records.limits import refuse_wide
from difflm.records.nested_values import without_dictionaries, without_views
from difflm.records.notices import Reporter, ignore
from difflm.records.schema import RecordSchema
from difflm.regular_files import read_file
from difflm.telemetry import parse_json

if TYPE_CHECKING:
    import pandas as pd

Frame: TypeAlias = Any
"""A pandas or polars DataFrame, or a pyarrow Table; the libraries themselves are imported only where one was given."""

Library: TypeAlias = Literal["pandas", "polars", "arrow"]

TEMPLATE_NAME = "frame.json"
_FORMAT_VERSION = 1
_MAX_UNPACKED = 256 * 2**20  # bytes; a frame without rows has categories at most


def is_path(given: object) -> bool:
    """Return whether a table is given by the path of a file."""
    return isinstance(given, (str, Path))


def library_of(frame: Frame, *, name: str) -> Library:
    """Return the name of a frame's library.

    Raises:
        DataError: it is none of pandas, polars and Arrow; the message begins with ``name``.
    """
    if isinstance(frame, pa.Table):
        return "arrow"
    for kind in type(frame).__mro__:  # a subclass, such as geopandas', is such a frame too
        found = kind.__module__.split(".")[0]
        if found in ("pandas", "polars") and kind.__name__ == "DataFrame":
            return cast("Library", found)
    raise DataError(
        f"{name}: a {type(frame).__qualname__} is no table; give a pandas or polars DataFrame, a "
        "pyarrow Table, or the path of a file"
    )


def arrow_of(frame: Frame, *, name: str) -> pa.Table:
    """Convert a frame to Arrow, its index left out.

    Raises:
        DataError: it has no rows or columns, two columns share a name, or a column mixes types; the message begins with
            ``name`` and says which column and what to do.
    """
    match library_of(frame, name=name):
        case "arrow":
            table = frame
            _refuse_unmade(frame.schema, name)
        case "polars":
            table = arrow_of_polars(frame, name)
        case "pandas":
            table = arrow_of_pandas(frame, name)
    refuse_wide(table.num_columns, name)
    repeated = sorted(column for column, times in Counter(table.column_names).items() if times > 1)
    if repeated:
        raise DataError(f"{name}: two columns are called {repeated[0]!r}; rename one of them")
    if table.num_rows == 0 or table.num_columns == 0:
        raise DataError(
            f"{name}: {table.num_rows} rows, {table.num_columns} columns; give a table with at least one row"
        )
    return table


def _refuse_unmade(schema: pa.Schema, name: str) -> None:
    for field in schema:
        try:
            pa.schema([field]).empty_table()
        except NotImplementedError as error:
            raise DataError(
                f"{name}: column {field.name!r} is of the type {field.type}, which no table file has; cast or drop it"
            ) from error


def to_table(
    given: Frame | str | Path, config: ReadConfig | None = None, *, name: str = "table", report: Reporter = ignore
) -> pa.Table:
    """Read a table from a path, as `read_table` does, or from a frame, just as a Parquet file of it would be read.

    Raises:
        DataError: it is no table, cannot be read, or has no rows; the message begins with the path or with ``name``.
        ConfigError: ``config`` names a column that is not there.
    """
    if is_path(given):
        return read_table(given, config, report=report)
    return canonical_table(arrow_of(given, name=name), config or ReadConfig(), name=name, report=report)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTemplate:
    """The kind of a frame: its library, its columns and their dtypes, as a frame without rows in Arrow's IPC form; and
    which of its columns are bytes that are kept as hexadecimal digits, by place, where that is known.
    """

    library: Library
    empty: bytes
    digits: tuple[int, ...] | None = None

    @classmethod
    def of(cls, frame: Frame, *, name: str = "table", table: pa.Table | None = None) -> FrameTemplate:
        """Remember the kind of a frame, categories included, and none of its rows; `table` is the frame in Arrow."""
        library = library_of(frame, name=name)
        columns = (arrow_of(frame, name=name) if table is None else table).columns
        sink = io.BytesIO()
        match library:
            case "polars":
                frame.clear().write_ipc_stream(sink)
            case "pandas":
                _write_stream(sink, empty_table(frame))
            case "arrow":  # neither a slice, which keeps what its texts view, nor what the table is told to be about
                plain = [pa.field(field.name, field.type, field.nullable) for field in frame.schema]
                _write_stream(sink, pa.schema(plain).empty_table())
        digits = tuple(place for place, column in enumerate(columns) if becomes_digits(column))
        return cls(library=library, empty=sink.getvalue(), digits=digits)

    def kept(self, schema: RecordSchema) -> FrameTemplate:
        """Return what of the template a bundle may tell: of categories those that the schema lists.

        Others may be of one row, or of none. Rows that are made have theirs all the same, see `frame`.
        """
        listed = {field.name: set(_listed(field)) for field in schema.fields}
        sink = io.BytesIO()
        if self.library == "polars":
            names = unique_names(self._schema().names)
            sink.write(known_types(self.empty, [listed.get(name, set()) for name in names]))
        else:
            table = pa.ipc.open_stream(self.empty).read_all()
            for place, name in enumerate(unique_names(table.column_names)):
                if pa.types.is_dictionary(table.schema.field(place).type):
                    known = known_categories(table.column(place), listed.get(name, set()))
                    table = table.set_column(place, table.schema.field(place), known)
            _write_stream(sink, table)
        return replace(self, empty=sink.getvalue())

    def dumped(self) -> bytes:
        """Return the contents of a file frame.json, which `read` finds in a folder."""
        facts = {
            "format_version": _FORMAT_VERSION,
            "library": self.library,
            "empty": base64.b64encode(self.empty).decode(),
            **({"digits": self.digits} if self.digits is not None else {}),  # templates of before have none
        }
        return json.dumps(facts).encode()

    @classmethod
    def read(cls, folder: Path) -> FrameTemplate | None:
        """Read the frame.json of a folder; None where there is none.

        Raises:
            BundleError: the file is damaged or of a newer version.
        """
        path = folder / TEMPLATE_NAME
        if not path.is_file():
            return None
        try:
            facts = parse_json(read_file(path))
            version, library = facts["format_version"], facts["library"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{path}: not readable ({error}); remove the file to get pandas frames") from error
        if version != _FORMAT_VERSION or library not in ("pandas", "polars", "arrow"):
            raise BundleError(
                f"{path}: of format {version!r} for {library!r}, this version reads {_FORMAT_VERSION}; use the version "
                "that made it, or remove the file to get pandas frames"
            )
        try:
            digits = facts.get("digits")
            known = None if digits is None else tuple(int(place) for place in digits)
            template = cls(library=library, empty=base64.b64decode(facts["empty"]), digits=known)
            template._try()
        except BaseException as error:  # what bytes may mean is up to Arrow, pandas and polars, with their own errors
            if not is_fault(error):
                raise
            reason = " ".join(str(error).split())[:200]
            raise BundleError(f"{path}: not readable ({reason}); remove the file to get pandas frames") from error
        return template

    def _try(self) -> None:
        """Make a frame of no rows, so that what is wrong with a template is said before rows are drawn."""
        if (size := unpacked_size(self.empty)) > _MAX_UNPACKED:
            raise ValueError(f"a frame without rows that unpacks to {size:,} bytes")
        stored = pa.ipc.open_stream(self.empty).read_all()
        stored.validate(full=True)
        if stored.num_rows:
            raise ValueError(f"{stored.num_rows} rows, expected none")
        self.frame(pa.Table.from_arrays(stored.columns, unique_names(stored.column_names)))

    def frame(self, table: pa.Table) -> Frame:
        """Convert rows, as a bundle writes them, to a frame of this kind; unknown columns stay as they are.

        Raises:
            DataError: a value is none of its column's type in the frame.
        """
        try:
            match self.library:
                case "arrow":
                    return self._typed(table)
                case "polars":
                    return polars_frame_like(self.empty, self._typed(table))
                case "pandas":
                    return frame_like(pa.ipc.open_stream(self.empty).read_all(), self._typed(table))
        except BaseException as error:
            if not is_fault(error):
                raise
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"the rows make no {self.library} frame like the one that was learned ({reason}); write them to a file"
            ) from error

    def _schema(self) -> pa.Schema:
        return pa.ipc.open_stream(self.empty).schema

    def _typed(self, table: pa.Table) -> pa.Table:
        """Cast and rename the columns to the types and names of the source frame."""
        schema = self._schema()
        names_of = unique_names(schema.names)
        known = dict(zip(names_of, schema, strict=True))
        hexed = None if self.digits is None else {names_of[place] for place in self.digits if place < len(names_of)}
        columns, fields = [], []
        for name, column in zip(table.column_names, table.columns, strict=True):
            wanted = known.get(name)
            about = table.schema.field(name).metadata
            kind = column.type if wanted is None else wanted.type
            if self.library == "polars":
                kind = without_dictionaries(kind) if pa.types.is_nested(kind) else without_views(kind)
            made = restored(column, kind, digits=None if hexed is None else name in hexed, about=about)
            columns.append(made)
            nullable = wanted is None or wanted.nullable or made.null_count > 0
            fields.append(pa.field(name if wanted is None else wanted.name, made.type, nullable))
        return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def filled_in(frame: Frame, made: pa.Table, *, name: str) -> Frame:
    """Convert the completed rows of a frame to its kind, with its index where it is a pandas frame.

    Raises:
        DataError: a column has bytes that are no text, beside which text was filled in.
    """
    template = FrameTemplate.of(frame, name=name)
    for place in template.digits or ():
        column = made.column(place)
        if pa.types.is_string(column.type) and restored(column, pa.binary(), digits=True).type == column.type:
            shown = made.column_names[place]
            raise DataError(f"{name}: column {shown!r} holds bytes that are no text, and text is filled in; give text")
    filled = template.frame(made)
    return filled.set_axis(frame.index) if template.library == "pandas" else filled


def pandas_frame(table: pa.Table) -> pd.DataFrame:
    """Convert rows to a pandas frame, the form in which rows of a table from a file are returned."""
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _listed(field: Field) -> tuple[str, ...]:
    """Return the values that a field lists, as text."""
    match field:
        case CategoricalField():
            return field.values
        case BooleanField():
            return (field.true_text, field.false_text)
        case ConstantField():
            return (str(field.value),)
        case _:
            return ()


def _write_stream(sink: io.BytesIO, table: pa.Table) -> None:
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
        if table.num_rows == 0:  # a batch without rows carries the categories
            for batch in _batches_without_rows(table):
                writer.write_batch(batch)


def _batches_without_rows(table: pa.Table) -> list[pa.RecordBatch]:
    arrays = [column.combine_chunks() if column.num_chunks else pa.array([], column.type) for column in table.columns]
    whole = [array.chunk(0) if isinstance(array, pa.ChunkedArray) else array for array in arrays]
    return [pa.RecordBatch.from_arrays(whole, schema=table.schema)] if whole else []
