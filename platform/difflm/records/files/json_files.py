"""JSON files: objects, one per line or one list of them, as rows or as a table; text in UTF-8 unless said otherwise."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from difflm.errors import DataError
from difflm.records.files.compression import contents
from difflm.records.files.encodings import UTF8, decoded
from difflm.records.files.restoring import restored
from difflm.records.files.typed_files import spelled
from difflm.records.limits import refuse_wide
from difflm.records.notices import Notice, NoticeCode, Reporter, ignore
from difflm.telemetry import parse_json

_DENSE_CELLS, _MAX_SPARSE = 1_000_000, 50
"""So many cells a table may have whatever fills them, and of a larger one so many for each value."""
_SHAPE = "give one JSON object per line, or one list of objects"


def read_json_rows(path: Path, *, encoding: str | None = None) -> list[dict[str, Any]]:
    """Read the objects of a JSON Lines file in order; DataError naming file, line and remedy."""
    text = read_text(path, encoding=encoding)
    if text.lstrip().startswith("["):
        rows = _parsed(text, str(path))
    else:
        rows = [_parsed(line, f"{path}: line {n}") for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    for place, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise DataError(f"{path}: entry {place} is no JSON object; {_SHAPE}")
    return [dict(row) for row in rows]


def read_text(path: Path, *, encoding: str | None = None) -> str:
    """Read the text of a file, also a packed one, line ends kept, no byte order mark. DataError naming the line."""
    data, _ = contents(path)
    return decoded(data, path, encoding or UTF8, ignore).text.decode()


def _parsed(text: str, place: str) -> Any:
    try:
        value = parse_json(text)
    except ValueError as error:
        raise DataError(f"{place}: not JSON ({error}); {_SHAPE}") from error
    _check_surrogates(text, value, place)
    return value


def _check_surrogates(text: str, value: Any, place: str) -> None:
    """Raise DataError where an escape is half of a surrogate pair: JSON allows that, but it is no text."""
    if "\\ud" not in text.lower():
        return
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise DataError(f"{place}: {half} is half of a surrogate pair, which is no text; take it out") from error


class JsonForm(BaseModel):
    """Columns that hold lists or objects, those whose missing values have no key, and names of the file by column.

    `texts` are columns of texts, all of them numbers, `bare` are those of numbers whose whole ones have no fraction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    nested: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    names: dict[str, str] = {}

    def spelled(self, table: pa.Table) -> pa.Table:
        """Return rows with texts for the numbers that are texts in the file."""
        for place, field in enumerate(table.schema):
            if field.name in self.texts:
                made = restored(table.column(place), pa.string(), about=field.metadata)
                table = table.set_column(place, field.with_type(made.type), made)
        return table

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row as the file has it; a nested value that is no JSON stays the text that it is."""
        made = {}
        for name, value in row.items():
            if value is None and name in self.absent:
                continue
            if name in self.bare and isinstance(value, float) and value.is_integer():
                value = int(value)
            made[self.names.get(name, name)] = _value(value) if name in self.nested else value
        return made

    def parsed(self, content: bytes, schema: pa.Schema) -> pa.Table:
        """Read lines that are such rows, in the types of a schema."""
        rows = [json.loads(line) for line in content.decode().split("\n") if line]
        columns = []
        for field in schema:
            values = [row.get(self.names.get(field.name, field.name)) for row in rows]
            if field.name in self.nested:
                values = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
            texts = field.name in self.texts
            columns.append(pa.array(values, pa.string()).cast(field.type) if texts else pa.array(values, field.type))
        return pa.Table.from_arrays(columns, schema=schema)


def _value(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return text


def read_json_lines(data: bytes, path: Path, *, encoding: str | None, report: Reporter) -> tuple[pa.Table, JsonForm]:
    """Read one object per line; keys in the order of first appearance, absent ones missing. Lines count from 1."""
    rows = []
    for number, line in enumerate(decoded(data, path, encoding, report).text.decode().split("\n"), start=1):
        if line.strip():
            rows.append(_object(line, f"{path}, line {number}"))
    return _table_of_rows(rows, path, report)


def read_json_document(data: bytes, path: Path, *, encoding: str | None, report: Reporter) -> tuple[pa.Table, JsonForm]:
    """Read a list of objects, or an object of equally long lists."""
    text = decoded(data, path, encoding, report).text.decode()
    try:
        document = parse_json(text)
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); is it JSON lines? Then call it .jsonl") from error
    _check_surrogates(text, document, str(path))
    if isinstance(document, dict) and document and all(isinstance(column, list) for column in document.values()):
        if len({len(column) for column in document.values()}) > 1:
            lengths = {name: len(column) for name, column in document.items()}
            raise DataError(f"{path}: columns of different lengths {str(lengths)[:200]}; give lists of one length")
        return _table_of_columns(document, report)
    if not isinstance(document, list):
        raise DataError(f"{path}: expected a list of objects, got {type(document).__name__}; give one object per row")
    for number, row in enumerate(document):
        if not isinstance(row, dict):
            raise DataError(f"{path}: row {number} is {repr(row)[:60]}, not an object; give one object per row")
    return _table_of_rows(document, path, report)


def _object(line: str, place: str) -> dict[str, object]:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise DataError(f"{place}: not JSON ({error}); mend the line") from error
    _check_surrogates(line, row, place)
    if not isinstance(row, dict):
        raise DataError(f"{place}: {line[:60]!r} is not an object; give one object per line")
    return row


def _table_of_rows(rows: list[dict[str, object]], path: Path, report: Reporter) -> tuple[pa.Table, JsonForm]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        raise DataError(f"{path}: no rows; give a table with at least one row")
    refuse_wide(len(names), str(path))
    cells, values = len(rows) * len(names), sum(map(len, rows))
    if cells > max(_DENSE_CELLS, _MAX_SPARSE * values):
        raise DataError(
            f"{path}: {len(rows):,} objects have {len(names):,} keys, nearly each of them its own ({values:,} values "
            f"for {cells:,} cells); give objects of the same keys"
        )
    table, form = _table_of_columns({name: [row.get(name) for row in rows] for name in names}, report)
    nulls = {name for row in rows for name, value in row.items() if value is None}
    absent = tuple(name for name in names if name not in nulls and any(name not in row for row in rows))
    return table, form.model_copy(update={"absent": absent})


def _table_of_columns(columns: dict[str, list[object]], report: Reporter) -> tuple[pa.Table, JsonForm]:
    arrays = [_typed(name, values, report) for name, values in columns.items()]
    nested = tuple(name for name, values in columns.items() if any(map(_is_json, values)))
    texts = tuple(name for name, values in columns.items() if name not in nested and _are_numbers(values))
    bare = tuple(name for name, values in columns.items() if _are_bare(values))
    form = JsonForm(nested=nested, texts=texts, bare=bare)
    return pa.Table.from_arrays(arrays, names=list(map(spelled, columns))), form


def _is_json(value: object) -> bool:
    """Tell whether the text that is kept of a value is JSON: of lists, objects, and numbers of more than 64 bits."""
    return isinstance(value, dict | list) or (isinstance(value, int) and not -(2**63) <= value < 2**63)


def _are_bare(values: list[object]) -> bool:
    """Tell whether whole numbers stand among those with a fraction, and without one."""
    kinds = {type(value) for value in values if value is not None}
    return kinds == {int, float} and not any(isinstance(value, float) and value.is_integer() for value in values)


def _are_numbers(values: list[object]) -> bool:
    """Tell whether texts may all be numbers, by the first one."""
    first = next((value for value in values if value is not None), None)
    return isinstance(first, str) and first[-1:].isdecimal() and all(isinstance(v, str | None) for v in values)


def _typed(name: str, values: list[object], report: Reporter) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values if isinstance(value, int)):
        return pa.array(values, pa.int64())
    if kinds <= {int, float} and float in kinds:
        return pa.array([_number(value) if isinstance(value, int | float) else None for value in values], pa.float64())
    nested = sum(map(_is_json, values))
    if nested:  # all of it is JSON text then, so that a text beside a list comes back as a text
        if kinds != {int}:  # inference tells of these
            _tell(
                name, "nested", nested, "lists, objects or numbers beyond 64 bits are kept as their JSON text", report
            )
        texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
        return pa.array([None if text is None else spelled(text) for text in texts], pa.string())
    if len(kinds) > 1:
        listed = ", ".join(sorted(kind.__name__ for kind in kinds))
        _tell(name, "mixed", len(values), f"{listed} are kept as text", report)
    return pa.array([None if value is None else spelled(value) for value in values], pa.string())


def _number(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:  # as 1e999 is
        return math.inf if value > 0 else -math.inf


def _tell(name: str, code: NoticeCode, count: int, message: str, report: Reporter) -> None:
    report(Notice(column=name, code=code, count=count, message=message))
