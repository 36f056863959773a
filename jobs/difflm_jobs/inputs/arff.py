"""Tables in files of any kind that can be read; those in ARFF go through a CSV."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from difflm.errors import ConfigError, DataError
from difflm.records.files.compression import contents
from difflm.records.files.reading import ReadConfig, read_table
from difflm.records.large.reading import read_large_table
from difflm.records.limits import refuse_wide
from difflm.records.notices import Reporter

if TYPE_CHECKING:
    import pyarrow as pa


def read_source(
    path: Path, config: ReadConfig, report: Reporter, work: Path | None = None, *, encoded: bool = False
) -> pa.Table:
    """Read the table in a file; ARFF goes through a CSV in ``work``, or in a temporary folder. With ``encoded``,
    columns of a large one may be (see `records.large`).

    Raises:
        DataError: the file is missing or cannot be read; names it.
        ConfigError: the configuration does not fit the file.
    """
    if not is_arff(path):
        return (read_large_table if encoded else read_table)(path, config, report=report)
    if work is None:
        with tempfile.TemporaryDirectory(prefix="difflm-read-") as folder:
            return read_source(path, config, report, Path(folder), encoded=encoded)
    work.mkdir(parents=True, exist_ok=True)
    converted = work / "from-arff.csv"
    try:
        arff_to_csv(path, converted, max_unpacked_mib=config.max_unpacked_mib)
        return (read_large_table if encoded else read_table)(converted, config, report=report)
    except (DataError, ConfigError) as error:  # the user knows the file by its own name only
        raise type(error)(str(error).replace(str(converted), str(path))) from None
    finally:
        converted.unlink(missing_ok=True)


_ATTRIBUTE = re.compile(r"@attribute\s+(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"|(\S+))\s+\S", re.IGNORECASE)
_VALUE = re.compile(r"\s*(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"|([^,]*))\s*(,|$)")


def is_arff(path: Path) -> bool:
    """Tell whether the name says ARFF, also gzip."""
    return path.name.lower().removesuffix(".gz").endswith(".arff")


def arff_to_csv(source: Path, target: Path, *, max_unpacked_mib: int | None = None) -> None:
    """Write the rows of a dense ARFF file as CSV in UTF-8 with a header line; `?` (missing) becomes an empty cell.

    Raises:
        DataError: the file cannot be read as UTF-8 (or gzip), unpacks to too much, has no header, is sparse, or a row
            has another number of values than there are columns; names the file and, where there is one, the line.
        StorageError: it may not be read.
    """
    data, _ = contents(source, max_unpacked_mib=max_unpacked_mib)
    try:
        _convert(data, source, target)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source}: {error.reason} (byte 0x{error.object[error.start]:02x}); save it as UTF-8"
        ) from error


def _convert(data: bytes, source: Path, target: Path) -> None:
    names: list[str] = []
    lines = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
    with target.open("w", encoding="utf-8", newline="") as out:
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
                refuse_wide(len(names), str(source))
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
        value = _text(found)
        yield "" if found.group(3) is not None and value == "?" else value
        position = found.end()
        if not found.group(4):
            return


def _text(found: re.Match[str]) -> str:
    quoted = found.group(1) if found.group(1) is not None else found.group(2)
    return found.group(3).rstrip() if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
