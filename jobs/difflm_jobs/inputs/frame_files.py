"""Frames from Python as what a run reads: a Parquet file in its folder, which is one of the caller's or temporary."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from difflm.artifacts.atomic import write_bytes_atomic
from difflm.artifacts.run_folder import INPUT
from difflm.errors import DataError, StorageError
from difflm.records.files.reading import unique_names
from difflm.records.frames.frames import Frame, FrameTemplate, arrow_of


class TemporaryFolder:
    """A folder that is gone with the last who holds this object, or with the process, without a warning."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="difflm-fit-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenFrame:
    """A frame that is to be learned, as the Parquet file that a run reads."""

    path: Path
    table: pa.Table
    content: bytes
    template: FrameTemplate

    @classmethod
    def of(cls, frame: Frame, folder: Path) -> GivenFrame:
        """Convert a frame. The file is named by its hash: another table in the same folder leaves it alone."""
        import pyarrow.parquet as pq

        table, sink = arrow_of(frame, name="table"), io.BytesIO()
        try:
            pq.write_table(table, sink)
        except pa.ArrowNotImplementedError as error:
            raise DataError(f"table: a column is of a type that no table file has ({error}); cast it") from error
        content = sink.getvalue()
        path = (folder / INPUT).resolve() / f"table-{hashlib.sha256(content).hexdigest()[:12]}.parquet"
        return cls(path=path, table=table, content=content, template=FrameTemplate.of(frame, table=table))

    def lay_down(self, target: str | None) -> None:
        """Write the file, unless the target is not there."""
        names = self.table.column_names
        if target is not None and target not in (*names, *unique_names(names)):
            known = ", ".join(map(repr, names))
            raise DataError(f"table: no target column {target!r}; it has {known}; give another name as the target")
        write_bytes_atomic(self.path, self.content, mode=0o600)


def refuse_no_folder(folder: Path) -> None:
    """Try to make the folder of a run, and leave nothing behind: it comes with the first that is written into it."""
    try:
        there = folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        if not there:
            with suppress(OSError):  # another fit is already there
                folder.rmdir()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageError(f"out: {folder}: cannot be made a folder ({reason}); give another one") from error
