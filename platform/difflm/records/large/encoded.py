"""Encoded columns: for every row the place of its value among the distinct ones, as an Arrow dictionary of one chunk.

So a large table takes a byte or two for a cell, and what is asked of values is asked of each distinct one once. Columns
with too many distinct values stay as they are. No dictionary has a missing value, or one twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

IntArray: TypeAlias = npt.NDArray[Any]
MAX_VALUES: Final = 2**16


def is_encoded(column: pa.ChunkedArray) -> bool:
    """Tell whether a column is a dictionary."""
    return bool(pa.types.is_dictionary(column.type))


def has_encoded(table: Any) -> bool:
    """Tell whether a table has a column that is a dictionary."""
    return any(pa.types.is_dictionary(kind) for kind in table.schema.types)


def value_type(column: pa.ChunkedArray) -> pa.DataType:
    """Return the type of a column's values."""
    return column.type.value_type if is_encoded(column) else column.type


def joined(place_N: IntArray, values: pa.Array) -> pa.ChunkedArray:
    """Make an encoded column of the places of its rows, -1 where one has no value, in as few bytes as there can be."""
    kind = np.min_scalar_type(max(0, len(values) - 1))
    missing_N = place_N < 0
    if missing_N.any():
        indices = pa.array(np.where(missing_N, 0, place_N).astype(kind), mask=missing_N)
    else:
        indices = pa.array(place_N.astype(kind, copy=False))
    return pa.chunked_array([pa.DictionaryArray.from_arrays(indices, values)])


def parts(column: pa.ChunkedArray) -> tuple[IntArray, pa.Array]:
    """Return the places (N,) of an encoded column, -1 where a row has no value, and the values of its dictionary."""
    if column.num_chunks != 1:
        column = column.unify_dictionaries()
        array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    else:
        array = column.chunk(0)
    if not array.null_count:
        return array.indices.to_numpy(), array.dictionary
    place_N = array.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int32)
    place_N[array.is_null().to_numpy(zero_copy_only=False)] = -1
    return place_N, array.dictionary


def counted(column: pa.ChunkedArray) -> tuple[IntArray, pa.Array]:
    """Return how often (V,) an encoded column has each value of its dictionary, and these."""
    place_N, values = parts(column)
    return np.bincount(_present(place_N), minlength=len(values)), values


def places(column: pa.ChunkedArray) -> tuple[IntArray, pa.Array]:
    """Return the places (N,) of an encoded column's rows among the values that it has, in the order in which they first
    come, -1 where a row has none; and these values.
    """
    place_N, values = parts(column)
    rows, size = len(place_N), len(values)
    first_V = np.full(size + 1, rows, dtype=np.int64)
    first_V[place_N[::-1]] = np.arange(rows - 1, -1, -1)  # the last that is written is the first row
    seen = np.flatnonzero(first_V[:size] < rows)
    order = seen[np.argsort(first_V[seen])]
    rank_V = np.full(size + 1, -1, dtype=np.int32)
    rank_V[order] = np.arange(len(order), dtype=np.int32)
    return rank_V[place_N], values.take(pa.array(order))


def mapped(column: pa.ChunkedArray, made: pa.Array) -> pa.ChunkedArray:
    """Give every value of an encoded column's dictionary another one, or none; several may become the same."""
    again = made.dictionary_encode()
    place_V = again.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    place_N, _ = parts(column)
    if len(again.dictionary) == len(made):  # nothing is lost, and the order is the same
        return joined(place_N, made)
    return joined(np.append(place_V, -1)[place_N], again.dictionary)


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column with a value in every row."""
    return column.cast(column.type.value_type) if is_encoded(column) else column


def by_value(column: pa.ChunkedArray, change: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> pa.ChunkedArray:
    """Change a column by a function of single values, each distinct one once; return a value in every row."""
    if not is_encoded(column):
        return change(column)
    place_N, values = parts(column)
    made = change(pa.chunked_array([values])).combine_chunks()
    missing_N = place_N < 0
    return pa.chunked_array([made.take(pa.array(place_N, mask=missing_N if missing_N.any() else None))])


def encoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Encode a column that has few enough values, and is not of truth values, which take a bit."""
    if pa.types.is_boolean(column.type):
        return column
    if is_encoded(column):
        place_N, values = parts(column)
        return joined(place_N, values) if len(values) <= MAX_VALUES else decoded(column)
    array = column.combine_chunks()
    array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    made = array.dictionary_encode()
    if len(made.dictionary) > MAX_VALUES:
        return column
    return joined(made.indices.fill_null(-1).to_numpy(zero_copy_only=False), made.dictionary)


def compact(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Leave out of an encoded column's dictionary what no row has: files hold no value of rows that they lack."""
    place_N, values = parts(column)
    kept = np.flatnonzero(np.bincount(_present(place_N), minlength=len(values)))
    if len(kept) == len(values):
        return column
    rank_V = np.full(len(values) + 1, -1, dtype=np.int32)
    rank_V[kept] = np.arange(len(kept), dtype=np.int32)
    return joined(rank_V[place_N], values.take(pa.array(kept)))


def _present(place_N: IntArray) -> IntArray:
    return place_N[place_N >= 0] if place_N.dtype.kind == "i" else place_N
