"""Formats: tables written as Parquet, JSON lines, CSV or Arrow IPC, the same rows as the same bytes, and read again."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from difflm.artifacts.workbooks import WORKBOOKS, Sheet, sheet_writer
from difflm.errors import DataError
from difflm.spelled_numbers import PRINTED, printer

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import pyarrow as pa
    import pyarrow.parquet as pq

Write = Callable[["pa.Table"], None]


class Form(Protocol):
    """The form of a source, in which rows are written where the format can hold it; see `SourceForm` of the records."""

    def dumped(self) -> bytes:
        """Return the form as JSON, for another process."""
        ...

    def widened(self, table: pa.Table) -> pa.Table:
        """Add the columns of the source that have no value."""
        ...

    def shaped(self, table: pa.Table, format_: str) -> pa.Table:
        """Convert a table to the types and names of the source."""
        ...

    def csv_writer(
        self, sink: IO[bytes], schema: pa.Schema, guard: Callable[[str], str] | None
    ) -> AbstractContextManager[Write] | None:
        """Return what writes CSV as the source does, texts respelled by `guard`; None for the usual way."""
        ...

    def sheet(self) -> Mapping[str, Any]:
        """Return how a sheet of the source is laid out: the arguments of `Sheet`."""
        ...

    def json_rows(self, table: pa.Table) -> Iterator[dict[str, Any]]:
        """Yield rows as what the source has in an object."""
        ...

    def parsed(self, content: bytes, format_: str, schema: pa.Schema) -> pa.Table | None:
        """Read a whole file of this form; None where it is of the usual one."""
        ...


FORMATS = ("parquet", "jsonl", "csv", "arrow")
"""Formats of parts; one file may also be a workbook."""
FILE_FORMATS = (*FORMATS, *WORKBOOKS)
_BOOLEANS = {True: "true", False: "false"}


def encode_table(table: pa.Table, format_: str, *, safe_csv: bool = False, form: Form | None = None) -> bytes:
    """Write a whole table as the bytes of one file of a format in FORMATS; the options are those of `table_writer`."""
    sink = io.BytesIO()
    with table_writer(format_, sink, table.schema, safe_csv=safe_csv, form=form) as write:
        write(table)
    return sink.getvalue()


def decode_table(content: bytes, format_: str, schema: pa.Schema) -> pa.Table:
    """Read the table of a whole file that `encode_table` made of a table of this schema."""
    import pyarrow as pa

    match format_:
        case "parquet":
            import pyarrow.parquet as pq

            return pq.read_table(pa.BufferReader(content))
        case "arrow":
            return pa.ipc.open_file(content).read_all()
        case "csv":
            import pyarrow.csv as arrow_csv

            types = {field.name: field.type for field in schema}
            convert = arrow_csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True)
            parse = arrow_csv.ParseOptions(newlines_in_values=True)
            return arrow_csv.read_csv(pa.BufferReader(content), parse_options=parse, convert_options=convert)
        case "jsonl":
            import pyarrow.json as arrow_json

            if not content:
                return schema.empty_table()
            block = arrow_json.ReadOptions(block_size=len(content) + 1)  # a record may not be longer than a block
            parse = arrow_json.ParseOptions(explicit_schema=schema)
            return arrow_json.read_json(pa.BufferReader(content), read_options=block, parse_options=parse)
        case _:
            raise ValueError(f"unknown format {format_!r}")


@contextmanager
def table_writer(
    format_: str, sink: IO[bytes], schema: pa.Schema, *, safe_csv: bool = False, form: Form | None = None
) -> Iterator[Write]:
    """Give a function that appends tables of one schema to ``sink``; a format's ending is written on leaving.

    CSV has one line of column names, nothing for a missing value, and true and false for booleans; numbers are printed
    as the column's metadata `PRINTED` says, by default so that they read back. JSON lines keep missing values as null.
    The sink stays open. A workbook has one sheet, and is written whole on leaving.

    With `safe_csv` texts that a spreadsheet would run get an apostrophe in front; the other formats stay as they are.
    Such a file gives other texts when it is read again, so it is for people and no default.

    With a `form` rows are written as the source of the table has them: its types, its dialect of CSV.
    """
    if form is not None:
        with _formed(format_, sink, form.widened(schema.empty_table()).schema, form, safe_csv=safe_csv) as write:
            yield lambda table: write(form.widened(table))
        return
    match format_:
        case "parquet":
            with _parquet(sink, schema) as parquet:
                yield lambda table: parquet.write_table(table)
        case "arrow":
            import pyarrow as pa

            with pa.ipc.new_file(sink, schema) as arrow:
                yield lambda table: arrow.write_table(table)
        case "csv":
            with _text(sink) as lines:
                writer = csv.writer(_Lines(lines), lineterminator=_QUOTED_END)
                writer.writerow(map(harmless, schema.names) if safe_csv else schema.names)
                yield lambda table: writer.writerows(_cells(table, safe=safe_csv))
        case "jsonl":
            with _text(sink) as lines:
                yield lambda table: lines.writelines(map(_json_line, table.to_pylist()))
        case "xlsx" | "ods":
            with sheet_writer(format_, sink, schema, lambda table: table, Sheet()) as write:
                yield write
        case _:
            raise ValueError(f"unknown format {format_!r}")


def _parquet(sink: IO[bytes], schema: pa.Schema) -> pq.ParquetWriter:
    """Begin a Parquet file. Raises DataError for types that Parquet lacks and Arrow has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetWriter(sink, schema)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk
        reason = " ".join(str(error).split())[:150]
        raise DataError(f"Parquet has no type of a column ({reason}); write .arrow, .csv or .jsonl") from error


@contextmanager
def _formed(format_: str, sink: IO[bytes], schema: pa.Schema, form: Form, *, safe_csv: bool) -> Iterator[Write]:
    if format_ == "csv" and (own := form.csv_writer(sink, schema, harmless if safe_csv else None)) is not None:
        with own as write:
            yield write
    elif format_ == "jsonl":
        with _text(sink) as lines:
            yield lambda table: lines.writelines(map(_json_line, form.json_rows(table)))
    elif format_ in WORKBOOKS:
        sheet = Sheet(**form.sheet())
        with sheet_writer(format_, sink, schema, lambda table: form.shaped(table, format_), sheet) as write:
            yield write
    else:
        shaped = form.shaped(schema.empty_table(), format_).schema
        with table_writer(format_, sink, shaped, safe_csv=safe_csv) as write:
            yield lambda table: write(form.shaped(table, format_))


_QUOTED_END = "\r\n"  # of a line, as csv sees it: it quotes a text that holds one of these characters


@dataclass(frozen=True, slots=True)
class _Lines:
    """Where csv writes line by line; each ends in a line feed alone."""

    lines: IO[str]

    def write(self, line: str) -> None:
        self.lines.write(line.removesuffix(_QUOTED_END) + "\n")


@contextmanager
def _text(sink: IO[bytes]) -> Iterator[IO[str]]:
    text = io.TextIOWrapper(cast("io.BytesIO", sink), encoding="utf-8", newline="")
    yield text
    text.detach()  # flushes, and leaves the sink open


def _json_line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _cells(table: pa.Table, *, safe: bool) -> Iterator[tuple[Any, ...]]:
    import pyarrow as pa

    columns = []
    for field, column in zip(table.schema, table.columns, strict=True):
        values = column.to_pylist()
        how = (field.metadata or {}).get(PRINTED)
        if how is not None and pa.types.is_floating(column.type):
            spell = printer(how)
            values = [None if value is None else spell(value) for value in values]
        elif pa.types.is_boolean(column.type):
            values = [_BOOLEANS.get(value) for value in values]
        elif safe:
            values = [harmless(value) if isinstance(value, str) else value for value in values]
        columns.append(values)
    return zip(*columns, strict=True)


_BLANK = " \u00a0\ufeff\u200b\u200c\u200d\u2060"
_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"  # also as wide as East Asian letters
_RUN = re.compile(rf"[{_BLANK}]*[{_SIGNS}\t\r\n]")
_LATER = re.compile(rf"([,;\t\r\n][{_BLANK}]*)(?=[{_SIGNS}])")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


def harmless(text: str) -> str:
    """Return a text that no spreadsheet runs as a formula (OWASP, CSV injection); what is a number stays one.

    Also behind a comma, a semicolon, a tab or a line break, where a spreadsheet may begin another cell.
    """
    if _NUMBER.fullmatch(text):
        return text
    begins = "'" if _RUN.match(text) else ""
    return begins + _LATER.sub(_APART, text)


_APART = r"\1'"
