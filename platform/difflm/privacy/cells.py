"""Cells of a table as private summaries read them: plain text, sorted into a fixed list of kinds, and whose they are.

Shape legend: N rows, D distinct texts of a column.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from difflm.errors import DataError

MAX_DECIMALS: Final = 6
KINDS: Final = ("integer", *(f"decimal{places}" for places in range(1, MAX_DECIMALS + 1)), "date", "datetime", "other")
"""What a cell may be. The list is public: a column's kind is voted on by its cells, with noise."""

_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,17})")
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d{0,14})\.(\d{1,20})")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DATETIME = re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}")
_EPOCH: Final = datetime(1970, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellColumn:
    """A column's distinct texts and the text of every row: -1 where there is none."""

    name: str
    texts_D: Sequence[str]
    code_N: npt.NDArray[np.int64]

    def rows(self, chosen: npt.NDArray[np.int64]) -> CellColumn:
        """Return some of the rows, with the same texts."""
        return CellColumn(name=self.name, texts_D=self.texts_D, code_N=self.code_N[chosen])

    def counts_D(self) -> npt.NDArray[np.int64]:
        """Count the rows of every text."""
        return np.bincount(self.code_N[self.code_N >= 0], minlength=len(self.texts_D))


def cell_columns(table: pa.Table) -> list[CellColumn]:
    """Read every column of a table as text."""
    return [_cells(name, table.column(name)) for name in table.column_names]


def _cells(name: str, column: pa.ChunkedArray) -> CellColumn:
    encoded = pc.dictionary_encode(_as_text(name, column)).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = pa.concat_arrays(encoded.chunks) if encoded.num_chunks else encoded.type.wrap_array(pa.array([]))
    codes = pc.fill_null(encoded.indices.cast(pa.int64()), -1)
    return CellColumn(name=name, texts_D=encoded.dictionary.to_pylist(), code_N=codes.to_numpy(zero_copy_only=False))


def _as_text(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _as_text(name, pc.cast(column, kind.value_type))
    if pa.types.is_floating(kind):
        texts = [None if value is None or value != value else _plain(value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if pa.types.is_timestamp(kind):
        return pc.strftime(pc.cast(column, pa.timestamp("s"), safe=False), format="%Y-%m-%d %H:%M:%S")
    try:
        return pc.cast(column, pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataError(
            f"column {name!r} is of the type {kind}, which has no private form; leave it out, or give it as text"
        ) from None


def _plain(value: float) -> str:
    if value == int(value) and abs(value) < 2**53:
        return str(int(value))
    return np.format_float_positional(value, trim="-", precision=MAX_DECIMALS)


def kind_of(text: str) -> str:
    """Return which of `KINDS` a text is."""
    if _INTEGER.fullmatch(text):
        return "integer"
    if found := _DECIMAL.fullmatch(text):
        return f"decimal{min(len(found[1]), MAX_DECIMALS)}"
    if _DATE.fullmatch(text) and number_of(text, "date", 0) is not None:
        return "date"
    if _DATETIME.fullmatch(text) and number_of(text, "datetime", 0) is not None:
        return "datetime"
    return "other"


def number_of(text: str, kind: str, decimals: int) -> int | None:
    """Return a number in units of its last decimal, a date in days or seconds of the epoch; None for another text."""
    try:
        if kind == "date":
            return (date.fromisoformat(text) - _EPOCH.date()).days if _DATE.fullmatch(text) else None
        if kind == "datetime":
            moment = datetime.fromisoformat(text) if _DATETIME.fullmatch(text) else None
            return None if moment is None else round((moment - _EPOCH).total_seconds())
    except ValueError:
        return None
    if _INTEGER.fullmatch(text):
        whole = int(text) * 10**decimals
        return whole if abs(whole) < 2**62 else None
    if _DECIMAL.fullmatch(text):
        scaled = round(float(text) * 10**decimals)
        return scaled if abs(scaled) < 2**62 else None
    return None


def text_of(number: int, kind: str, decimals: int) -> str:
    """Print what `number_of` reads."""
    try:
        if kind == "date":
            return (_EPOCH.date() + timedelta(days=number)).isoformat()
        if kind == "datetime":
            return (_EPOCH + timedelta(seconds=number)).isoformat(sep=" ")
    except OverflowError:
        return "9999-12-31" if kind == "date" else "9999-12-31 00:00:00"
    if not decimals:
        return str(number)
    whole, rest = divmod(abs(number), 10**decimals)
    return f"{'-' if number < 0 else ''}{whole}.{rest:0{decimals}d}"
