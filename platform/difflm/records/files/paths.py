"""Paths: endings of files that can be read, those of packed files, and patterns for several files of one table."""

from __future__ import annotations

import glob
from pathlib import Path, PurePath

from difflm.errors import DataError
from difflm.records.databases.urls import refuse_database

PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
SHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
KINDS = {
    ".csv": ".csv", ".txt": ".csv", ".data": ".csv", ".dat": ".csv", ".psv": ".csv", ".prn": ".csv", ".asc": ".csv",
    ".tsv": ".tsv", ".tab": ".tsv",
    ".jsonl": ".jsonl", ".ndjson": ".jsonl", ".json": ".json",
    ".parquet": ".parquet", ".pq": ".parquet", ".arrow": ".arrow", ".feather": ".arrow", ".ipc": ".arrow",
    **dict.fromkeys(SHEETS, ".xlsx"),
}  # fmt: skip
"""Endings of tables that can be read, each also packed, and the usual ending of their kind."""


def unpacked_name(name: str) -> str:
    """Return a file's name without the ending of its packing."""
    for ending in PACKED:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def ending_of(path: PurePath) -> str:
    """Return the ending of a file's name in small letters, without that of its packing."""
    return PurePath(unpacked_name(path.name)).suffix.lower()


def is_pattern(path: Path) -> bool:
    """Tell whether a path means all files that it matches, such as parts/*.csv, and is no file itself."""
    return glob.has_magic(str(path)) and not path.exists()


def files_of(path: Path) -> list[Path]:
    """Return the files that a path means, in the order of their names.

    Raises:
        DataError: it is a pattern that no file matches.
        ConfigError: it is the URL of a database.
    """
    refuse_database(str(path), "the table")  # which as a path would be shown, password and all
    if not is_pattern(path):
        return [path]
    found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
    if not found:
        raise DataError(f"{path}: no file matches this pattern; check the path")
    return found
