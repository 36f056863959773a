"""Typed files: Parquet and Arrow to a table, what Arrow cannot print as text among its columns.

Lists and objects become JSON; bytes become their text where all of them are one, and hexadecimal digits otherwise.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from difflm.errors import DataError
from difflm.records.notices import Notice, Reporter

_DIGITS = re.compile(r"(?:[0-9a-f]{2})+")


def read_parquet(data: bytes, path: Path) -> pa.Table:
    """Read typed columns; DataError for what is no Parquet file, or a damaged one."""
    return _read(lambda: pa.parquet.ParquetFile(pa.BufferReader(data)).read(), path, "a Parquet file")


def read_arrow(data: bytes, path: Path) -> pa.Table:
    """Read the typed columns of an Arrow IPC file or stream; DataError for what is none, or a damaged one."""
    opened = pa.ipc.open_file if data.startswith(b"ARROW1") else pa.ipc.open_stream
    return _read(lambda: opened(pa.BufferReader(data)).read_all(), path, "an Arrow IPC file")


def _read(read: Callable[[], pa.Table], path: Path, what: str) -> pa.Table:
    try:
        table = read()
        table.validate(full=True)
        "".join(table.column_names)  # ValueError for a name that is no Unicode
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: not {what} ({reason}); is it complete and what its name says?") from error
    return table


def without_nesting(table: pa.Table, report: Reporter) -> pa.Table:
    """Replace lists, objects and bytes by their text, and report it."""
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        spelled = _spelled_column(column)
        if spelled is not None:
            what, column = spelled
            report(Notice(column=name, code="nested", count=len(column), message=what))
        columns.append(column)
    return pa.Table.from_arrays(columns, names=table.column_names)


def _spelled_column(column: pa.ChunkedArray) -> tuple[str, pa.ChunkedArray] | None:
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name == "arrow.uuid":
            texts = [None if value is None else str(value) for value in column.to_pylist()]
            return "identifiers (UUID) are kept as their text", pa.chunked_array([texts], pa.string())
        storage = pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
        return _spelled_column(storage) or (f"kept as {kind.storage_type}", storage)
    if is_bytes(kind):
        return _texts_of_bytes(column)
    if pa.types.is_nested(kind):
        texts = [None if value is None else spelled(value) for value in column.to_pylist()]
        return "lists or objects are kept as their JSON text", pa.chunked_array([texts], pa.string())
    return None


def is_bytes(kind: pa.DataType) -> bool:
    """Tell whether a type is one of bytes."""
    named = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(holds(kind) for holds in named)


def _texts_of_bytes(column: pa.ChunkedArray) -> tuple[str, pa.ChunkedArray]:
    values = column.to_pylist()
    try:
        texts = [None if value is None else value.decode() for value in values]
        if all(text is None or text.isprintable() for text in texts):
            return "bytes are kept as their text", pa.chunked_array([texts], pa.string())
    except UnicodeDecodeError:
        pass
    digits = [None if value is None else value.hex() for value in values]
    return "bytes are kept as their hexadecimal digits", pa.chunked_array([digits], pa.string())


def bytes_of(texts: pa.ChunkedArray, kind: pa.DataType, digits: bool | None) -> pa.ChunkedArray:
    """Return the bytes behind texts that `without_nesting` made; ValueError where one has none.

    Without `digits` the texts are taken for hexadecimal digits where all look like them.
    """
    values = texts.to_pylist()
    if digits is None:
        digits = all(text is None or _DIGITS.fullmatch(text) is not None for text in values)
    made = [None if text is None else bytes.fromhex(text) if digits else text.encode() for text in values]
    return pa.chunked_array([pa.array(made, kind)])


def kept_as_digits(source: pa.ChunkedArray, kept: pa.ChunkedArray) -> bool:
    """Tell whether bytes were kept as their hexadecimal digits."""
    pairs = zip(source.to_pylist(), kept.to_pylist(), strict=True)
    value, text = next((pair for pair in pairs if pair[0]), (b"", ""))
    return bool(text == value.hex()) and bool(value)


def nested_of(texts: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return the lists or objects behind JSON texts; ValueError or ArrowException where one is none of the type."""
    values = [None if text is None else _of_json(json.loads(text), kind) for text in texts.to_pylist()]
    return pa.chunked_array([pa.array(values, kind)])


def _of_json(value: Any, kind: pa.DataType) -> Any:
    """Return a value of JSON as Arrow takes it: dates, times and decimals are texts in JSON."""
    if value is None:
        return None
    if pa.types.is_map(kind):
        pairs = value.items() if isinstance(value, dict) else value
        return [(_of_json(key, kind.key_type), _of_json(item, kind.item_type)) for key, item in pairs]
    if pa.types.is_struct(kind):
        return {field.name: _of_json(value.get(field.name), field.type) for field in kind}
    if pa.types.is_nested(kind) and hasattr(kind, "value_type"):
        return [_of_json(item, kind.value_type) for item in value]
    if isinstance(value, str) and not pa.types.is_string(kind):
        return pc.cast(pa.scalar(value), kind).as_py()
    return value


def uuids_of(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return identifiers as Arrow's own type."""
    stored = [None if text is None else uuid.UUID(text).bytes for text in texts.to_pylist()]
    return pa.chunked_array([pa.ExtensionArray.from_storage(pa.uuid(), pa.array(stored, pa.binary(16)))])


def spelled(value: object) -> str:
    """Spell a value as text: nested ones as JSON."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return json.dumps(value, ensure_ascii=False, default=str).encode(errors="replace").decode()
