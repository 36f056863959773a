"""Workbooks, in a process of its own: a script that `files/sheets.py` starts and that prints one sheet as JSON.

A file of five kilobytes may say that it has seventeen billion cells, and what reads workbooks then asks for memory for
all of them, which ends its process. So that process is not the caller's, and its memory has a limit.
"""

import io
import json
import re
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from typing import IO, Any
from xml.etree import ElementTree

Cell = str | int | float | bool | datetime | date | time | timedelta | None
_MARK = "$"
"""The one key of what stands for a cell; columns have letters."""
MEMORY = 3
"""The exit status where there is not enough of it."""
_LOOKED_AT = 8 * 2**20
"""How many bytes are read to learn what cells look like; they say nothing of what is in them."""
_LETTERS, _COLUMNS = 3, 16_384  # of a column, and how many a sheet has
DOCUMENT = "content.xml"
"""The file in which the sheets of OpenDocument lie."""
_ERROR = re.compile(rb"<c [^>]*\bt=[\"']e[\"']")
_SPAN = re.compile(r"-?PT(?P<hours>\d{2,9})H(?P<minutes>\d\d)M(?P<seconds>\d\d)(?:[.,](?P<micro>\d+))?S")
_DATA_STYLES = "{urn:oasis:names:tc:opendocument:xmlns:datastyle:1.0}"
_HEADER, _STYLED_ROWS = 50, 200
"""Among how many rows the header is looked for, and how many rows say what the cells of a column look like."""


def main() -> None:
    """Read a workbook from standard input: the sheet of the name that is given, or the first with a table."""
    asked: str | None
    limit, asked = json.loads(sys.argv[1])
    with suppress(ImportError, ValueError, OSError):  # where the system has no such limit
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        data = sys.stdin.buffer.read()
        found = read(data, asked)
        if len(found.get("rows", ())) > 1:
            found["formats"] = formats_of(data, found["name"])
            found["errors"] = errors_of(data, found["name"])
        found["kind"] = "ods" if is_document(data) else "xlsx"
        sys.stdout.write(json.dumps(found, default=marked, ensure_ascii=True))
    except MemoryError:
        sys.exit(MEMORY)


def read(data: bytes, asked: str | None) -> dict[str, Any]:
    """Return the names of a workbook's sheets, the chosen one and its rows; or the fault."""
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(data))
        names = list(workbook.sheet_names)
        found = _chosen(workbook, names if asked is None else [one for one in names if one == asked])
    except (CalamineError, OSError, ValueError, OverflowError) as error:
        return {"fault": " ".join(str(error).split())[:200]}
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # what calamine does not foresee in a damaged file
            return {"fault": "it cannot be read"}
        raise
    return {"names": names, **found}


def _chosen(workbook: Any, names: list[str]) -> dict[str, Any]:
    """Return the first of these sheets that has a header and a row, else the last, and where its rows stand."""
    found: dict[str, Any] = {"name": "", "rows": [], "places": [], "left": 0}
    for name in names:
        sheet = workbook.get_sheet_by_name(name)
        places, rows = _rows(sheet.to_python(skip_empty_area=True))
        top, left = sheet.start or (0, 0)
        found = {"name": name, "rows": rows, "places": [top + place for place in places[:_HEADER]], "left": left}
        if len(rows) > 1:
            break
    return found


def _rows(cells: Sequence[Sequence[Any]]) -> tuple[list[int], list[list[Cell]]]:
    """Return the places of the rows that are not empty, and these without empty columns at the right; empty cells are
    None.
    """
    rows = [[_cell(cell) for cell in row] for row in cells]
    places = [place for place, row in enumerate(rows) if any(cell is not None for cell in row)]
    rows = [rows[place] for place in places]
    width = max((place + 1 for row in rows for place, cell in enumerate(row) if cell is not None), default=0)
    return places, [(row + [None] * width)[:width] for row in rows]


def _cell(cell: Any) -> Cell:
    """Return a cell, None for an empty one; calamine has spans of OpenDocument that are no time of day as text."""
    if not isinstance(cell, str) or not cell.startswith(("PT", "-PT")):
        return None if cell == "" else cell
    span = _SPAN.fullmatch(cell)
    if span is None:
        return cell
    micro = int(span["micro"][:6].ljust(6, "0")) if span["micro"] else 0
    seconds = 3600 * int(span["hours"]) + 60 * int(span["minutes"]) + int(span["seconds"])
    made = timedelta(seconds=seconds, microseconds=micro)
    return -made if cell[0] == "-" else made


def formats_of(data: bytes, name: str) -> dict[str, str | int]:
    """Return by column, as a spreadsheet counts them from A, the number format that most of the first cells of a sheet
    have: its code, or the number of one that every spreadsheet has. Nothing of other files than .xlsx, .xlsm and .ods.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if DOCUMENT in archive.namelist():
                return formats_of_document(archive, name)
            known = _known_formats(archive)
            counts: dict[str, Counter[str | int]] = {}
            for column, style in _styles_of_cells(archive, _file_of(archive, name)):
                if len(column) > _LETTERS:
                    continue
                counts.setdefault(column, Counter())[known[style]] += 1
    except (zipfile.BadZipFile, zlib.error, ElementTree.ParseError, OSError, EOFError, RuntimeError):
        return {}  # what its cells look like is not worth an error
    except (LookupError, ValueError, StopIteration):
        return {}
    return {column: counted.most_common(1)[0][0] for column, counted in counts.items()}


def errors_of(data: bytes, name: str) -> int:
    """Count the cells that hold errors such as #N/A, in the begin of a sheet of an .xlsx or .xlsm: they are read as
    empty ones.
    """
    with suppress(zipfile.BadZipFile, zlib.error, ElementTree.ParseError, OSError, EOFError, RuntimeError):
        with suppress(LookupError, ValueError, StopIteration), zipfile.ZipFile(io.BytesIO(data)) as archive:
            with archive.open(_file_of(archive, name)) as file:
                return len(_ERROR.findall(file.read(_LOOKED_AT)))
    return 0


class _Begin:
    """The begin of a file within an archive, which may unpack to any size; ValueError for more than is looked at."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left = file, _LOOKED_AT

    def read(self, size: int = -1, /) -> bytes:
        found = self._file.read(size)
        self._left -= len(found)
        if self._left < 0:
            raise ValueError("too long to be looked at")
        return found


def _known_formats(archive: zipfile.ZipFile) -> list[str | int]:
    """Return the number formats by style of a cell."""
    codes: dict[str, str] = {}
    styles: list[str | int] = []
    within = False
    with archive.open("xl/styles.xml") as file:
        for event, element in ElementTree.iterparse(_Begin(file), ("start", "end")):
            kind = element.tag.rpartition("}")[2]
            within = event == "start" if kind == "cellXfs" else within
            if event == "start" and kind == "numFmt":
                codes[element.attrib["numFmtId"]] = element.attrib["formatCode"]
            elif event == "start" and kind == "xf" and within:
                number = element.get("numFmtId", "0")
                styles.append(codes.get(number, int(number)))
    return styles


def _whole(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as file:
        found = file.read(_LOOKED_AT + 1)
    if len(found) > _LOOKED_AT:
        raise ValueError("too long to be looked at")
    return found


def _file_of(archive: zipfile.ZipFile, name: str) -> str:
    """Return the file in which the sheet of a name lies."""
    book = ElementTree.fromstring(_whole(archive, "xl/workbook.xml"))
    sheet = next(one for one in book.iter() if one.tag.endswith("}sheet") and one.get("name") == name)
    key = next(value for attribute, value in sheet.attrib.items() if attribute.endswith("}id"))
    related = ElementTree.fromstring(_whole(archive, "xl/_rels/workbook.xml.rels"))
    target = next(one.attrib["Target"] for one in related if one.get("Id") == key)
    return target.removeprefix("/") if target.startswith("/") else f"xl/{target}"


def _styles_of_cells(archive: zipfile.ZipFile, file_name: str) -> Iterator[tuple[str, int]]:
    """Yield column and style of the filled cells of the first rows of a sheet."""
    rows = 0
    with archive.open(file_name) as file:
        for _, element in ElementTree.iterparse(_Begin(file), ("end",)):
            kind = element.tag.rpartition("}")[2]
            if kind == "c" and len(element):
                yield element.attrib["r"].rstrip("0123456789"), int(element.get("s", "0"))
            elif kind == "row":
                rows += 1
                element.clear()
                if rows == _STYLED_ROWS:
                    return


def is_document(data: bytes) -> bool:
    """Tell whether a workbook is one of OpenDocument."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return DOCUMENT in archive.namelist()
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError):
        return False


def formats_of_document(archive: zipfile.ZipFile, name: str) -> dict[str, str | int]:
    """Return by column of a sheet of OpenDocument the code of the number format that most of its first cells have."""
    from difflm.number_formats import code_of

    cells: dict[str, str] = {}
    data_styles: dict[str, ElementTree.Element] = {}
    counts: dict[int, Counter[str]] = {}
    for file_name in ("styles.xml", DOCUMENT):
        if file_name in archive.namelist():
            with archive.open(file_name) as file:
                for at, style in _styled_cells(_Begin(file), name, cells, data_styles):
                    counts.setdefault(at, Counter())[style] += 1
    found: dict[str, str | int] = {}
    for at, counted in counts.items():
        usual = data_styles.get(cells.get(counted.most_common(1)[0][0], ""))
        code = None if usual is None else code_of(usual, data_styles.get)
        if code is not None:
            found[_letters(at)] = code
    return found


def _styled_cells(
    file: Any, name: str, cells: dict[str, str], data_styles: dict[str, ElementTree.Element]
) -> Iterator[tuple[int, str]]:
    """Yield the place of the column and the style of filled cells in the first rows of a sheet; collect what styles of
    cells and data styles are called on the way to them.
    """
    columns: list[str] = []
    rows, within = 0, False
    for event, element in ElementTree.iterparse(file, ("start", "end")):
        kind, given = element.tag.rpartition("}")[2], {key.rpartition("}")[2]: text for key, text in element.items()}
        if event == "start":
            within = given.get("name") == name if kind == "table" else within
            continue
        if kind == "style" and given.get("family") == "table-cell":
            cells[given["name"]] = given.get("data-style-name") or cells.get(given.get("parent-style-name", ""), "")
        elif kind.endswith("-style") and element.tag.startswith(_DATA_STYLES):
            data_styles[given["name"]] = element
        elif kind == "table-column" and within:
            columns += [given.get("default-cell-style-name", "")] * min(_repeated(given), _COLUMNS - len(columns))
        elif kind == "table-row" and within:
            yield from _cells_of_row(element, given.get("default-cell-style-name", ""), columns)
            element.clear()
            rows += 1
            if rows == _STYLED_ROWS:
                return
        elif kind == "table" and within:
            return


def _cells_of_row(row: ElementTree.Element, usual: str, columns: Sequence[str]) -> Iterator[tuple[int, str]]:
    at = 0
    for cell in row:
        given = {key.rpartition("}")[2]: text for key, text in cell.items()}
        times = _repeated(given)
        style = given.get("style-name") or usual
        if "value-type" in given:
            for place in range(at, min(at + times, _COLUMNS)):
                yield place, style or (columns[place] if place < len(columns) else "")
        at += times


def _repeated(given: dict[str, str]) -> int:
    return max(0, int(given.get("number-columns-repeated", "1")))


def _letters(place: int) -> str:
    """Return what a spreadsheet calls a column, by its place from 0 on."""
    found, place = "", place + 1
    while place:
        place, rest = divmod(place - 1, 26)
        found = chr(65 + rest) + found
    return found


def marked(cell: datetime | date | time | timedelta) -> dict[str, Any]:
    """Return the object of JSON for a cell that JSON has no type for."""
    if isinstance(cell, timedelta):
        return {_MARK: ["timedelta", cell.days, cell.seconds, cell.microseconds]}
    return {_MARK: [type(cell).__name__, cell.isoformat()]}


def unmarked(found: dict[str, Any]) -> object:
    """Return the cell behind an object of JSON that `marked` made; any other object as it is.

    Raises ValueError, TypeError or OverflowError for one that only looks so.
    """
    match found:
        case {"$": ["datetime", str() as text], **rest} if not rest:
            return datetime.fromisoformat(text)
        case {"$": ["date", str() as text], **rest} if not rest:
            return date.fromisoformat(text)
        case {"$": ["time", str() as text], **rest} if not rest:
            return time.fromisoformat(text)
        case {"$": ["timedelta", int() as days, int() as seconds, int() as microseconds], **rest} if not rest:
            return timedelta(days, seconds, microseconds)
        case _:
            return found


if __name__ == "__main__":
    main()
