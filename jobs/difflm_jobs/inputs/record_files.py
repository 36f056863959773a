"""Files of finished records: a file, the parts of a dataset in their order, or a folder of files of one kind."""

from __future__ import annotations

import csv
import gzip
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from difflm.artifacts.dataset import DATASET_MANIFEST, JOB_NAME, Dataset
from difflm.artifacts.storage import open_store
from difflm.errors import ConfigError, DataError
from difflm.records.notices import Notice, Reporter
from difflm.records.reading import ReadConfig, read_table
from difflm_jobs.inputs.record_kinds import Kind, read_text_records

if TYPE_CHECKING:
    import pyarrow as pa


_ATTRIBUTE = re.compile(r"@attribute\s+(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"|(\S+))\s+\S", re.IGNORECASE)
_VALUE = re.compile(r"\s*(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"|([^,]*?))\s*(,|$)")


def is_arff(path: Path) -> bool:
    """Whether the name says ARFF, also gzip."""
    return path.name.lower().removesuffix(".gz").endswith(".arff")


def arff_to_csv(source: Path, target: Path) -> None:
    """Write the rows of a dense ARFF file as CSV in UTF-8 with a header line; `?` (missing) becomes an empty cell.

    Raises:
        DataError: the file cannot be read as UTF-8 (or gzip), has no header, is sparse, or a row has another number of
            values than there are columns; names the file and, where there is one, the line.
    """
    try:
        _convert(source, target)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source}: {error.reason} (byte 0x{error.object[error.start]:02x}); save it as UTF-8"
        ) from error
    except (gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{source}: cannot be unpacked ({error}); is it complete and what its name says?") from error


def _convert(source: Path, target: Path) -> None:
    opener = gzip.open if source.suffix.lower() == ".gz" else open
    names: list[str] = []
    with opener(source, "rt", encoding="utf-8") as lines, target.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        in_data = False
        for number, line in enumerate(lines, start=1):
            text = line.strip()
            if not text or text.startswith("%"):
                continue
            if in_data:
                writer.writerow(_row(text, names, f"{source}, line {number}"))
            elif found := _ATTRIBUTE.match(text):
                names.append(_text(found))
            elif text.lower().startswith("@data"):
                in_data = True
                writer.writerow(names)
    if not in_data or not names:
        raise DataError(f"{source}: no @attribute and @data lines; is it ARFF?")


def _row(text: str, names: list[str], where: str) -> list[str]:
    if text.startswith("{"):
        raise DataError(f"{where}: sparse ARFF is not read; convert the file to CSV")
    values = list(_values(text))
    if len(values) != len(names):
        raise DataError(f"{where}: {len(values)} values for {len(names)} columns; mend the line or convert it to CSV")
    return values


def _values(text: str) -> Iterator[str]:
    position = 0
    while True:
        found = _VALUE.match(text, position)
        if found is None:
            return
        yield "" if found.group(3) == "?" else _text(found)
        position = found.end()
        if not found.group(4):
            return


def _text(found: re.Match[str]) -> str:
    quoted = found.group(1) if found.group(1) is not None else found.group(2)
    return found.group(3) if quoted is None else re.sub(r"\\(.)", r"\1", quoted)


def read_source(path: Path, config: ReadConfig, work: Path, notices: list[Notice]) -> pa.Table:
    """The table in a file of any kind that can be read; ARFF goes through a CSV in ``work``."""
    if not is_arff(path):
        return read_table(path, config, report=notices.append)
    work.mkdir(parents=True, exist_ok=True)
    converted = work / "from-arff.csv"
    try:
        arff_to_csv(path, converted)
        return read_table(converted, config, report=notices.append)
    except (DataError, ConfigError) as error:  # the person knows the file by its own name only
        raise type(error)(str(error).replace(str(converted), str(path))) from None
    finally:
        converted.unlink(missing_ok=True)


def read_records(path: Path, kind: Kind, read: ReadConfig, report: Reporter) -> pa.Table:
    """All records of a kind behind a path; columns whose types differ between files are text.

    Raises:
        DataError: nothing is there, a dataset is not finished, files have other columns or cannot be read.
    """
    import pyarrow as pa

    if kind == "code" and path.is_dir() and not (path / JOB_NAME).is_file():
        return read_text_records(path, kind, read, report)  # a folder of Python files
    files = _files(path)
    tables = [_read(file, kind, read, report) for file in files]
    names = tables[0].column_names
    for file, table in zip(files, tables, strict=True):
        if sorted(table.column_names) != sorted(names):
            raise DataError(f"{file}: other columns than {files[0]} has; give files of one table")
    return pa.table({name: _joined([table.column(name) for table in tables]) for name in names})


def _joined(columns: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    import pyarrow as pa

    from difflm.records.columns import as_text

    if len({column.type for column in columns}) > 1:
        columns = [as_text(column) for column in columns]
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], columns[0].type)


def _read(path: Path, kind: Kind, read: ReadConfig, report: Reporter) -> pa.Table:
    if kind != "table":
        return read_text_records(path, kind, read, report)
    notices: list[Notice] = []
    with tempfile.TemporaryDirectory(prefix="difflm-read-") as work:
        table = read_source(path, read, Path(work), notices)
    for notice in notices:
        report(notice)
    return table


def _files(path: Path) -> list[Path]:
    """The files with records; a dataset's are those that count, for leftovers of a killed job may lie beside them."""
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
