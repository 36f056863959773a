"""Restoring: columns in canonical types back to the Arrow types that their source had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from difflm.records.files.typed_files import bytes_of, uuids_of
from difflm.records.nested_values import is_bytes, nanoseconds, nested_of
from difflm.spelled_numbers import PRINTED, printer

Metadata: TypeAlias = Mapping[bytes, bytes]


def restored(
    column: pa.ChunkedArray, wanted: pa.DataType, *, digits: bool | None = None, about: Metadata | None = None
) -> pa.ChunkedArray:
    """Cast a column, as a bundle writes it, to the type that its source had; unchanged where that cannot be done.

    `digits` says whether bytes are kept as hexadecimal digits; None where that is not known. `about` is the metadata of
    the column: numbers whose source is text are spelled as `PRINTED` there says.
    """
    if column.type == wanted:
        return column
    if pa.types.is_floating(column.type) and (_is_text(wanted) or is_bytes(wanted)):
        column = _spelled(column, (about or {}).get(PRINTED))
    try:
        return _restored(column, wanted, digits)
    except (pa.ArrowException, ValueError, TypeError, AttributeError, OverflowError):
        return column


def _restored(column: pa.ChunkedArray, wanted: pa.DataType, digits: bool | None) -> pa.ChunkedArray:
    text = pa.types.is_string(column.type)
    if isinstance(wanted, pa.BaseExtensionType):
        if wanted.extension_name == "arrow.uuid" and text:
            return uuids_of(column)
        stored = restored(column, wanted.storage_type)
        return pa.chunked_array([wanted.wrap_array(chunk) for chunk in stored.chunks], wanted)
    if pa.types.is_dictionary(wanted):
        return restored(column, wanted.value_type, digits=digits or None).dictionary_encode().cast(wanted)
    if pa.types.is_run_end_encoded(wanted):
        return pc.run_end_encode(restored(column, wanted.value_type), wanted.run_end_type)
    if pa.types.is_timestamp(wanted) and text:
        return _moments(column, wanted)
    if pa.types.is_date(wanted) and text:
        return column.cast(pa.date32()).cast(wanted)
    if pa.types.is_time(wanted) and text:
        return _times(column, wanted)
    if pa.types.is_duration(wanted):
        return column.cast(pa.int64()).cast(wanted)
    if pa.types.is_float16(wanted):
        return column.cast(pa.float32()).cast(wanted, safe=False)
    if pa.types.is_floating(wanted):
        return column.cast(wanted, safe=False)
    if pa.types.is_decimal(wanted) and pa.types.is_floating(column.type):
        return _decimals(column, wanted)
    if is_bytes(wanted):  # such as b"12", which is a number where all are
        return bytes_of(column if text else column.cast(pa.string()), wanted, digits)
    if pa.types.is_nested(wanted) and text:
        return nested_of(column, wanted)
    return column.cast(wanted)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _spelled(numbers: pa.ChunkedArray, how: bytes | None) -> pa.ChunkedArray:
    spell = repr if how is None else printer(how)
    return pa.chunked_array([[None if value is None else spell(value) for value in numbers.to_pylist()]], pa.string())


def _decimals(numbers: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    """Cast doubles by way of their text: 0.1 is no decimal fraction in binary."""
    places = max(0, wanted.scale)
    texts = [None if number is None else f"{number:.{places}f}" for number in numbers.to_pylist()]
    return pa.chunked_array([pa.array(texts, pa.string())]).cast(wanted)


def _moments(texts: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    if wanted.tz is None:
        return texts.cast(wanted)
    try:
        return texts.cast(wanted)
    except pa.ArrowInvalid:  # texts without a zone are local ones
        return pc.assume_timezone(texts.cast(pa.timestamp(wanted.unit)), wanted.tz)


def _times(texts: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    values = [None if text is None else nanoseconds(text) for text in texts.to_pylist()]
    return pa.chunked_array([pa.array(values, pa.int64())]).cast(pa.time64("ns")).cast(wanted)
