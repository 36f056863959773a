"""Samples: the first rows of a delimited text, cell by cell, with what is quoted, to find out its layout."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from difflm.records.limits import MAX_COLUMNS, refuse_wide

_FIRST_LINE = re.compile(r"\s*([^\r\n]*)")
_SAMPLE = 2**18
_SAMPLE_ROWS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the sample: its cells, which of them are quoted, and where it begins and ends in the sample."""

    cells: tuple[str, ...]
    quoted: tuple[bool, ...]
    start: int
    stop: int

    @property
    def blank(self) -> bool:
        return len(self.cells) == 1 and not self.cells[0].strip()

    @property
    def filled(self) -> int:
        return sum(bool(cell.strip()) for cell in self.cells)


def sample_of(text: bytes) -> str:
    """Return the first lines of a text, whole ones, or its first line where that is a long one."""
    if len(text) <= _SAMPLE:
        return text.decode(errors="replace")
    end = max(text.rfind(b"\n", 0, _SAMPLE), text.rfind(b"\r", 0, _SAMPLE))
    if end < 0:
        found = re.compile(rb"[\r\n]").search(text, _SAMPLE)
        end = len(text) if found is None else found.start()
    return text[: end + 1].decode(errors="replace")


def sampled(body: str, delimiter: str, quote: str) -> list[Row]:
    """Return the first rows of a text, up to one of more cells than a table has columns: nothing is known by it."""
    rows: list[Row] = []
    for row in _tokens(body, delimiter, quote):
        rows.append(row)
        if len(rows) == _SAMPLE_ROWS:
            break
    return rows


def rows_of(body: str, delimiter: str, quote: str, name: str) -> list[Row]:
    """Return the first rows that are not blank; raise DataError where the first of all is too wide for a table."""
    rows = sampled(body, delimiter, quote)
    if not rows:
        refuse_wide(MAX_COLUMNS + 1, name)
    return [row for row in rows if not row.blank]


def refuse_wide_line(body: str, delimiters: Iterable[str], name: str) -> None:
    """Refuse a header of far too many cells before they are made; so long a name it could not be either.

    Raises:
        DataError: it is one.
    """
    line = _FIRST_LINE.match(body)
    start, stop = (0, 0) if line is None else line.span(1)
    for delimiter in delimiters:
        if (divided := body.count(delimiter, start, stop)) >= MAX_COLUMNS:
            refuse_wide(divided + 1, name)


def _tokens(text: str, delimiter: str, quote: str) -> Iterator[Row]:
    """Yield the rows of a text. A quote that is not closed is a letter like others."""
    d, q = re.escape(delimiter), re.escape(quote)
    blanks = "" if delimiter == " " else "[ ]*"  # else each of a long run would be looked for from each of them
    cell = re.compile(
        rf"(?:{blanks}{q}(?P<inner>[^{q}]*(?:{q}{q}[^{q}]*)*){q}(?P<rest>[^{d}\r\n]*)|(?P<plain>[^{d}\r\n]*))"
        rf"(?P<end>{d}|\r\n|\n|\r|\Z)"
    )
    start = at = 0
    cells: list[str] = []
    quoted: list[bool] = []
    while at < len(text):
        found = cell.match(text, at)
        assert found is not None, "every text is a cell"
        inner = found["inner"]
        cells.append(found["plain"] if inner is None else inner.replace(quote * 2, quote) + found["rest"])
        quoted.append(inner is not None)
        at = found.end()
        if len(cells) > MAX_COLUMNS:
            return
        if found["end"] == delimiter and at < len(text):
            continue
        if found["end"] == delimiter:
            cells.append("")
            quoted.append(False)
        yield Row(cells=tuple(cells), quoted=tuple(quoted), start=start, stop=at)
        start, cells, quoted = at, [], []
