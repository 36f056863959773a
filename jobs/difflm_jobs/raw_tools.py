"""`difflm export-tools`: tool records back to raw tools as ToolBench has them, one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path

from difflm.artifacts import write_bytes_atomic
from difflm.records.notices import ignore
from difflm.records.reading import ReadConfig
from difflm.records.tool_codec import KEYS, tools_of, tools_of_table
from difflm_jobs.record_kinds import read_text_records


def export_tools(records: Path, out: Path) -> tuple[int, int]:
    """Write the tools of a file of records, of any readable kind; returns the numbers of records and of tools.

    Records of one category, tool name and tool description are one tool, wherever they stand; tools and their APIs
    keep the order in which they come first.

    Raises:
        DataError: the file is missing, no table or JSON of tool records, or a value of `parameters` is no JSON.
        StorageError: the disk is full or writing is not permitted.
    """
    found = tools_of_table(read_text_records(records, "tools", ReadConfig(), ignore), place=str(records))
    places: dict[tuple[object, ...], int] = {}
    for record in found:
        places.setdefault(tuple(record[key] for key in KEYS[:3]), len(places))
    tools = tools_of(sorted(found, key=lambda record: places[tuple(record[key] for key in KEYS[:3])]))
    write_bytes_atomic(out, "".join(json.dumps(tool, ensure_ascii=False) + "\n" for tool in tools).encode())
    return len(found), len(tools)
