"""Workbooks: a sheet of an Excel or OpenDocument file as a typed table."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from difflm.errors import ConfigError, DataError
from difflm.records.files.remedies import setting
from difflm.records.notices import Notice, NoticeCode, Reporter

Cell = str | int | float | bool | datetime | date | time | timedelta | None


def read_sheet(data: bytes, path: Path, *, sheet: str | None, skip: int | None, report: Reporter) -> pa.Table:
    """Read a sheet: the one of that name, or the first with a table. Its first row of names is the header.

    Raises:
        DataError: it is no workbook, has no table, or the library that reads workbooks is not installed.
        ConfigError: it has no sheet of that name.
    """
    try:
        from python_calamine import CalamineError, CalamineWorkbook
    except ImportError as error:
        raise DataError(
            f"{path}: reading workbooks needs another library; install it with pip install 'difflm[excel]', or save "
            "the sheet as CSV"
        ) from error
    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(data))
        names = list(workbook.sheet_names)
        name, found = _chosen(workbook, names if sheet is None else [one for one in names if one == sheet])
    except (CalamineError, OSError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: not a workbook ({reason}); is it complete and what its name says?") from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # what calamine does not foresee in a damaged file
            raise DataError(f"{path}: not a workbook that can be read; is it complete?") from error
        raise
    if sheet is not None and sheet not in names:
        raise ConfigError(f"sheet: {path} has no sheet {sheet!r}; it has {', '.join(map(repr, names))}")
    if len(found) < 2:
        raise DataError(f"{path}: no sheet has a header and a row below; give a workbook with a table")
    if sheet is None and len(names) > 1:
        others = ", ".join(repr(other) for other in names if other != name)
        _tell(None, "sheet", f"sheet {name!r} is read, and not {others}; {setting('sheet', names[-1])} for one", report)
    return _table(found, path, skip, report)


def _chosen(workbook: Any, names: list[str]) -> tuple[str, list[list[Cell]]]:
    """Return the first of these sheets that has a header and a row, else the last."""
    name, found = "", list[list[Cell]]()
    for name in names:
        found = _rows(workbook.get_sheet_by_name(name).to_python(skip_empty_area=True))
        if len(found) > 1:
            break
    return name, found


def _rows(cells: Sequence[Sequence[Any]]) -> list[list[Cell]]:
    """Return the rows that are not empty, without empty columns at the right; empty cells are None."""
    rows = [[None if cell == "" else cell for cell in row] for row in cells]
    rows = [row for row in rows if any(cell is not None for cell in row)]
    width = max((place + 1 for row in rows for place, cell in enumerate(row) if cell is not None), default=0)
    return [(row + [None] * width)[:width] for row in rows]


def _table(rows: list[list[Cell]], path: Path, skip: int | None, report: Reporter) -> pa.Table:
    place = _header_place(rows) if skip is None else min(skip, len(rows) - 1)
    if place and skip is None:
        message = f"{place} rows above the header are left out; if that is wrong, {setting('skip', 0)}"
        _tell(None, "preamble", message, report, place)
    names = ["" if cell is None else _text(cell) for cell in rows[place]]
    below = [row for row in rows[place + 1 :] if row != rows[place]]
    if not below:
        raise DataError(f"{path}: no row below the header; give a table with at least one row")
    columns = [_column(name, [row[at] for row in below], report) for at, name in enumerate(names)]
    return pa.Table.from_arrays(columns, names=names)


def _header_place(rows: list[list[Cell]]) -> int:
    """Return the first row in which all, or all but one, cells are distinct texts; 0 where there is none."""
    for place, row in enumerate(rows[:50]):
        texts = [cell for cell in row if isinstance(cell, str)]
        if len(texts) >= max(1, len(row) - 1) and len(set(texts)) == len(texts):
            return place
    return 0


def _column(name: str, values: list[Cell], report: Reporter) -> pa.Array:
    """Type a column by its values; whole numbers are stored as floats, and are no fractions."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and kinds:
        whole = all(value is None or (float(value).is_integer() and abs(value) < 2**53) for value in _numbers(values))
        if whole:
            return pa.array([None if value is None else int(value) for value in _numbers(values)], pa.int64())
        return pa.array([None if value is None else float(value) for value in _numbers(values)], pa.float64())
    known: dict[type, pa.DataType] = {
        bool: pa.bool_(), str: pa.string(), date: pa.date32(), datetime: pa.timestamp("us"), time: pa.time64("us"),
        timedelta: pa.duration("us"),
    }  # fmt: skip
    if len(kinds) == 1 and (kind := known.get(next(iter(kinds)))) is not None:
        return pa.array(values, kind)
    if kinds == {date, datetime}:
        moments = [_moment(value) for value in values]
        return pa.array(moments, pa.timestamp("us"))
    if kinds:
        listed = ", ".join(sorted(kind.__name__ for kind in kinds))
        _tell(name, "mixed", f"{listed} are kept as text", report, len(values))
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _numbers(values: list[Cell]) -> list[float | int | None]:
    return [value if isinstance(value, int | float) else None for value in values]


def _moment(value: Cell) -> datetime | None:
    if isinstance(value, datetime):
        return value
    return datetime(value.year, value.month, value.day) if isinstance(value, date) else None


def _text(value: Cell) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value)


def _tell(name: str | None, code: NoticeCode, message: str, report: Reporter, count: int = 1) -> None:
    report(Notice(column=name, code=code, count=count, message=message))
