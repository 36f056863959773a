"""Nested values of Arrow as JSON texts, and back to their types.

JSON has no dates, times, decimals, spans or bytes: the first three are texts as Arrow prints them, spans are whole
numbers of their unit, and bytes are `0x` and hexadecimal digits. Maps are objects where no key comes twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import time
from functools import lru_cache, partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

HEX: Final = "0x"
_UNITS: Final = ("s", "ms", "us")
_NANOSECONDS: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def json_texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the JSON of lists or objects, from which `nested_of` makes them again."""
    plain = _plain(column)
    try:
        texts = _dumped(plain.to_pylist(maps_as_pydicts="strict"))
    except (KeyError, TypeError):  # a map that has a key twice, or keys that are no texts
        texts = _dumped(plain.to_pylist())
    return pa.chunked_array([texts], pa.string())


def _dumped(values: list[Any]) -> list[str | None]:
    return [None if value is None else json.dumps(value, ensure_ascii=False, default=_spelled) for value in values]


def nested_of(texts: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return the lists or objects behind JSON texts; ValueError or ArrowException where one is none of the type."""
    values = [None if text is None else _of_json(json.loads(text), kind) for text in texts.to_pylist()]
    return pa.chunked_array([pa.array(values, kind)])


def fits_json(kind: pa.DataType, schema: dict[str, Any]) -> bool:
    """Return whether all JSON of a schema that training shows is of an Arrow type, see `kinds.seen_json`."""
    if schema.get("type") == "null" or "enum" in schema:
        return True
    if pa.types.is_dictionary(kind):
        return fits_json(kind.value_type, schema)
    if pa.types.is_struct(kind):
        parts = schema.get("properties", {})
        return all(part.name in parts and fits_json(part.type, parts[part.name]) for part in kind)
    if pa.types.is_map(kind):
        others = schema.get("additionalProperties", False)
        parts = [*schema.get("properties", {}).values(), *([others] if others else [])]
        is_closed = not others or _is_text(kind.key_type) or _fits_key(kind.key_type, schema.get("propertyNames", {}))
        return "object" in schema["type"] and is_closed and all(fits_json(kind.item_type, part) for part in parts)
    if pa.types.is_nested(kind):
        return hasattr(kind, "value_type") and ("items" not in schema or fits_json(kind.value_type, schema["items"]))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or _is_text(kind):
        return True
    return pa.types.is_duration(kind) or schema.get("format") in _formats(kind)


def _fits_key(kind: pa.DataType, names: dict[str, Any]) -> bool:
    if pa.types.is_integer(kind) and names.get("format") == "decimal":
        return "." not in names["pattern"] and len(str(2 ** (kind.bit_width - 1))) > names["maxLength"]
    return names.get("format") in _formats(kind)


def without_dictionaries(kind: pa.DataType) -> pa.DataType:
    """Return a nested type with texts in the place of dictionaries, of which Arrow does not make all."""
    return _replaced(kind, lambda inner: without_views(inner.value_type if pa.types.is_dictionary(inner) else inner))


def without_views(kind: pa.DataType) -> pa.DataType:
    """Return a plain type of texts or bytes in the place of one that views them.

    What polars 2 takes over from Arrow before 26 as views ends the process.
    """
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, without_views(kind.value_type), kind.ordered)
    if pa.types.is_string_view(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(kind) else kind


def is_bytes(kind: pa.DataType) -> bool:
    """Tell whether a type is one of bytes."""
    named = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return any(holds(kind) for holds in named)


def nanoseconds(text: str) -> int:
    """Read a time of day of up to nine digits of a second; ValueError for what is none."""
    whole, _, finer = text.partition(".")
    found = time.fromisoformat(whole)
    return ((found.hour * 60 + found.minute) * 60 + found.second) * 10**9 + int(f"{finer:0<9}"[:9])


def _formats(kind: pa.DataType) -> tuple[str, ...]:
    """Return the formats of texts that are all of a type."""
    if pa.types.is_date(kind):
        return ("date",)
    if pa.types.is_timestamp(kind):
        return ("moment",)
    if pa.types.is_time(kind):
        return ("clock",)
    return ("decimal",) if pa.types.is_decimal(kind) else ("hex",) if is_bytes(kind) else ()


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Cast what JSON has no word for to text or whole numbers, but for bytes; as it is where Arrow cannot cast it."""
    wanted = _replaced(column.type, _json_type)
    if wanted == column.type:
        return column
    try:
        made = _in_coarsest(column).cast(wanted)
        made.validate(full=True)  # Arrow casts lists of a fixed size of nulls to less than they are
    except pa.ArrowException:
        return column
    return made


def _json_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _replaced(kind.value_type, _json_type)
    if pa.types.is_duration(kind):
        return pa.int64()
    if pa.types.is_float16(kind):
        return pa.float32()
    return pa.string() if pa.types.is_temporal(kind) or pa.types.is_decimal(kind) else kind


def _in_coarsest(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Cast moments and times to the coarsest unit that keeps all of them: less is to be learned."""
    for unit in _UNITS:
        coarse = _replaced(column.type, partial(_in_unit, unit=unit))
        if coarse == column.type:
            return column
        made = column.cast(coarse, safe=False)
        made.validate(full=True)
        if made.cast(column.type, safe=False).equals(column):
            return made
    return column


def _in_unit(kind: pa.DataType, *, unit: str) -> pa.DataType:
    if _NANOSECONDS.get(getattr(kind, "unit", ""), 0) > _NANOSECONDS[unit]:
        return kind  # which is coarser
    if pa.types.is_timestamp(kind):
        return pa.timestamp(unit, kind.tz)
    if pa.types.is_time(kind):
        return pa.time64(unit) if unit == "us" else pa.time32(unit)
    return kind


def _replaced(kind: pa.DataType, leaf: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """Return a type with other types in the place of those that are not nested."""
    if pa.types.is_struct(kind):
        return pa.struct([part.with_type(_replaced(part.type, leaf)) for part in kind])
    if pa.types.is_map(kind):
        return pa.map_(_replaced(kind.key_type, leaf), _replaced(kind.item_type, leaf))
    makers: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Field], pa.DataType]], ...] = (
        (pa.types.is_list, pa.list_),
        (pa.types.is_large_list, pa.large_list),
        (pa.types.is_fixed_size_list, lambda field: pa.list_(field, kind.list_size)),
        (pa.types.is_list_view, pa.list_view),
        (pa.types.is_large_list_view, pa.large_list_view),
    )
    for is_one, make in makers:
        if is_one(kind):
            return make(kind.value_field.with_type(_replaced(kind.value_type, leaf)))
    return leaf(kind)


def _spelled(value: object) -> str:
    return HEX + value.hex() if isinstance(value, bytes) else str(value)


def _of_json(value: Any, kind: pa.DataType) -> Any:
    """Return a value of JSON as Arrow takes it."""
    if value is None:
        return None
    if pa.types.is_dictionary(kind):
        return _of_json(value, kind.value_type)
    if pa.types.is_map(kind):
        pairs = value.items() if isinstance(value, dict) else value
        return [(_of_json(key, kind.key_type), _of_json(item, kind.item_type)) for key, item in pairs]
    if pa.types.is_struct(kind):
        return {field.name: _of_json(value.get(field.name), field.type) for field in kind}
    if pa.types.is_nested(kind) and hasattr(kind, "value_type"):
        return [_of_json(item, kind.value_type) for item in value]
    if pa.types.is_float16(kind):
        return np.float16(value)
    return _of_text(value, kind) if isinstance(value, str) and not _is_text(kind) else value


@lru_cache(maxsize=65536)
def _of_text(text: str, kind: pa.DataType) -> Any:
    if is_bytes(kind):
        return bytes.fromhex(text.removeprefix(HEX))
    if pa.types.is_time(kind):
        return nanoseconds(text) // _NANOSECONDS[kind.unit]
    scalar = pc.cast(pa.scalar(text), kind)
    return scalar.value if pa.types.is_temporal(kind) else scalar.as_py()
