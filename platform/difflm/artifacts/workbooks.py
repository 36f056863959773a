"""Workbooks: tables as a sheet of an .xlsx or .ods file, each cell of the type that its column has.

Texts are texts, whatever they begin with: a spreadsheet runs none of them as a formula, and keeps zeros in front.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

from difflm.artifacts.opendocument import DocumentPage
from difflm.errors import DataError
from difflm.extras import optional
from difflm.spelled_numbers import PRINTED, printer

if TYPE_CHECKING:
    import pyarrow as pa

WORKBOOKS: Final = ("xlsx", "ods")
"""The formats, which hold one file only and no parts of a data set."""
MAX_SHEET_ROWS: Final = 1_048_576
_MAX_COLUMNS, _MAX_CHARACTERS, _MAX_TITLE = 16_384, 32_767, 31
_UNWRITABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\r\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_NO_TITLE: Final = re.compile(r"[\\*?:/\[\]\x00-\x1f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """How a sheet is laid out: what it is called, how many rows and columns are empty before the table, what stands
    above columns that are called something else than their names, and by column its number format (a code, or the
    number of one that every spreadsheet has) and what makes cells out of its texts.
    """

    title: str = "Sheet1"
    top: int = 0
    left: int = 0
    heads: Mapping[str, Any] = field(default_factory=dict)
    formats: Mapping[str, str | int] = field(default_factory=dict)
    cells: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)


class Page(Protocol):
    """A sheet that is being written, row by row."""

    def append(self, values: Sequence[Any], formats: Sequence[str | None]) -> None:
        """Write a row: texts, numbers, truth values, moments, spans and None, each with the code of its format."""
        ...

    def save(self) -> None:
        """Write what is left of the file."""
        ...

    def drop(self) -> None:
        """Remove what was written for a file that will not be."""
        ...


@contextmanager
def sheet_writer(
    format_: str, sink: IO[bytes], schema: pa.Schema, shaped: Callable[[pa.Table], pa.Table], sheet: Sheet
) -> Iterator[Callable[[pa.Table], None]]:
    """Give a function that appends tables of a schema, `shaped` to the types of their source, to one sheet.

    Raises:
        ConfigError: the library that writes workbooks is not installed.
        DataError: more rows, columns or characters than a sheet can hold; names the remedy.
    """
    if sheet.left + len(schema) > _MAX_COLUMNS:
        raise DataError(f"{len(schema):,} columns: a sheet has at most {_MAX_COLUMNS:,}; write .csv or .parquet")
    title = _NO_TITLE.sub(" ", sheet.title)[:_MAX_TITLE] or "Sheet1"
    formats = [None] * sheet.left + [_format(sheet.formats.get(key)) for key in schema.names]
    page: Page = DocumentPage(sink, title, formats) if format_ == "ods" else _ExcelPage(sink, title)
    names = shaped(schema.empty_table()).column_names
    heads = [_cell(sheet.heads.get(key, name), name) for key, name in zip(schema.names, names, strict=True)]
    before: list[Any] = [None] * sheet.left
    row = sheet.top + 1

    def write(table: pa.Table) -> None:
        nonlocal row
        row += table.num_rows
        if row > MAX_SHEET_ROWS:
            raise DataError(f"a sheet has at most {MAX_SHEET_ROWS:,} rows; write .csv or .parquet, or fewer rows")
        made = shaped(table)
        columns = [
            _values(made.schema.field(place), column, sheet.cells.get(key))
            for place, (key, column) in enumerate(zip(table.column_names, made.columns, strict=True))
        ]
        for values in zip(*columns, strict=True):
            page.append(before + [_cell(value, name) for value, name in zip(values, names, strict=True)], formats)

    try:
        for _ in range(sheet.top):
            page.append([], [])
        page.append(before + heads, [None] * (sheet.left + len(heads)))
        yield write
    except BaseException:
        page.drop()
        raise
    page.save()


class _ExcelPage:
    """A sheet of an .xlsx file, as openpyxl writes it."""

    def __init__(self, sink: IO[bytes], title: str) -> None:
        with optional("excel", "writing a workbook"):
            from openpyxl import Workbook
            from openpyxl.cell import WriteOnlyCell

        self._sink, self._book, self._make = sink, Workbook(write_only=True), WriteOnlyCell
        self._page = self._book.create_sheet(title)

    def append(self, values: Sequence[Any], formats: Sequence[str | None]) -> None:
        self._page.append([self._cell(value, form) for value, form in zip(values, formats, strict=True)])

    def _cell(self, value: Any, number_format: str | None) -> Any:
        if value is None:
            return None
        if isinstance(value, str):
            value = _UNWRITABLE.sub(lambda found: f"_x{ord(found[0]):04X}_", value)
        cell = self._make(self._page, value)
        if isinstance(value, str):
            cell.data_type = "s"  # also of what begins with =
        if number_format is not None:
            cell.number_format = number_format
        return cell

    def save(self) -> None:
        self._book.save(self._sink)

    def drop(self) -> None:
        self._book.save(BytesIO())  # which removes the temporary file that it writes into


def _values(kind: pa.Field, column: pa.ChunkedArray, read: Callable[[str], Any] | None) -> list[Any]:
    """Return what stands in the cells of a column; numbers as CSV would print them."""
    import pyarrow as pa

    if pa.types.is_duration(column.type):
        column = column.cast(pa.duration("us"), safe=False)
    values: list[Any] = column.to_pylist()
    how = (kind.metadata or {}).get(PRINTED)
    if how is not None and pa.types.is_floating(column.type):
        spell = printer(how)
        return [None if value is None else float(spell(value)) for value in values]
    if read is not None:
        return [read(value) if isinstance(value, str) else value for value in values]
    return values


def _format(given: str | int | None) -> str | None:
    """Return the code of a number format."""
    if given is None:
        return None
    with optional("excel", "writing a workbook"):
        from openpyxl.styles.numbers import BUILTIN_FORMATS

    code: str | None = BUILTIN_FORMATS.get(given) if isinstance(given, int) else given
    return None if code == "General" else code


def _cell(value: Any, name: str) -> Any:
    """Return what a cell of a column can hold.

    Raises:
        DataError: a text is too long, or a number is none.
    """
    if value is not None and not isinstance(value, str | int | float):
        value = _plain(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"column {name!r}: {value} is no number that a cell holds; write .csv or .parquet")
    if isinstance(value, str) and len(value) > _MAX_CHARACTERS:
        raise DataError(
            f"column {name!r}: a text of {len(value):,} characters, and a cell holds {_MAX_CHARACTERS:,}; write "
            ".csv or .parquet"
        )
    return value


def _plain(value: Any) -> Any:
    """Return a value that a cell can hold: moments without their zone as text, what is nested or bytes as text."""
    import datetime as dt
    import json
    from decimal import Decimal

    if isinstance(value, dt.datetime | dt.time) and value.tzinfo is not None:
        return value.isoformat()
    if isinstance(value, dt.date | dt.datetime | dt.time | dt.timedelta | Decimal):
        return value
    if isinstance(value, bytes):
        return value.hex()
    return json.dumps(value, ensure_ascii=False, default=str)
