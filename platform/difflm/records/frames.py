"""Frames: tables of pandas, polars and Arrow as the tables that files give."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from difflm.errors import DataError
from difflm.records.notices import Reporter, ignore
from difflm.records.reading import ReadConfig, _canonical, read_table

Frame: TypeAlias = Any
"""A pandas or polars DataFrame, or a pyarrow Table."""


def is_path(given: object) -> bool:
    """Say whether a table is given by the path of a file."""
    return isinstance(given, (str, Path))


def to_table(
    given: Frame | str | Path, config: ReadConfig | None = None, *, name: str = "table", report: Reporter = ignore
) -> pa.Table:
    """Read any table that people give: a path as `read_table` does, a frame just as a Parquet file of it would be."""
    if is_path(given):
        return read_table(given, config, report=report)
    library = type(given).__module__.split(".")[0]
    if library == "pandas":
        given = pa.Table.from_pandas(given, preserve_index=False)
    elif library == "polars":
        given = given.to_arrow()
    elif not isinstance(given, pa.Table):
        raise DataError(
            f"{name}: a {type(given).__qualname__} is no table; give a pandas or polars DataFrame, a "
            "pyarrow Table, or the path of a file"
        )
    columns = [_canonical(column, label, report) for label, column in zip(given.column_names, given.columns)]  # noqa: B905
    return pa.Table.from_arrays(columns, names=given.column_names)
