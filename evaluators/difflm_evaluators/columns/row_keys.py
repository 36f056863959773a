"""Row keys: rows as they would be printed, as numbers that are equal exactly where the rows are.

Numbers are rounded to what their field prints; missing equals missing; free text counts. Shapes: N rows.

Row numbering: equal rows of small numbers get one number, exactly and without hashing. Shapes: N rows, C columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from difflm.records.kinds.columns import round_decimals
from difflm.records.schema import DecimalField, RecordSchema
from difflm_evaluators.columns.columns import Column, Columns, FloatArray, IntArray
from difflm_evaluators.columns.labels import Labels

MOST = 2**62


class RowNumbering:
    """The distinct rows of a reference, numbered from 0.

    A row's key is built column by column. Before it would outgrow 64 bits it is replaced by its place among the
    reference rows' keys. Memory: at most 8 bytes per reference row for each such place.
    """

    def __init__(self, codes_NC: IntArray, sizes: tuple[int, ...]) -> None:
        self._sizes = sizes
        self._places: dict[int, IntArray] = {}
        key_N, bound = np.zeros(len(codes_NC), dtype=np.int64), 1
        for column, size in enumerate(sizes):
            if bound * size >= MOST:
                self._places[column] = np.unique(key_N)
                key_N, bound = places(self._places[column], key_N), len(self._places[column])
            key_N, bound = key_N * size + codes_NC[:, column], bound * size
        self.keys_K = np.unique(key_N)

    def __len__(self) -> int:
        return len(self.keys_K)

    def number(self, codes_NC: IntArray) -> IntArray:
        """Look up the number of the reference rows equal to each row, (N,); -1 where there is none."""
        key_N = np.zeros(len(codes_NC), dtype=np.int64)
        known_N = (codes_NC >= 0).all(axis=1)
        for column, size in enumerate(self._sizes):
            if column in self._places:
                key_N = places(self._places[column], key_N)
                known_N &= key_N >= 0
            key_N = np.where(known_N, key_N * size + codes_NC[:, column], 0)
        return np.where(known_N, places(self.keys_K, key_N), -1)


def places(sorted_K: npt.NDArray[np.generic], values_N: npt.NDArray[np.generic]) -> IntArray:
    """Return (N,) places in the distinct ascending `sorted_K`, -1 where a value is not there."""
    if len(sorted_K) == 0:
        return np.full(len(values_N), -1, dtype=np.int64)
    place_N = np.minimum(np.searchsorted(sorted_K, values_N), len(sorted_K) - 1).astype(np.int64)
    place_N[sorted_K[place_N] != values_N] = -1
    return place_N


HashArray = npt.NDArray[np.uint64]


def printed_numbers(column: Column, schema: RecordSchema) -> FloatArray:
    """Return, (N,), the numbers of a column as its field prints them; NaN where missing."""
    field, numbers_N = schema.field(column.name), column.numbers_N
    if not isinstance(field, DecimalField):
        return numbers_N + 0.0  # -0 is 0
    array = pa.chunked_array([pa.array(numbers_N, from_pandas=True)])
    printed_N: FloatArray = round_decimals(array, field.decimals, field.exponent).to_numpy()
    return printed_N + 0.0


def printed_columns(table: Columns, schema: RecordSchema) -> dict[str, Column]:
    """Round the decimals of columns to what their fields print."""
    return {
        name: replace(column, numbers_N=printed_numbers(column, schema))
        if isinstance(schema.field(name), DecimalField)
        else column
        for name, column in table.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownColumn:
    """The distinct values of a training column, numbered: texts by `texts`, numbers by their place in `numbers_K`."""

    texts: Mapping[str, int]
    numbers_K: FloatArray
    size: int

    def code(self, column: Column, schema: RecordSchema) -> IntArray:
        """Return (N,) numbers below `size` (missing has one), -1 for a value that the training column lacks."""
        missing = self.size - 1
        if column.kind != "numeric":
            labels = Labels.of(column.labels_N)
            return labels.lookup(lambda text: missing if text is None else self.texts.get(text, -1))
        printed_N = printed_numbers(column, schema)
        code_N = places(self.numbers_K, printed_N)
        code_N[np.isnan(printed_N)] = missing
        return code_N


class KnownRows:
    """Says exactly which rows equal a row of the training table; memory proportional to the training rows."""

    def __init__(self, train: Columns, schema: RecordSchema) -> None:
        self._schema = schema
        self._columns = {name: known_column(train[name], schema) for name in schema.names}
        sizes = tuple(known.size for known in self._columns.values())
        self.numbering = RowNumbering(self._codes_NC(train), sizes)

    def holds(self, table: Columns) -> npt.NDArray[np.bool_]:
        """Mark, (N,), each row of `table` that equals a training row in every column."""
        return self.number(table) >= 0

    def __len__(self) -> int:
        return len(self.numbering)

    def number(self, table: Columns) -> IntArray:
        """Look up, (N,), the number of the training rows that each row of `table` equals, -1 where there are none."""
        return self.numbering.number(self._codes_NC(table))

    def _codes_NC(self, table: Columns) -> IntArray:
        return np.stack([known.code(table[name], self._schema) for name, known in self._columns.items()], axis=1)


def known_column(column: Column, schema: RecordSchema) -> KnownColumn:
    """Give the distinct values of a training column their numbers."""
    if column.kind != "numeric":
        texts = {text: code for code, text in enumerate(dict.fromkeys(Labels.of(column.labels_N).values))}
        return KnownColumn(texts=texts, numbers_K=np.zeros(0), size=len(texts) + 1)
    printed_N = printed_numbers(column, schema)
    numbers_K = np.unique(printed_N[~np.isnan(printed_N)])
    return KnownColumn(texts={}, numbers_K=numbers_K, size=len(numbers_K) + 1)


def row_hashes(table: Columns, schema: RecordSchema) -> HashArray:
    """Return (N,) 64-bit hashes, equal for equal rows, spread evenly otherwise; the same in every process."""
    row_N = np.zeros(len(next(iter(table.values()))), dtype=np.uint64)
    for name in schema.names:
        column = table[name]
        if column.kind == "numeric":
            numbers_N = np.ascontiguousarray(printed_numbers(column, schema))
            numbers_N[np.isnan(numbers_N)] = np.nan  # one spelling of NaN
            code_N = numbers_N.view(np.uint64)
        else:
            labels = Labels.of(column.labels_N)
            hashes_V = [*(int.from_bytes(blake2b(t.encode(), digest_size=8).digest()) for t in labels.values), 0]
            code_N = np.array(hashes_V, dtype=np.uint64)[labels.codes_N]
        row_N = _mixed(_mixed(row_N) + code_N)
    return row_N


def table_digest(table: Columns, schema: RecordSchema) -> str:
    """Digest the rows of a table, the same in whatever order they come."""
    hashes_N = row_hashes(table, schema)
    total = int(_mixed(hashes_N).sum(dtype=np.uint64))
    return blake2b(f"{schema.names} {len(hashes_N)} {total}".encode(), digest_size=16).hexdigest()


def _mixed(values_N: HashArray) -> HashArray:
    """Apply the finalizer of SplitMix64 (Steele, Lea and Flood 2014): a bijection that mixes all bits."""
    mixed_N = values_N + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed_N = (mixed_N ^ (mixed_N >> np.uint64(shift))) * np.uint64(factor)
    return mixed_N ^ (mixed_N >> np.uint64(31))
