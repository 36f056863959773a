"""Layouts: how a delimited text is laid out, found in a sample of its first lines.

What divides the cells, what stands above the header, whether rows end in a delimiter, what is quoted. Everything that
is not the usual is reported with the setting that overrules it; where two readings are as good, none is taken.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

from difflm.errors import ConfigError, DataError
from difflm.records.files.aligned import has_number_column, is_number
from difflm.records.files.remedies import setting
from difflm.records.files.row_samples import Row, refuse_wide_line, rows_of, sample_of, sampled
from difflm.records.notices import Notice, NoticeCode, Reporter

Quote: TypeAlias = Literal['"', "'"]
LineEnd: TypeAlias = Literal["\n", "\r\n", "\r"]
DELIMITERS = (",", ";", "\t", "|")
_RARE_DELIMITERS = ("\x01", "\x1f", "~", "^")
"""Of databases, such as Hive; for what no other divides."""
_PREAMBLE_ROWS = 50
_FORMS = 3  # that dates of one column have at most
_LONGEST_NAME = 10_000
_SEP_LINE = re.compile(r'"?sep=([^\r\n])"?(?:\r\n|\n|\r)', re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a text is laid out. `start` is the byte at which the header begins, or the rows of a file without one.

    `lines_above` are before it. `trailing`: all rows end in a delimiter, but not a `bare_header`. `unnamed_first`: the
    header lacks a name. `spaced`: a blank follows every delimiter. `rows` are those of the sample.
    """

    delimiter: str
    quote: Quote = '"'
    line_end: LineEnd = "\n"
    start: int = 0
    lines_above: int = 0
    names: tuple[str, ...] = ()
    sep_line: bool = False
    trailing: bool = False
    bare_header: bool = False
    unnamed_first: bool = False
    spaced: bool = False
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the configuration says of a layout."""

    delimiter: str | None
    usual: str
    header: Sequence[str] | None
    skip: int | None


def find_layout(text: bytes, path: Path, wanted: Wanted, report: Reporter) -> Layout | None:
    """Find the layout of a text; None where nothing divides its cells, and blanks may.

    Raises:
        DataError: the text is empty, or has a header that cannot be its rows'; names the line and the remedy.
        ConfigError: there are no names, or the delimiter is none.
    """
    if wanted.header is not None and not wanted.header:
        raise ConfigError(f"header: no names for the columns of {path}; give all of them")
    sample = sample_of(text)
    found = _SEP_LINE.match(sample)
    sep_line, offset = found is not None and wanted.delimiter in (None, found[1]), 0
    if found is not None and sep_line:
        _check_delimiter(found[1], DataError, f"{path}, line 1: sep=")
        wanted, offset = replace(wanted, delimiter=found[1]), found.end()
    elif wanted.delimiter is not None:
        _check_delimiter(wanted.delimiter, ConfigError, "delimiter: ")
    body = sample[offset:]
    skipped = _skipped(body, wanted.skip or 0)
    body, offset = body[skipped:], offset + skipped
    if not body.strip():
        raise DataError(f"{path}: the file is empty; give a table with a header line and at least one row")
    if wanted.header is None:
        refuse_wide_line(body, (wanted.delimiter or wanted.usual, *DELIMITERS, *_RARE_DELIMITERS), str(path))
    quote: Quote = "'" if re.match(r"\s*'[^'\r\n]*'(?:[,;\t|]'[^'\r\n]*')+[ \t]*(?:[\r\n]|$)", body) else '"'
    delimiter = wanted.delimiter or _delimiter(body, wanted.usual, quote)
    if delimiter is None:
        return None
    if delimiter != wanted.usual and wanted.delimiter is None:
        message = f"cells are divided by {delimiter!r}; if that is wrong, {setting('delimiter', wanted.usual)}"
        _tell("delimiter", message, report)
    rows = rows_of(body, delimiter, quote, str(path))
    if wanted.header is not None:
        kept = Layout(delimiter=delimiter, quote=quote, line_end=_line_end(sample), sep_line=sep_line, rows=tuple(rows))
        start = len(sample[:offset].encode())
        return replace(kept, start=start, lines_above=_lines(sample[:offset]), spaced=_is_spaced(rows))
    place, width = _header_place(rows, path, wanted, report)
    begin = offset + rows[place].start
    layout = Layout(
        delimiter=delimiter,
        quote=quote,
        line_end=_line_end(sample),
        start=len(sample[:begin].encode()),
        lines_above=_lines(sample[:begin]),
        names=rows[place].cells,
        sep_line=sep_line,
        rows=tuple(rows[place:]),
    )
    _check_names(layout, path, report)
    return _with_odd_ends(layout, width, report)


def _check_delimiter(delimiter: str, kind: type[DataError | ConfigError], where: str) -> None:
    if not delimiter.isascii() or delimiter.isalnum() or delimiter in "\0\r\n\"'=+-@.":
        raise kind(
            f"{where}{delimiter!r} divides no cells; give one ASCII character that is no quote, letter, digit, point "
            "or sign that begins a formula, such as ';'"
        )


def _skipped(body: str, lines: int) -> int:
    """Return where the text goes on below so many lines."""
    if lines == 0:
        return 0
    ends = list(islice(re.finditer(r"\r\n|\n|\r", body), min(lines, len(body) + 1)))
    return ends[-1].end() if len(ends) == lines else len(body)


def _lines(text: str) -> int:
    return len(re.findall(r"\r\n|\n|\r", text))


def _line_end(sample: str) -> LineEnd:
    found = re.search(r"\r\n|\n|\r", sample)
    ends: dict[str, LineEnd] = {"\r\n": "\r\n", "\r": "\r"}
    return ends.get(found[0], "\n") if found else "\n"


def _width(rows: Sequence[Row]) -> tuple[int, float]:
    """Return the number of cells that most rows have, and the share of rows that have it; (1, 1.0) without a row."""
    counts = Counter(len(row.cells) for row in rows)
    if not counts:
        return 1, 1.0
    width, often = max(counts.items(), key=lambda item: (item[1], item[0]))
    return width, often / len(rows)


def _delimiter(body: str, usual: str, quote: str) -> str | None:
    """Return what divides most rows into the same number of cells, the usual character where others are no better."""
    best: tuple[tuple[bool, float, bool, int], str] | None = None
    for delimiter in dict.fromkeys((usual, *DELIMITERS)):
        rows = [row for row in sampled(body, delimiter, quote) if not row.blank]
        width, share = _width(rows)
        if width < 2:
            continue
        rank = (len(rows[0].cells) == width, share, delimiter == usual, width)
        if best is None or rank > best[0]:
            best = (rank, delimiter)
    first = next((line for line in body.splitlines() if line.strip()), "")
    if best is not None and (best[0][1] >= 0.5 or usual in first):
        return best[1]
    for delimiter in _RARE_DELIMITERS if best is None else ():
        rows = [row for row in sampled(body, delimiter, quote) if not row.blank]
        width, share = _width(rows)
        if width >= 2 and share > 0.99 and len(rows[0].cells) == width:
            return delimiter
    rows = [row for row in sampled(body, " ", quote) if not row.blank]
    width, share = _width(rows[1:])
    if width >= 2 and share > 0.99 and _is_divided_by_blanks(rows):
        return " "
    return None


def _is_divided_by_blanks(rows: Sequence[Row]) -> bool:
    """Tell columns of single blanks from texts of as many words: some column has numbers or quotes below its name."""
    if any(not cell for row in rows for cell in row.cells):
        return False
    first, width = rows[0], len(rows[-1].cells)
    if len(first.cells) not in (width, width - 1):
        return False
    quoted = sum(any(row.quoted) for row in rows)
    names = ("", *first.cells)[-width:]
    return quoted > 0.9 * len(rows) or has_number_column(names, [row.cells for row in rows[1:]])


def _header_place(rows: Sequence[Row], path: Path, wanted: Wanted, report: Reporter) -> tuple[int, int]:
    """Return which row of the sample is the header, and how many cells the rows below have."""
    (width, share), first = _width(rows), rows[0]
    lacks = len(first.cells) < width
    wide = width >= 3 or (width == 2 and len(rows) > 2 and not rows[1].filled)
    padded = wide and len(first.cells) == width and first.filled == 1 and bool(first.cells[0].strip())
    if wanted.skip is not None or share < 0.5 or not (lacks or padded):
        return 0, width
    lacks_one = len(first.cells) == width - 1 and all(len(row.cells) == width for row in rows[1:])
    if lacks_one and (_ends_empty(rows[1:]) or _has_row_names(rows[1:])):
        return 0, width
    for place, row in enumerate(rows[:_PREAMBLE_ROWS]):
        is_header = len(row.cells) == width and _is_header(row) and place > 0
        above = rows[:place]
        if is_header and (wide or _blank_line(above, row)) and (padded or _is_preamble(above, row)):
            lines = ", ".join(repr(one.cells[0][:40]) for one in above[:2])
            message = f"{place} lines above the header are left out ({lines}); if that is wrong, {setting('skip', 0)}"
            _tell("preamble", message, report, count=place)
            return place, width
        if len(row.cells) == width and not padded:
            break
    if not lacks:
        return 0, width
    raise DataError(
        f"{path}, row 1: has {len(first.cells)} cells ({_shown(first)}) and the rows below have {width} "
        f"({_shown(rows[1])}); mend the header, {setting('skip', 1)} where it is a title, or "
        f"{setting('header', [f'name{n}' for n in range(1, min(width, 3) + 1)])} with all {width} names"
    )


def _shown(row: Row) -> str:
    return repr(", ".join(row.cells)[:60])


def _is_header(row: Row) -> bool:
    named = [cell.strip() for cell in row.cells]
    filled = [cell for cell in named if cell]
    return len(filled) >= len(named) - 1 and len(set(filled)) == len(filled) and not any(map(is_number, filled))


def _is_preamble(above: Sequence[Row], header: Row) -> bool:
    """Titles are one cell wide, or a blank line follows them."""
    return all(len(row.cells) == 1 for row in above) or _blank_line(above, header)


def _blank_line(above: Sequence[Row], row: Row) -> bool:
    return bool(above) and above[-1].stop < row.start


def _ends_empty(rows: Sequence[Row]) -> bool:
    return all(not row.cells[-1].strip() for row in rows)


def _has_row_names(rows: Sequence[Row]) -> bool:
    """Tell whether the first cells name rows, as R writes them: 1, 2, 3, or texts in quotes, none twice."""
    names = [row.cells[0] for row in rows]
    counted = names == [str(number) for number in range(1, len(names) + 1)]
    return counted or (all(row.quoted[0] for row in rows) and len(set(names)) == len(names))


def _check_names(layout: Layout, path: Path, report: Reporter) -> None:
    longest = max(map(len, layout.names))
    if longest > _LONGEST_NAME:
        raise DataError(
            f"{path}, line {layout.lines_above + 1}: a column name of {longest:,} characters; is a quote not closed? "
            "mend the header"
        )
    numbers = sum(map(is_number, layout.names)) * 2 > len(layout.names)
    if len(layout.rows) > 1 and layout.names and (numbers or _is_row_among(layout.names, layout.rows[1:])):
        names = [f"name{number}" for number in range(1, min(3, len(layout.names)) + 1)]
        message = (
            f"the first row ({', '.join(layout.names)[:60]}) is taken as the header, though it looks like values; for "
            f"a file without a header {setting('header', names)} with all {len(layout.names)} names"
        )
        _tell("header", message, report)


def _is_row_among(names: Sequence[str], rows: Sequence[Row]) -> bool:
    """Tell whether a header could stand among the rows: numbers where they have numbers, dates where they have such,
    and words that they have as well.
    """
    alike = 0
    for place, name in enumerate(names):
        cells = [row.cells[place].strip() for row in rows if place < len(row.cells)]
        cells = [cell for cell in cells if cell]
        digits = [re.sub(r"\d", "9", cell) for cell in cells]
        if cells and all(map(is_number, cells)):
            fits = is_number(name)
        elif all("9" in form for form in digits) and len(set(digits)) <= _FORMS:
            fits = re.sub(r"\d", "9", name) in digits
        elif 2 * len(set(cells)) > len(cells):
            continue  # names of people, say: there is no telling
        else:
            fits = name in cells
        if not fits:
            return False
        alike += 1
    return alike >= 2 and 2 * alike >= len(names)


def _with_odd_ends(layout: Layout, width: int, report: Reporter) -> Layout:
    """Find columns that are none: a delimiter after the last cell, and names of rows without a name themselves."""
    names, below = layout.names, layout.rows[1:]
    if len(below) == 0:
        return layout
    if len(names) == width - 1 and all(len(row.cells) == width for row in below):
        if _ends_empty(below):
            _tell("delimiter", "a delimiter ends every row but the header, and is no column", report)
            return replace(layout, names=(*names, ""), trailing=True, bare_header=True)
        if _has_row_names(below):
            _tell("renamed", "the header has no name for the first column, that of the rows", report)
            return replace(layout, names=("", *names), unnamed_first=True)
    if len(names) == width and not names[-1].strip() and len(names) > 1 and _ends_empty(below):
        return replace(layout, trailing=True)
    if len(names) == width + 1 and not names[-1].strip() and all(len(row.cells) == width for row in below):
        return replace(layout, names=names[:-1])
    if _is_spaced(layout.rows):
        return replace(layout, spaced=True, names=(names[0], *(name.removeprefix(" ") for name in names[1:])))
    return layout


def _is_spaced(rows: Sequence[Row]) -> bool:
    """Tell whether a blank follows every delimiter."""
    return any(len(row.cells) > 1 for row in rows) and all(
        cell.startswith(" ") for row in rows for cell in row.cells[1:]
    )


def _tell(code: NoticeCode, message: str, report: Reporter, *, count: int = 1) -> None:
    report(Notice(column=None, code=code, count=count, message=message))
