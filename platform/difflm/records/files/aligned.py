"""Aligned texts: columns divided by blanks, or of a fixed width, as rows of cells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from difflm.errors import DataError
from difflm.records.files.remedies import setting
from difflm.records.limits import MAX_COLUMNS
from difflm.records.notices import Notice, Reporter

_SAMPLE_LINES = 200
_LONGEST_LINE = 2**17  # characters, that all columns of a fixed width have
_NUMBER = re.compile(r"[-+]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][-+]?\d+)?")
Cells = list[str]
_COLUMNS_OF_BLANKS = re.compile(r"\S {2,}\S")
_HEAD = 2**16


def is_number(text: str) -> bool:
    """Tell whether a cell looks like a number."""
    return _NUMBER.fullmatch(text.strip()) is not None


def has_number_column(names: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether some column has numbers in nearly every row, and none as its name."""
    if not rows:
        return False
    for place, name in enumerate(names):
        numbers = sum(place < len(row) and is_number(row[place]) for row in rows)
        if not is_number(name) and numbers >= 0.9 * len(rows):
            return True
    return False


def aligned_rows(text: str, path: Path, report: Reporter) -> list[Cells] | None:
    """Split the lines of a text whose columns are aligned; None where they are not.

    Raises:
        DataError: a line further down does not fit the columns of the first ones; names it.
    """
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    sample = [line for _, line in lines[:_SAMPLE_LINES]]
    if len(sample) < 3:
        return None
    for pattern in (r"[ \t]+", r"[ \t]{2,}"):
        if len(re.split(pattern, sample[0].strip(), maxsplit=MAX_COLUMNS)) > MAX_COLUMNS:
            continue
        rows = [re.split(pattern, line.strip()) for line in sample]
        width = len(rows[0])
        if width >= 2 and all(len(row) == width for row in rows) and has_number_column(rows[0], rows[1:]):
            _tell("columns are divided by blanks", report)
            return [_checked(re.split(pattern, line.strip()), width, path, number) for number, line in lines]
    starts = _starts(sample)
    if starts is None:
        return None
    _tell(f"columns begin at the characters {', '.join(str(start + 1) for start in starts)} of every line", report)
    return [_cut(line, starts, path, number) for number, line in lines]


def _checked(cells: Cells, width: int, path: Path, number: int) -> Cells:
    if len(cells) != width:
        raise DataError(
            f"{path}, line {number}: {len(cells)} cells, the lines above have {width}; mend the line, or "
            f"{setting('delimiter', ',')} or what divides the cells"
        )
    return cells


def _starts(lines: Sequence[str]) -> list[int] | None:
    """Find where columns of a fixed width begin: after blanks that all lines have in common, one name for each."""
    if any("\t" in line for line in lines) or (length := max(map(len, lines))) > _LONGEST_LINE:
        return None
    blank = [all(place >= len(line) or line[place] == " " for line in lines) for place in range(length)]
    starts = [place for place in range(length) if not blank[place] and (place == 0 or blank[place - 1])]
    rows = [_slices(line, starts) for line in lines]
    named = len(starts) >= 2 and all(rows[0]) and len(lines) >= 5
    return starts if named and has_number_column(rows[0], rows[1:]) else None


def _slices(line: str, starts: Sequence[int]) -> Cells:
    return [line[start:stop].strip() for start, stop in zip(starts, [*starts[1:], None], strict=True)]


def _cut(line: str, starts: Sequence[int], path: Path, number: int) -> Cells:
    for start in starts[1:]:
        if line[start - 1 : start].strip():
            raise DataError(
                f"{path}, line {number}: character {start} is {line[start - 1]!r}, where all lines above are blank "
                f"between two columns; mend the line, or {setting('delimiter', ',')} or what divides the cells"
            )
    return _slices(line, starts)


def _tell(message: str, report: Reporter) -> None:
    whole = f"{message}; if that is wrong, {setting('delimiter', ',')} or what divides the cells"
    report(Notice(column=None, code="delimiter", count=1, message=whole))


def tell_one_column(text: bytes, report: Reporter) -> None:
    """Report lines that may be rows of several cells, though nothing that is known divides them."""
    lines = [line for line in text[:_HEAD].decode(errors="replace").splitlines()[:-1] if line][:50]
    colons = {line.count(":") for line in lines}
    delimiter = ":" if len(colons) == 1 and 0 not in colons else " "
    if len(lines) > 2 and (delimiter == ":" or sum(map(bool, map(_COLUMNS_OF_BLANKS.search, lines))) > len(lines) / 2):
        what = "read as one column of text, for nothing divides all lines into cells alike"
        message = f"{what}; if {delimiter!r} does, {setting('delimiter', delimiter)}"
        report(Notice(column=None, code="delimiter", count=1, message=message))
