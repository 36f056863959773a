"""Files of finished records: a file, the parts of a dataset in their order, or a folder of files of one kind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from difflm.artifacts.dataset import DATASET_MANIFEST, JOB_NAME, Dataset
from difflm.artifacts.storage import open_store
from difflm.errors import ConfigError, DataError
from difflm.records.databases.urls import is_database, shown_source
from difflm.records.files.reading import read_table
from difflm.records.notices import Reporter
from difflm_jobs.inputs.record_kinds import Kind, record_kind

if TYPE_CHECKING:
    import pyarrow as pa

    from difflm.records.files.reading import ReadConfig


def read_records(
    source: Path | str, kind: Kind, read: ReadConfig, report: Reporter, *, encoded: bool = False
) -> pa.Table:
    """Read all records of a kind behind a path, or a table of a database; columns whose types differ between files are
    text. With ``encoded``, columns of a large file may be (see `records.large`).

    Raises:
        DataError: nothing is there, a dataset is not finished, files have other columns or cannot be read.
        ConfigError: a database, of another kind than a table.
    """
    import pyarrow as pa

    from difflm.records.files.source import joined_columns

    what = record_kind(kind)
    if isinstance(source, str) and is_database(source):
        if not what.tabular:
            raise ConfigError(
                f"--kind {kind}: {shown_source(source)} is a database; records of {kind} are read from files"
            )
        return read_table(source, read, report=report)
    path = Path(source)
    if what.folders and path.is_dir() and not (path / JOB_NAME).is_file():
        return what.read(path, read, report)
    files = _files(path)
    if encoded and len(files) == 1:
        return what.read(files[0], read, report, encoded=True).replace_schema_metadata(None)
    tables = [what.read(file, read, report) for file in files]
    names = tables[0].column_names
    for file, table in zip(files, tables, strict=True):
        if sorted(table.column_names) != sorted(names):
            raise DataError(f"{file}: other columns than {files[0]} has; give files of one table")
    return pa.table({name: joined_columns([table.column(name) for table in tables]) for name in names})


def _files(path: Path) -> list[Path]:
    """List the files with records; a dataset's are those that count: leftovers of a killed job may lie beside them."""
    if not path.is_dir():
        return [path]
    if (path / JOB_NAME).is_file():
        dataset = Dataset(store=open_store(str(path)))
        if dataset.read_json(DATASET_MANIFEST) is None:
            raise DataError(f"{path}: the dataset is not finished; give the command that makes it again")
        return _some((path / entry.file for entry in dataset.entries() if entry.file and entry.rows), path)
    files = _some((file for file in path.iterdir() if file.is_file() and not file.name.startswith((".", "_"))), path)
    if len({file.suffix for file in files}) > 1:
        raise DataError(f"{path}: files of several kinds, such as {files[0].name} and {files[-1].name}; give one file")
    return sorted(files)


def _some(found: Iterable[Path], path: Path) -> list[Path]:
    files = list(found)
    if not files:
        raise DataError(f"{path}: a folder without records; give a file, a dataset, or a folder of files of one kind")
    return files
