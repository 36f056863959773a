"""Files of records that are texts: code and tools, as tables with the columns of their kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difflm.errors import DataError
from difflm.records.files.json_files import read_json_rows
from difflm.records.files.paths import ending_of
from difflm.records.files.reading import ReadConfig, read_table
from difflm.records.notices import Notice, Reporter

if TYPE_CHECKING:
    import pyarrow as pa

JSON_ENDINGS = (".json", ".jsonl", ".ndjson")


def read_code_records(path: Path, config: ReadConfig, report: Reporter) -> pa.Table:
    """Read code: Python files in a folder, or the column of a table or of objects that holds it.

    Raises:
        DataError: names the file and the place in it.
    """
    from difflm.records.text_codec import code_of_table, read_code

    if ending_of(path) in (".csv", ".tsv"):
        return code_of_table(read_table(path, config, report=report), str(path))
    return read_code(path, encoding=config.encoding)


def read_tools(path: Path, config: ReadConfig, report: Reporter) -> pa.Table:
    """Read tools; those without an API have no record, and are counted.

    Raises:
        DataError: names the file and the place in it.
    """
    from difflm.records.tool_codec import KEYS, records_of, table_of_tools

    if ending_of(path) not in JSON_ENDINGS:
        table = read_table(path, config, report=report)
        absent = [key for key in KEYS if key not in table.column_names]
        if absent:
            raise DataError(f"{path}: no column {absent[0]!r}; a table of tools has {', '.join(KEYS)}")
        return table.select(list(KEYS))
    rows = read_json_rows(path, encoding=config.encoding)
    if rows and "api_list" not in rows[0]:
        return _table_of_rows(rows, path)
    records, empty = [], 0
    for place, row in enumerate(rows, start=1):
        found = records_of(row, f"{path}: tool {place}")
        empty += not found
        records += found
    if empty:
        report(Notice(column=None, code="no_api", count=empty, message=f"{empty} tools have no API and give no record"))
    if not records:
        raise DataError(f"{path}: no tool with an API; give tools as ToolBench has them")
    return table_of_tools(records)


def _table_of_rows(rows: list[dict[str, Any]], path: Path) -> pa.Table:
    """Make a table of records that are records already, whatever is wrong with them; `parameters` as text."""
    import pyarrow as pa

    from difflm.records.tool_codec import KEYS

    for place, row in enumerate(rows, start=1):
        absent = [key for key in KEYS if key not in row]
        if absent:
            raise DataError(f"{path}: record {place} has no key {absent[0]!r}; a tool record has {', '.join(KEYS)}")

    def text(value: object) -> str | None:
        return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return pa.table({key: pa.array([text(row[key]) for row in rows], pa.string()) for key in KEYS})
