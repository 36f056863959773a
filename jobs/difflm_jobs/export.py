"""Exporting: the shards of a synthesis as one file, a shard in memory at a time."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difflm.artifacts.atomic import storage_errors, temporary_sibling
from difflm.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = (".csv", ".jsonl", ".parquet")
_BOOLEANS = {True: "true", False: "false"}


def check_format(path: Path) -> None:
    """Refuse a file name whose ending says no format that can be written.

    Raises:
        ConfigError: names the endings that can be.
    """
    if path.suffix not in FORMATS:
        raise ConfigError(f"{path}: unknown ending {path.suffix!r}; give a name that ends in {', '.join(FORMATS)}")


def export(shards: Path, path: Path) -> int:
    """Write all `part-*.parquet` of a folder, in order, as one CSV, JSON lines or Parquet file; returns the rows.

    Raises:
        ConfigError: the ending of ``path`` says no known format.
        StorageError: the disk is full or writing is not permitted; nothing half-written stays behind.
    """
    import pyarrow.parquet as pq

    check_format(path)
    rows = 0
    temporary = temporary_sibling(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = sorted(shards.glob("part-*.parquet"))
        try:
            write, close = _writer(path.suffix, temporary, pq.read_schema(parts[0]))
            try:
                for part in parts:
                    table = pq.read_table(part)
                    write(table)
                    rows += table.num_rows
            finally:
                close()
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return rows


def _writer(suffix: str, path: Path, schema: pa.Schema) -> tuple[Callable[[pa.Table], Any], Callable[[], Any]]:
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        parquet = pq.ParquetWriter(path, schema)
        return parquet.write_table, parquet.close
    lines = path.open("w", encoding="utf-8", newline="")
    if suffix == ".csv":
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(schema.names)
        return lambda table: writer.writerows(_cells(table)), lines.close

    def write(table: pa.Table) -> None:
        for row in table.to_pylist():
            lines.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")

    return write, lines.close


def _cells(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Rows as CSV spells them: nothing for a missing value, true and false for booleans."""
    import pyarrow as pa

    columns = []
    for column in table.columns:
        values = column.to_pylist()
        columns.append([_BOOLEANS.get(value) for value in values] if pa.types.is_boolean(column.type) else values)
    return zip(*columns, strict=True)
