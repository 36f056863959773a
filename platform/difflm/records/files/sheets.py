"""Workbooks: a sheet of an Excel or OpenDocument file as a typed table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date, datetime, time, timedelta
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa

from difflm.errors import ConfigError, DataError
from difflm.records import workbook_process
from difflm.records.files.compression import Expansion
from difflm.records.files.remedies import setting
from difflm.records.notices import Notice, NoticeCode, Reporter
from difflm.records.workbook_process import Cell

_OF_THE_INTERPRETER = 512 * 2**20
"""Address space in bytes that a process has before it reads anything."""


def read_sheet(data: bytes, expansion: Expansion, *, sheet: str | None, skip: int | None, report: Reporter) -> pa.Table:
    """Read a sheet: the one of that name, or the first with a table. Its first row of names is the header.

    Raises:
        DataError: it is no workbook, has no table, unpacks to too much, or the library that reads workbooks is not
            installed.
        ConfigError: it has no sheet of that name.
    """
    path = expansion.path
    if find_spec("python_calamine") is None:
        raise DataError(
            f"{path}: reading workbooks needs another library; install it with pip install 'difflm[excel]', or save "
            "the sheet as CSV"
        )
    names, name, found = _read_apart(data, expansion, sheet)
    if sheet is not None and sheet not in names:
        raise ConfigError(f"sheet: {path} has no sheet {sheet!r}; it has {', '.join(map(repr, names))}")
    if len(found) < 2:
        raise DataError(f"{path}: no sheet has a header and a row below; give a workbook with a table")
    if sheet is None and len(names) > 1:
        others = ", ".join(repr(other) for other in names if other != name)
        _tell(None, "sheet", f"sheet {name!r} is read, and not {others}; {setting('sheet', names[-1])} for one", report)
    return _table(found, path, skip, report)


def _read_apart(data: bytes, expansion: Expansion, sheet: str | None) -> tuple[list[str], str, list[list[Cell]]]:
    """Return the names of a workbook's sheets, the chosen one and its rows, as a process of its own reads them."""
    limit = expansion.most + _OF_THE_INTERPRETER
    command = [sys.executable, "-P", workbook_process.__file__, json.dumps([limit, sheet])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    ended = subprocess.run(command, input=data, capture_output=True, env=environment, check=False)
    if ended.returncode == workbook_process.MEMORY or b"memory allocation" in ended.stderr:
        raise expansion.error()
    said = json.loads(ended.stdout, object_hook=workbook_process.unmarked) if ended.returncode == 0 else {}
    if "rows" not in said:
        reason = said.get("fault") or f"what reads it ended with status {ended.returncode}"
        raise DataError(f"{expansion.path}: not a workbook ({reason}); is it complete and what its name says?")
    return said["names"], said["name"], said["rows"]


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
