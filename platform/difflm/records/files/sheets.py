"""Workbooks: a sheet of an Excel or OpenDocument file as a typed table."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator

from difflm.errors import ConfigError, DataError
from difflm.records import workbook_process
from difflm.records.files.compression import Expansion
from difflm.records.files.remedies import setting
from difflm.records.notices import Notice, NoticeCode, Reporter
from difflm.records.workbook_process import Cell

_MOST_ROWS, _MOST_COLUMNS = 1_048_576, 16_384  # of a sheet, whatever writes it
_MOST_FORMATS = 2**16
_NO_XML = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_GENERAL = 0  # the number format of cells that have none
_READ: Final[Mapping[str, Callable[[str], int | float | date | time]]] = {
    "int": int,
    "float": float,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "time": time.fromisoformat,
}
"""What makes the cells of a type out of what `_text` writes for them."""
_OF_THE_INTERPRETER = 512 * 2**20
"""Address space in bytes that a process has before it reads anything."""


class WorkbookForm(BaseModel):
    """How a sheet is laid out: its name, where its header stands, and what its cells are and look like by column.

    `kind` is that of the file which can be written again: a workbook of another kind becomes an .xlsx.
    `heads` are headers that are no texts, `formats` number formats, and `mixed` the types that stand beside texts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    title: str
    kind: Literal["xlsx", "ods"] = "xlsx"
    top: int = Field(default=0, ge=0, lt=_MOST_ROWS)
    left: int = Field(default=0, ge=0, lt=_MOST_COLUMNS)
    heads: dict[str, int | float | bool | dict[str, Any]] = {}
    formats: dict[str, str | int] = {}
    mixed: dict[str, tuple[str, ...]] = {}

    @field_validator("heads")
    @classmethod
    def _heads_are_cells(cls, heads: dict[str, Any]) -> dict[str, Any]:
        for name, head in heads.items():
            try:
                cell = workbook_process.unmarked(head) if isinstance(head, dict) else head
            except (ValueError, TypeError, OverflowError):
                cell = head
            if isinstance(cell, dict) or not _is_writable(cell):
                raise ValueError(f"{name!r} is headed by {str(head)[:60]}, which is no cell")
        return heads

    @field_validator("formats")
    @classmethod
    def _formats_are_of_xml(cls, formats: dict[str, str | int]) -> dict[str, str | int]:
        for name, form in formats.items():
            if _NO_XML.search(form) if isinstance(form, str) else not 0 <= form < _MOST_FORMATS:
                raise ValueError(f"{name!r} has the number format {str(form)[:60]!r}, which is none")
        return formats

    def renamed(self, names: Mapping[str, str]) -> WorkbookForm:
        """Return the form of the columns that the table has, under the names that they have there."""
        maps = {key: getattr(self, key) for key in ("heads", "formats", "mixed")}
        update = {key: {new: kept[old] for old, new in names.items() if old in kept} for key, kept in maps.items()}
        return self.model_copy(update=update)

    def sheet(self) -> dict[str, Any]:
        """Return the layout for what writes sheets."""
        heads = {
            name: workbook_process.unmarked(head) if isinstance(head, dict) else head
            for name, head in self.heads.items()
        }
        cells = {name: partial(typed_cell, kinds=kinds) for name, kinds in self.mixed.items()}
        return {
            "title": self.title,
            "top": self.top,
            "left": self.left,
            "heads": heads,
            "formats": self.formats,
            "cells": cells,
        }


def _is_writable(cell: object) -> bool:
    """Tell whether a cell can be written: numbers have to be finite doubles."""
    try:
        return not isinstance(cell, int | float) or math.isfinite(float(cell))
    except OverflowError:
        return False


def typed_cell(text: str, kinds: Collection[str]) -> Cell:
    """Return the cell of one of these types that is kept as the text, or the text."""
    for kind, read in _READ.items():
        with suppress(ValueError, OverflowError):
            if kind in kinds and _text(cell := read(text)) == text:
                return cell
    return {"True": True, "False": False}.get(text, text) if "bool" in kinds else text


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSheet:
    """A sheet as a table, whose columns may have one name twice, and its layout, by the columns' places."""

    table: pa.Table
    form: WorkbookForm


def read_sheet(
    data: bytes, expansion: Expansion, *, sheet: str | None, skip: int | None, report: Reporter
) -> ReadSheet:
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
    said = _read_apart(data, expansion, sheet)
    names, name, found = said["names"], said["name"], said["rows"]
    if sheet is not None and sheet not in names:
        raise ConfigError(f"sheet: {path} has no sheet {sheet!r}; it has {', '.join(map(repr, names))}")
    if len(found) < 2:
        raise DataError(f"{path}: no sheet has a header and a row below; give a workbook with a table")
    if sheet is None and len(names) > 1:
        others = ", ".join(repr(other) for other in names if other != name)
        _tell(None, "sheet", f"sheet {name!r} is read, and not {others}; {setting('sheet', names[-1])} for one", report)
    if said["errors"]:
        message = f"{said['errors']:,} cells hold errors such as #N/A or #DIV/0!, and count as missing"
        _tell(None, "missing_word", message, report, said["errors"])
    place = _header_place(found, said["places"]) if skip is None else min(skip, len(found) - 1)
    table = _table(found, place, path, report, told=skip is None)
    form = WorkbookForm(
        title=name,
        kind=said["kind"],
        top=said["places"][place] if place < len(said["places"]) else place,
        left=said["left"],
        heads={str(at): _head(head) for at, head in enumerate(found[place]) if _is_own(head)},
        formats={
            str(at): form
            for letters, form in said["formats"].items()
            if (at := _place_of(letters) - said["left"]) in range(table.num_columns) and form != _GENERAL
        },
        mixed={
            str(at): tuple(sorted(kinds))
            for at in range(table.num_columns)
            if (kinds := _beside_texts([row[at] for row in found[place + 1 :]]))
        },
    )
    return ReadSheet(table=table, form=form)


def _is_own(head: Cell) -> bool:
    """Tell whether a header is no text, and can be written again."""
    return not isinstance(head, str | None) and _is_writable(head)


def _head(cell: Cell) -> int | float | bool | dict[str, Any]:
    """Return a header that is no text as JSON has it."""
    if isinstance(cell, bool | int | float):
        return int(cell) if isinstance(cell, float) and cell.is_integer() else cell
    assert not isinstance(cell, str | None), "a header of another type"
    return workbook_process.marked(cell)


def _place_of(letters: str) -> int:
    """Return the place of a column, from 0 for A; -1 where no sheet has it."""
    if not re.fullmatch(r"[A-Za-z]{1,3}", letters):
        return -1
    place = 0
    for letter in letters.upper():
        place = 26 * place + ord(letter) - 64
    return place - 1


def _beside_texts(values: Sequence[Cell]) -> set[str]:
    """Return the types of the other cells of a column with texts; none where a text looks like one of them."""
    kinds = {type(value).__name__ for value in values if value is not None}
    others = kinds - {"str"}
    others |= {"int"} if "float" in others else set()  # whole numbers are stored as floats
    if len(kinds) < 2 or kinds <= {"int", "float"} or kinds == {"date", "datetime"} or "timedelta" in kinds:
        return set()
    alike = (value for value in values if isinstance(value, str) and not isinstance(typed_cell(value, others), str))
    return set() if any(True for _ in alike) else others


def _read_apart(data: bytes, expansion: Expansion, sheet: str | None) -> dict[str, Any]:
    """Return what a process of its own reads: the names of a workbook's sheets, the chosen one, its rows and where
    they stand, and its number formats.
    """
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
    return {"formats": {}, "errors": 0, "kind": "xlsx", **said}


def _table(rows: list[list[Cell]], place: int, path: Path, report: Reporter, *, told: bool) -> pa.Table:
    if place and told:
        message = f"{place} rows above the header are left out; if that is wrong, {setting('skip', 0)}"
        _tell(None, "preamble", message, report, place)
    names = ["" if cell is None else _text(cell) for cell in rows[place]]
    below = [row for row in rows[place + 1 :] if row != rows[place]]
    if not below:
        raise DataError(f"{path}: no row below the header; give a table with at least one row")
    columns = [_column(name, [row[at] for row in below], report) for at, name in enumerate(names)]
    return pa.Table.from_arrays(columns, names=names)


def _header_place(rows: list[list[Cell]], places: list[int]) -> int:
    """Return the first row in which all, or all but one, cells are distinct texts; 0 where there is none.

    One text with an empty row below is the title of a sheet of two columns.
    """
    for place, row in enumerate(rows[:50]):
        texts = [cell for cell in row if isinstance(cell, str)]
        alone = len(row) == 2 and len(texts) == 1
        if alone and place + 1 < len(rows) and places[place + 1] > places[place] + 1:
            continue
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
    if kinds == {time, timedelta}:
        return pa.array(
            [_since_midnight(value) if isinstance(value, time) else value for value in values], known[timedelta]
        )
    if kinds == {date, datetime}:
        moments = [_moment(value) for value in values]
        return pa.array(moments, pa.timestamp("us"))
    if kinds:
        listed = ", ".join(sorted(kind.__name__ for kind in kinds))
        _tell(name, "mixed", f"{listed} are kept as text", report, len(values))
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _numbers(values: list[Cell]) -> list[float | int | None]:
    return [value if isinstance(value, int | float) else None for value in values]


def _since_midnight(value: time) -> timedelta:
    return datetime.combine(date.min, value) - datetime.min


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
