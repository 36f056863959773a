"""Readers: bytes of one kind of file each, to a table with the file's own column names, repeated ones included.

JSON objects of a file: one per line, or one list of them, also gzip; text in UTF-8, whatever the file says.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from difflm.errors import ConfigError, DataError
from difflm.records.notices import Notice, NoticeCode, Reporter

_SHAPE = "give one JSON object per line, or one list of objects"


def read_json_rows(path: Path, *, encoding: str = "utf-8") -> list[dict[str, Any]]:
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


def read_text(path: Path, *, encoding: str = "utf-8") -> str:
    """Read the text of a file, also gzip, line ends kept, byte order mark skipped. DataError naming file and byte."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix.lower() == ".gz" else data
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check the path") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); is it complete and what its name says?") from error
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not {encoding}; convert the file, for instance with "
            f"iconv -f latin1 -t utf-8, or say what it is with --set data.read.encoding=latin1"
        ) from error
    except LookupError as error:
        raise DataError(
            f"{path}: {encoding!r} is no encoding that Python knows; give one like utf-8 or latin1"
        ) from error


def _parsed(text: str, place: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error}); {_SHAPE}") from error
    if "\\ud" in text.lower():
        _check_surrogates(value, place)
    return value


def _check_surrogates(value: Any, place: str) -> None:
    """Raise DataError where an escape is half of a surrogate pair: JSON allows that, but it is no text."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise DataError(f"{place}: {half} is half of a surrogate pair, which is no text; take it out") from error


_LONGEST_HEADER = 2**20
_DELIMITERS = (",", ";", "\t", "|")
_BOM = b"\xef\xbb\xbf"


def read_delimited(
    data: bytes,
    path: Path,
    *,
    delimiter: str | None,
    usual: str,
    encoding: str,
    header: Sequence[str] | None,
    report: Reporter,
) -> pa.Table:
    """Read all columns as text; cells without a value are empty text. DataError naming a broken row.

    Without a `delimiter`, it is the `usual` one, unless the first line has another one instead.
    """
    text = _utf8(data, path, encoding)
    if header is None:
        text = text.lstrip(b"\r\n")
    delimiter = delimiter or _delimiter_of(text, usual, report)
    names = list(header) if header is not None else _header(text, path, delimiter)
    keys = [str(position) for position in range(len(names))]
    read = pa.csv.ReadOptions(
        column_names=keys,
        skip_rows_after_names=0 if header is not None else 1,
        use_threads=False,
        block_size=max(2**20, min(len(text) + 1, 2**30)),
    )
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, ignore_empty_lines=len(names) > 1)
    convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(keys, pa.string()), strings_can_be_null=False)
    try:
        table = pa.csv.read_csv(pa.BufferReader(text), read_options=read, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: {_csv_fault(str(error))}; mend the row or set delimiter") from error
    return table.rename_columns(names)


def read_json_lines(data: bytes, path: Path, *, encoding: str, report: Reporter) -> pa.Table:
    """Read one object per line; keys in the order of first appearance, absent ones missing. Lines count from 1."""
    rows = []
    for number, line in enumerate(_utf8(data, path, encoding).decode().split("\n"), start=1):
        if line.strip():
            rows.append(_object(line, f"{path}, line {number}"))
    return _table_of_rows(rows, path, report)


def read_json_document(data: bytes, path: Path, *, encoding: str, report: Reporter) -> pa.Table:
    """Read a list of objects, or an object of equally long lists."""
    text = _utf8(data, path, encoding).decode()
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); is it JSON lines? Then call it .jsonl") from error
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


def read_parquet(data: bytes, path: Path, *, report: Reporter) -> pa.Table:
    """Read typed columns; nested ones as JSON text."""
    try:
        table = _sound_table(pa.parquet.ParquetFile(pa.BufferReader(data)).read())
    except _DAMAGED as error:
        raise DataError(f"{path}: not a Parquet file ({_first_line(error)}); is it complete?") from error
    return without_nesting(table, report)


def read_arrow(data: bytes, path: Path, *, report: Reporter) -> pa.Table:
    """Read the typed columns of an Arrow IPC file; nested ones as JSON text."""
    try:
        table = _sound_table(pa.ipc.open_file(data).read_all())
    except _DAMAGED as error:
        raise DataError(f"{path}: not an Arrow IPC file ({_first_line(error)}); is it complete?") from error
    return without_nesting(table, report)


_DAMAGED = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError)  # what changed bytes come to


def _sound_table(table: pa.Table) -> pa.Table:
    """Return a table whose every value can be read. ArrowInvalid, or ValueError for a name that is no Unicode."""
    table.validate(full=True)
    "".join(table.column_names)
    return table


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0].rstrip(".")[:200] or type(error).__name__


def without_nesting(table: pa.Table, report: Reporter) -> pa.Table:
    """Replace lists, objects and bytes by their text, and report it."""
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            spelled = [None if value is None else _spelled(value) for value in column.to_pylist()]
            _tell(name, "nested", len(spelled), "lists, objects or bytes are kept as their text", report)
            columns.append(pa.chunked_array([spelled], pa.string()))
        else:
            columns.append(column)
    return pa.Table.from_arrays(columns, names=table.column_names)


def _utf8(data: bytes, path: Path, encoding: str) -> bytes:
    """Recode a text as UTF-8 without a byte order mark; DataError naming the line that is not in `encoding`."""
    try:
        if encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig"):
            data = data.removeprefix(_BOM)
            data.decode()
        else:
            data = data.decode(encoding).removeprefix("\ufeff").encode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        remedy = "set encoding, for instance encoding: latin-1"
        raise DataError(f"{path}, line {line}: byte 0x{byte:02x} is not {encoding}; {remedy}") from error
    except LookupError as error:
        raise ConfigError(f"encoding: {encoding!r} is not known; take utf-8, latin-1, cp1252 or utf-16") from error
    if b"\x00" in data:
        line = data.count(b"\n", 0, data.index(b"\x00")) + 1
        raise DataError(f"{path}, line {line}: a zero byte; give a text file, or set encoding: utf-16")
    return data


def _delimiter_of(text: bytes, usual: str, report: Reporter) -> str:
    first = text[:_LONGEST_HEADER].splitlines()[0].decode(errors="ignore") if text.strip() else ""
    other = max(_DELIMITERS, key=first.count)
    if usual in first or other not in first:
        return usual
    message = f"cells are divided by {other!r}, as the first line has no {usual!r}; set delimiter if that is wrong"
    report(Notice(column=None, code="delimiter", count=1, message=message))
    return other


def _header(text: bytes, path: Path, delimiter: str) -> list[str]:
    lines = io.StringIO(text[:_LONGEST_HEADER].decode(errors="ignore"), newline="")
    try:
        header = next((row for row in csv.reader(lines, delimiter=delimiter) if row), None)
    except csv.Error as error:
        raise DataError(f"{path}, line 1: not a header ({error}); mend it or give header") from error
    if header is None:
        raise DataError(f"{path}: the file is empty; give a table with a header line and at least one row")
    return header


def _csv_fault(message: str) -> str:
    found = re.search(r"Row #(\d+): (Expected \d+ columns, got \d+)", message)
    if found:
        return f"row {found[1]}: {found[2]}".replace("Expected", "expected")
    return message.splitlines()[0][:200].rstrip(".")


def _object(line: str, place: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error}); mend the line") from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: {line[:60]!r} is not an object; give one object per line")
    return row


def _table_of_rows(rows: list[dict[str, object]], path: Path, report: Reporter) -> pa.Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        raise DataError(f"{path}: no rows; give a table with at least one row")
    return _table_of_columns({name: [row.get(name) for row in rows] for name in names}, report)


def _table_of_columns(columns: dict[str, list[object]], report: Reporter) -> pa.Table:
    arrays = [_typed(name, values, report) for name, values in columns.items()]
    return pa.Table.from_arrays(arrays, names=list(map(_sound, columns)))


def _typed(name: str, values: list[object], report: Reporter) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values if isinstance(value, int)):
        return pa.array(values, pa.int64())
    if kinds <= {int, float} and float in kinds:
        return pa.array([_number(value) if isinstance(value, int | float) else None for value in values], pa.float64())
    nested = sum(isinstance(value, dict | list) for value in values)
    if nested:
        _tell(name, "nested", nested, "lists or objects are kept as their JSON text", report)
    elif len(kinds) > 1:
        _tell(
            name, "mixed", len(values), f"{', '.join(sorted(kind.__name__ for kind in kinds))} are kept as text", report
        )
    return pa.array([None if value is None else _spelled(value) for value in values], pa.string())


def _number(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:  # as 1e999 is
        return math.inf if value > 0 else -math.inf


def _tell(name: str, code: NoticeCode, count: int, message: str, report: Reporter) -> None:
    report(Notice(column=name, code=code, count=count, message=message))


def _spelled(value: object) -> str:
    if isinstance(value, str):
        return _sound(value)
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return _sound(json.dumps(value, ensure_ascii=False, default=str))


def _sound(text: str) -> str:
    """Replace what is no Unicode: JSON may hold half of a surrogate pair, and a table cannot."""
    return text.encode(errors="replace").decode()
