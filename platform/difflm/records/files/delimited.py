"""Delimited files: CSV and its relatives to a table of text, with the dialect that they are written in."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from difflm.errors import DataError
from difflm.records.files.aligned import aligned_rows, tell_one_column
from difflm.records.files.dialects import HEAD, Dialect, has_escaped_quotes, torn_quote, unescaped
from difflm.records.files.encodings import decoded
from difflm.records.files.layouts import Layout, Wanted, find_layout
from difflm.records.files.missing_words import MISSING
from difflm.records.files.remedies import setting
from difflm.records.notices import Notice, NoticeCode, Reporter

_LONGEST_EXCERPT = 60
_BLOCK = 2**24


class Quoted(NamedTuple):
    """The places of the columns whose values are always in quotes, and of those whose missing values are."""

    values: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delimited:
    """A table of text with the file's own column names, repeated ones included, and the dialect of the file.

    `quoted` are the places of the columns that the file quotes.
    """

    table: pa.Table
    dialect: Dialect
    quoted: Quoted = field(default_factory=Quoted)


def read_delimited(data: bytes, path: Path, wanted: Wanted, *, encoding: str | None, report: Reporter) -> Delimited:
    """Read all columns as text; cells without a value are empty text.

    Raises:
        DataError: an empty file, a row of another length, bytes of another encoding; names the row and the remedy.
        ConfigError: `encoding` is no encoding.
    """
    text = decoded(data, path, encoding, report)
    escaped = has_escaped_quotes(text.text)
    if escaped:
        text = replace(text, text=unescaped(text.text))
    layout = find_layout(text.text, path, wanted, report)
    if layout is None or wanted.delimiter == " ":
        rows = aligned_rows(text.text.decode(), path, report)
        if rows is not None:
            names, cells = (list(wanted.header), rows) if wanted.header is not None else (rows[0], rows[1:])
            blank = any(" " in cell or not cell for row in cells for cell in row)
            return Delimited(
                table=_of_rows(cells, names, path),
                dialect=Dialect(
                    delimiter="," if blank else " ",
                    header=wanted.header is None,
                    encoding=text.encoding,
                    mark=text.mark,
                ),
            )
    if layout is None:
        tell_one_column(text.text, report)
        layout = find_layout(text.text, path, _one_column(wanted), report)
        assert layout is not None, "a delimiter is given"
    table, dropped = _parsed(_spaces_taken(text.text, layout), layout, path, wanted, report)
    table = _without_odd_rows(table, layout, text.text, report)
    tell_torn(text.text, layout, report)
    dialect, quoted = dialect_of(layout, wanted, encoding=text.encoding, mark=text.mark, trailing=dropped)
    return Delimited(table=table, dialect=dialect.model_copy(update={"escaped": escaped}), quoted=quoted)


def dialect_of(layout: Layout, wanted: Wanted, *, encoding: str, mark: bool, trailing: bool) -> tuple[Dialect, Quoted]:
    """Return the dialect of a file of this layout, and the places of the columns that it quotes."""
    quoted, quoted_header = _quoted(layout, has_header=wanted.header is None)
    dialect = Dialect(
        delimiter=layout.delimiter,
        quote=layout.quote,
        line_end=layout.line_end,
        sep_line=layout.sep_line,
        header=wanted.header is None,
        unnamed_first=layout.unnamed_first,
        trailing=trailing,
        bare_header=trailing and layout.bare_header,
        spaced=layout.spaced,
        quoted_header=quoted_header,
        encoding=encoding,
        mark=mark,
    )
    return dialect, quoted


def _one_column(wanted: Wanted) -> Wanted:
    return Wanted(delimiter=wanted.usual, usual=wanted.usual, header=wanted.header, skip=wanted.skip)


def _spaces_taken(text: bytes, layout: Layout) -> bytes:
    """Return the text without blanks between a delimiter and a quote, before which quotes are letters."""
    body = text[layout.start :]
    if not has_spaced_quotes(body[: 2**16], layout):
        return body
    rows = csv.reader(
        io.StringIO(body.decode(), newline=""),
        delimiter=layout.delimiter,
        quotechar=layout.quote,
        skipinitialspace=True,
    )
    sink = io.StringIO(newline="")
    longest = csv.field_size_limit(max(len(body), csv.field_size_limit()))  # of this process
    try:
        csv.writer(sink, delimiter=layout.delimiter, quotechar=layout.quote, lineterminator="\n").writerows(rows)
    finally:
        csv.field_size_limit(longest)
    return sink.getvalue().encode()


def has_spaced_quotes(begin: bytes, layout: Layout) -> bool:
    """Tell whether blanks stand between delimiters and quotes at the beginning of the rows."""
    divider = re.escape(layout.delimiter) + " +" + re.escape(layout.quote)
    return any(any(row.quoted) for row in layout.rows) and re.search(divider.encode(), begin) is not None


_MOST_NOTES, _NOTES_WITHIN = 10, 2**14  # lines, and bytes from the end


@dataclass(frozen=True, slots=True)
class _BadRow:
    number: int
    cells: int
    text: str


def _parsed(text: bytes, layout: Layout, path: Path, wanted: Wanted, report: Reporter) -> tuple[pa.Table, bool]:
    """Parse the rows; return the table, and whether its last column was no column and is gone."""
    names = list(wanted.header) if wanted.header is not None else list(layout.names)
    keys = [str(position) for position in range(len(names))]
    bad: list[_BadRow] = []

    def on_bad(row: Any) -> str:
        if len(bad) < 10_000:
            bad.append(_BadRow(int(row.number or 0), int(row.actual_columns), str(row.text)))
        return "skip"

    def read_options(block: int) -> Any:
        return pa.csv.ReadOptions(
            column_names=keys,
            skip_rows_after_names=0 if wanted.header is not None else 1,
            use_threads=False,
            block_size=max(2**20, min(len(text) + 1, block)),
        )

    parse = pa.csv.ParseOptions(
        delimiter=layout.delimiter,
        quote_char=layout.quote,
        newlines_in_values=True,
        ignore_empty_lines=len(names) > 1,
        invalid_row_handler=on_bad,
    )
    convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(keys, pa.string()), strings_can_be_null=False)
    try:
        try:  # what is parsed at once is in memory twice
            table = pa.csv.read_csv(pa.BufferReader(text), read_options(_BLOCK), parse, convert)
        except pa.ArrowInvalid:  # also of a row that is longer
            bad.clear()
            table = pa.csv.read_csv(pa.BufferReader(text), read_options(2**30), parse, convert)
    except pa.ArrowInvalid as error:
        if not re.search(rb"[\r\n]", text):
            raise DataError(f"{path}: one line without an end; give a header line and at least one row") from error
        fault = str(error).splitlines()[0][:200].rstrip(".")
        if text.count(layout.quote.encode()) % 2:
            where = f"{path}, row {layout.lines_above + 1} or below"
            raise DataError(f"{where}: a quote is never closed; close it, or double quotes inside of cells") from error
        raise DataError(f"{path}: {fault}; mend the row, or {setting('delimiter', ';')} or what it is") from error
    if bad and _are_notes(bad, len(names), table.num_rows, text):
        lines = ", ".join(repr(one.text[:40]) for one in bad[:2])
        _tell("footer", f"{len(bad)} lines below the rows are left out ({lines}), as notes on them", len(bad), report)
    elif bad:
        raise DataError(_bad_rows(bad, len(names), table.num_rows, layout, path))
    _check_quotes(text, table, layout, path)
    if layout.trailing or (len(names) > 1 and not names[-1].strip() and _is_empty(table.column(len(names) - 1))):
        return table.select(range(len(names) - 1)).rename_columns(names[:-1]), True
    return table.rename_columns(names), False


def _are_notes(bad: Sequence[_BadRow], width: int, good: int, text: bytes) -> bool:
    """Tell whether odd rows are a few lines of one cell, below all others and a blank line: no cut file ends so."""
    first = re.escape(bad[0].text.encode())
    below = bad[0].number > good and len(bad) <= _MOST_NOTES and all(one.cells == 1 for one in bad)
    end = rb"(?:\r\n|\n|\r(?!\n))[ \t]*"
    return below and width > 2 and re.search(end + end + first, text[-_NOTES_WITHIN:]) is not None


def _is_empty(column: pa.ChunkedArray) -> bool:
    return len(column) > 0 and bool(pc.all(pc.equal(column, "")).as_py())


def _bad_rows(bad: Sequence[_BadRow], width: int, good: int, layout: Layout, path: Path) -> str:
    first = bad[0]
    row = first.number + layout.lines_above
    others = f", and {len(bad) - 1:,} more rows have other lengths" if len(bad) > 1 else ""
    excerpt = first.text if len(first.text) <= _LONGEST_EXCERPT else first.text[:_LONGEST_EXCERPT] + "..."
    remedies = ["put cells that hold a delimiter or a quote in quotes" if first.cells > width else "mend the row"]
    if first.text.count(layout.quote) % 2:
        remedies = ["close its quote, or double quotes inside of cells"]
    elif len(bad) == 1 and first.number > good and first.cells < width:
        remedies.insert(0, "it is the last one: is the file complete?")
    if len(bad) > good:
        remedies.append(setting("delimiter", ";" if layout.delimiter == "," else ",") + " or what divides the cells")
    elif first.number <= 3 and first.cells != width and not layout.lines_above:
        remedies.append(f"{setting('skip', 1)} if the header stands further down")
    found = f"expected {width} columns, got {first.cells} ({excerpt!r}){others}"
    return f"{path}, row {row}: {found}; {', or '.join(remedies)}"


def _check_quotes(text: bytes, table: pa.Table, layout: Layout, path: Path) -> None:
    """Refuse a quote that is never closed: what follows it would be one cell."""
    if text.count(layout.quote.encode()) % 2 == 0 or table.num_rows == 0:
        return
    for name, column in zip(table.column_names, table.columns, strict=True):
        if re.search(r"[\r\n]", column[-1].as_py()):
            row = table.num_rows + (1 if layout.names else 0) + layout.lines_above
            raise DataError(
                f"{path}, row {row}, column {int(name) + 1}: the quote that opens its cell is never closed "
                f"({column[-1].as_py()[:_LONGEST_EXCERPT]!r}); close it, or double quotes inside of cells"
            )


def _of_rows(rows: Sequence[Sequence[str]], names: Sequence[str], path: Path) -> pa.Table:
    if rows and len(rows[0]) != len(names):
        raise DataError(
            f"{path}: {len(rows[0])} columns, and header has {len(names)} names; {setting('header', ['name1'])} with "
            f"all {len(rows[0])} names"
        )
    columns = [pa.array([row[place] for row in rows], pa.string()) for place in range(len(names))]
    return pa.Table.from_arrays(columns, names=list(names))


def _without_odd_rows(table: pa.Table, layout: Layout, text: bytes, report: Reporter) -> pa.Table:
    """Leave out headers that stand among the rows, and rows of empty cells at the end; report both."""
    if layout.names and table.num_columns > 1:
        same = None
        for name, column in zip(table.column_names, table.columns, strict=True):
            equal = pc.is_in(column, value_set=pa.array([name, f"\ufeff{name}"]))  # the mark of a file put behind
            same = equal if same is None else pc.and_(same, equal)
            if not pc.any(same).as_py():
                same = None
                break
        if same is not None:
            count = pc.sum(same).as_py()
            _tell("repeated_header", f"the header stands {count} times among the rows, and is left out", count, report)
            table = table.filter(pc.invert(same))
    rows = table.num_rows
    while table.num_columns > 1 and rows > 0 and not any(column[rows - 1].as_py().strip() for column in table.columns):
        rows -= 1
    if rows < table.num_rows:
        count = table.num_rows - rows
        _tell("blank_rows", f"{count} rows of empty cells at the end are left out", count, report)
    if not text.endswith((b"\n", b"\r")) and len(text) >= 2**12:
        tell_cut_off(report)
    return table.slice(0, rows)


def tell_torn(text: bytes, layout: Layout, report: Reporter) -> None:
    """Report quotes that close before the end of their cell."""
    if layout.quote == '"' and (torn := torn_quote(text[layout.start :][:HEAD], layout.delimiter)) is not None:
        _tell("quotes", f"quotes that close before their cell ends are left out, as of {torn[:40]}", 1, report)


def tell_cut_off(report: Reporter) -> None:
    """Report that no line ends the last row."""
    message = "no line end after the last row: if the file was cut off, its last cell may not be whole"
    _tell("cut_off", message, 1, report)


def _quoted(layout: Layout, *, has_header: bool) -> tuple[Quoted, bool]:
    """Return the columns whose values are in quotes though they need none, and whether all names are.

    Missing values are in quotes where all that the sample has are, or all cells of the file.
    """
    below = layout.rows[1:] if has_header else layout.rows
    needed = re.compile(f"[{re.escape(layout.delimiter + layout.quote)}\r\n]")
    always, missing, unknown = list[int](), list[int](), list[int]()
    for place in range(len(layout.names) if layout.names else len(layout.rows[0].cells)):
        cells = [(row.cells[place], row.quoted[place]) for row in below if place < len(row.cells)]
        free = [quoted for cell, quoted in cells if cell not in MISSING and not needed.search(cell)]
        gone = [quoted for cell, quoted in cells if cell in MISSING]
        if free and all(free):
            always.append(place)
        if gone and all(gone):
            missing.append(place)
        elif not gone:
            unknown.append(place)
    if len({*always, *missing}) == len(layout.rows[0].cells):
        missing += unknown
    return Quoted(tuple(always), tuple(missing)), has_header and all(layout.rows[0].quoted)


def _tell(code: NoticeCode, message: str, count: int, report: Reporter) -> None:
    report(Notice(column=None, code=code, count=count, message=message))
