"""Workbooks, in a process of its own: a script that `files/sheets.py` starts and that prints one sheet as JSON.

A file of five kilobytes may say that it has seventeen billion cells, and what reads workbooks then asks for memory for
all of them, which ends its process. So that process is not the caller's, and its memory has a limit.
"""

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

Cell = str | int | float | bool | datetime | date | time | timedelta | None
MEMORY = 3
"""The exit status where there is not enough of it."""


def main() -> None:
    """Read a workbook from standard input: the sheet of the name that is given, or the first with a table."""
    asked: str | None
    limit, asked = json.loads(sys.argv[1])
    with contextlib.suppress(ImportError, ValueError, OSError):  # where the system has no such limit
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        found = read(sys.stdin.buffer.read(), asked)
        sys.stdout.write(json.dumps(found, default=_marked, ensure_ascii=True))
    except MemoryError:
        sys.exit(MEMORY)


def read(data: bytes, asked: str | None) -> dict[str, Any]:
    """Return the names of a workbook's sheets, the chosen one and its rows; or the fault."""
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(data))
        names = list(workbook.sheet_names)
        name, rows = _chosen(workbook, names if asked is None else [one for one in names if one == asked])
    except (CalamineError, OSError, ValueError, OverflowError) as error:
        return {"fault": " ".join(str(error).split())[:200]}
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # what calamine does not foresee in a damaged file
            return {"fault": "it cannot be read"}
        raise
    return {"names": names, "name": name, "rows": rows}


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


def _marked(cell: datetime | date | time | timedelta) -> dict[str, Any]:
    if isinstance(cell, timedelta):
        return {"timedelta": [cell.days, cell.seconds, cell.microseconds]}
    return {type(cell).__name__: cell.isoformat()}


def unmarked(cell: dict[str, Any]) -> object:
    """Return the cell behind an object of JSON."""
    kinds = {"datetime": datetime.fromisoformat, "date": date.fromisoformat, "time": time.fromisoformat}
    kind, value = next(iter(cell.items()))
    if kind in kinds:
        return kinds[kind](value)
    return timedelta(*value) if kind == "timedelta" else cell


if __name__ == "__main__":
    main()
