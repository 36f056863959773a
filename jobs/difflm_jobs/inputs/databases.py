"""Tables of databases as what a run reads: a Parquet file in its folder, beside a note of where it is from.

So a run is one of a table as it was at one time, goes on after a kill without the database, and nothing that it writes
down holds a password. A table with other rows is another file, and other artifacts.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from difflm.errors import ConfigError, DataError
from difflm.records.databases.urls import DatabaseUrl, is_database
from difflm.regular_files import given_path

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


def lay_down(source: DatabaseUrl, folder: Path) -> Path:
    """Read a table into the folder of a run; return the file, which is named by its hash.

    Raises:
        DataError: the database cannot be reached, or there is no such table.
        StorageError: the disk is full or writing is not permitted.
    """
    import pyarrow.parquet as pq

    from difflm.artifacts.atomic import storage_errors, write_bytes_atomic, write_json_atomic
    from difflm.artifacts.run_folder import INPUT
    from difflm.records.databases.tables import read_database

    table, sink = read_database(source), io.BytesIO()
    pq.write_table(table, sink)
    content = sink.getvalue()
    path = (folder / INPUT).resolve() / f"table-{hashlib.sha256(content).hexdigest()[:12]}.parquet"
    if not path.exists():
        with storage_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes_atomic(path, content, mode=0o600)
            read_at = datetime.now(UTC).isoformat(timespec="seconds")
            about = {"from": str(source), "rows": table.num_rows, "read_at": read_at}
            write_json_atomic(path.with_suffix(".json"), about)
    return path


def table_or_file(table: Any, folder: Path) -> Any:
    """Return a table as it was given, or for the URL of a database the file that it was laid down as."""
    return lay_down(DatabaseUrl.parse(table), folder) if is_database(table) else table


def from_database(given: str, asked: Mapping[str, Any], runs: Path) -> tuple[str, dict[str, Any]]:
    """Return what to run, and what was asked of it: for the URL of a database the file that its table was laid down
    as, in the folder of the run, which is called after the table unless it has a name.
    """
    if not is_database(given):
        return given, dict(asked)
    source = DatabaseUrl.parse(given)
    name = asked.get("name") or _NOT_IN_NAMES.sub("-", source.name).strip("-._") or "experiment"
    return str(lay_down(source, runs / name)), {**asked, "name": name}


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Rows that are first written to a file of this machine, all of them, and then into a table at once."""

    target: DatabaseUrl
    file: Path

    @classmethod
    def to(cls, out: str, *, asked_by: str, format_: str | None) -> Delivery:
        """Check a destination before any work; the file is the same for the same rows to the same place.

        Raises:
            ConfigError: it is no table that can be made or added to, or a format is given.
            DataError: the database cannot be reached.
        """
        from difflm.records.databases.writing import check_destination

        target = DatabaseUrl.parse(out)
        if format_ is not None:
            raise ConfigError(f"--format {format_}: {target} is a database, whose tables have no format; leave it out")
        check_destination(target)
        name = hashlib.sha256(f"{asked_by}\n{target}".encode()).hexdigest()[:12]
        return cls(target=target, file=_private_folder() / f"rows-{name}.arrow")

    def deliver(self) -> None:
        """Write the rows of the file into the table, and remove the file; where that fails, it is kept, and named."""
        import pyarrow as pa

        from difflm.records.databases.writing import write_database

        with pa.memory_map(str(self.file)) as mapped:
            try:
                write_database(pa.ipc.open_file(mapped).read_all(), self.target)
            except DataError as error:
                raise DataError(f"{error}; the rows are kept in {self.file}") from None
        self.file.unlink()


def _private_folder() -> Path:
    """Make the folder for rows on their way, which outlives a killed process and is for this user alone."""
    import os
    import stat
    import tempfile

    folder = Path(tempfile.gettempdir()) / f"difflm-rows-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()  # not what a link of somebody else leads to
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ConfigError(
            f"{folder}: belongs to another user or is no folder; remove it or set TMPDIR to a folder of your own"
        )
    folder.chmod(0o700)
    return folder


def write_table(frame: Any, url: str) -> None:
    """Write a frame into a table of a database, all rows or none; or into a workbook, in which texts are texts.

    Args:
        frame: a pandas or polars DataFrame, or a pyarrow Table.
        url: such as ``"postgresql://ann@host/sales?table=synthetic"`` or ``"sqlite:///rows.db?table=synthetic"``; a
            table that is there already needs ``&if_exists=append`` or ``&if_exists=replace``. Or the path of a new
            file that ends in ``.xlsx`` or ``.ods``.

    Raises:
        ConfigError: the URL cannot be used, such as one without a table, or with one that is there.
        DataError: the database cannot be reached or refuses the rows, or a sheet cannot hold them.
        StorageError: the file cannot be written.
    """
    from difflm.artifacts.atomic import storage_errors, write_bytes_atomic
    from difflm.artifacts.formats import encode_table
    from difflm.artifacts.workbooks import WORKBOOKS
    from difflm.records.databases.writing import write_database
    from difflm.records.frames.frames import arrow_of

    path = Path() if is_database(url) else given_path(url, name="url")
    ending = path.suffix[1:]
    if ending in WORKBOOKS:
        if path.exists():
            raise ConfigError(f"{url}: is there already; give another name, or remove it")
        with storage_errors(path):  # its library writes to a temporary file first
            content = encode_table(arrow_of(frame, name="table"), ending)
        write_bytes_atomic(path, content)
        return
    if not is_database(url):
        raise ConfigError(
            f"{url!r} is no URL of a database; give one such as sqlite:///rows.db?table=synthetic, or rows.xlsx"
        )
    write_database(arrow_of(frame, name="table"), DatabaseUrl.parse(url))
