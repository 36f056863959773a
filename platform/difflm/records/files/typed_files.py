"""Typed files: Parquet and Arrow to a table, what Arrow cannot print as text among its columns.

Lists and objects become JSON; bytes become their text where all of them are one, and hexadecimal digits otherwise.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from difflm.errors import DataError
from difflm.records.arrow_messages import unpacked_size
from difflm.records.files.compression import Expansion
from difflm.records.nested_values import is_bytes, json_texts
from difflm.records.notices import Notice, Reporter

_ROWS_OF_LISTS = 64  # that are read at a time
_DIGITS = re.compile(r"(?:[0-9a-f]{2})+")


def read_parquet(data: bytes, expansion: Expansion) -> pa.Table:
    """Read typed columns; DataError for what is no Parquet file, a damaged one, or one that unpacks to too much."""
    return _read(lambda: _parquet(data, expansion), expansion, "a Parquet file")


def _parquet(data: bytes, expansion: Expansion) -> pa.Table:
    """Read Parquet. Texts come as a dictionary and a number per row first: one long text for many rows is short in a
    file.
    """
    file = pa.parquet.ParquetFile(pa.BufferReader(data))
    about, schema = file.metadata, file.schema_arrow
    # Not by columns: pyarrow ends the process over metadata of a column that are damaged.
    size = sum(about.row_group(place).total_byte_size for place in range(about.num_row_groups))
    expansion.check(max(size, least_size(schema, about.num_rows)))
    texts = [field.name for field in schema if _is_text(field.type)]
    packed = pa.parquet.ParquetFile(pa.BufferReader(data), read_dictionary=texts)
    table = _in_batches(packed, expansion) if any(map(pa.types.is_nested, schema.types)) else packed.read()
    table.validate(full=True)  # before anything computes with it: an index out of bounds ends the process
    expansion.check(dense_size(table))
    return pa.table(
        [column.cast(field.type) for column, field in zip(table.columns, schema, strict=True)], schema=schema
    )


def _in_batches(file: pa.parquet.ParquetFile, expansion: Expansion) -> pa.Table:
    """Read a few rows at a time, and count them: a list may hold any number of values, which are short in a file."""
    batches, size = list[pa.RecordBatch](), 0
    for batch in file.iter_batches(batch_size=_ROWS_OF_LISTS):
        size += int(batch.nbytes)
        expansion.check(size)
        batches.append(batch)
    return pa.Table.from_batches(batches) if batches else file.read()


def least_size(schema: pa.Schema, rows: int) -> int:
    """Return how many bytes so many rows have at least, whatever their values are."""
    return rows * sum(map(_width, schema.types))


def _width(kind: pa.DataType) -> int:
    """Return how many bytes a value of a type has at least."""
    if isinstance(kind, pa.BaseExtensionType):
        return _width(kind.storage_type)
    if pa.types.is_struct(kind):
        return max(1, sum(_width(kind.field(place).type) for place in range(kind.num_fields)))
    if pa.types.is_fixed_size_list(kind):
        return max(1, int(kind.list_size) * _width(kind.value_type))
    if pa.types.is_fixed_size_binary(kind) or pa.types.is_decimal(kind):
        return max(1, int(kind.byte_width))
    return max(1, int(kind.bit_width) // 8) if pa.types.is_primitive(kind) else 1


def read_arrow(data: bytes, expansion: Expansion) -> pa.Table:
    """Read the typed columns of an Arrow IPC file or stream; DataError for what is none, a damaged one, or one that
    unpacks to too much.
    """
    return _read(lambda: _arrow(data, expansion), expansion, "an Arrow IPC file")


def _arrow(data: bytes, expansion: Expansion) -> pa.Table:
    expansion.check(unpacked_size(data))
    batches, size = list[pa.RecordBatch](), 0
    if data.startswith(b"ARROW1"):
        file = pa.ipc.open_file(pa.BufferReader(data))
        schema, found = file.schema, (file.get_batch(place) for place in range(file.num_record_batches))
    else:
        stream = pa.ipc.open_stream(pa.BufferReader(data))
        schema, found = stream.schema, iter(stream)
    for batch in found:
        batch.validate(full=True)
        size += dense_size(pa.table(batch))
        expansion.check(size)
        batches.append(batch)
    return pa.Table.from_batches(batches, schema)


def dense_size(table: pa.Table) -> int:
    """Return how many bytes a table has when every value stands in its row, at least one for each cell."""
    return sum(_dense(chunk) for column in table.columns for chunk in column.chunks)


def _dense(array: pa.Array) -> int:
    """Return how many bytes an array has once what it says in short is written out, roughly for nested ones."""
    kind, rows = array.type, len(array)
    if isinstance(kind, pa.BaseExtensionType):
        return _dense(array.storage)
    if pa.types.is_dictionary(kind) and _is_text(kind.value_type):
        lengths = pc.cast(pc.binary_length(array.dictionary), pa.int64())
        return rows + int(pc.sum(lengths.take(array.indices)).as_py() or 0)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind) or pa.types.is_null(kind):
        return 16 * rows  # every row of the last two comes out of nothing
    if pa.types.is_struct(kind):
        return rows + sum(_dense(array.field(place)) for place in range(kind.num_fields))
    if pa.types.is_fixed_size_list(kind):
        return rows + max(8 * rows * int(kind.list_size), _dense(array.values))
    if pa.types.is_nested(kind) and hasattr(array, "values"):  # views may show the same values again and again
        shown = 0 if pa.types.is_map(kind) else pc.sum(pc.list_value_length(array)).as_py() or 0
        return rows + max(8 * int(shown), _dense(array.values))
    return max(rows, int(array.nbytes))


def _is_text(kind: pa.DataType) -> bool:
    held = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(holds(kind) for holds in held)


def _read(read: Callable[[], pa.Table], expansion: Expansion, what: str) -> pa.Table:
    try:
        table = read()
        table.validate(full=True)
        "".join(table.column_names)  # ValueError for a name that is no Unicode
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{expansion.path}: not {what} ({reason}); is it complete and what its name says?") from error
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
    if pa.types.is_run_end_encoded(kind):
        every = pc.run_end_decode(column)
        return _spelled_column(every) or (f"kept as {kind.value_type}", every)
    if pa.types.is_union(kind):
        texts = [None if value is None else spelled(value) for value in column.to_pylist()]
        return "values of several types are kept as their text", pa.chunked_array([texts], pa.string())
    if pa.types.is_nested(kind):
        return "lists or objects are kept as their JSON text", json_texts(column)
    return None


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


def becomes_digits(column: pa.ChunkedArray) -> bool:
    """Tell whether `without_nesting` keeps a column as hexadecimal digits: bytes of which some are no text."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not is_bytes(kind):
        return False
    _, kept = _texts_of_bytes(column)
    return kept_as_digits(column, kept)


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
