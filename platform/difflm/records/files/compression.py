"""Compression: the bytes of a file, taken out of .gz, .bz2, .xz, .zst and .zip, and what its name says it then is.

A few thousand bytes may unpack to more than the machine holds. So whatever unpacks, this and the kinds of files that
are packed within, is held to `Expansion`: 200 times the file, at least 256 MiB and at most 16 GiB, unless told more.
"""

from __future__ import annotations

import io
import lzma
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final, Protocol, Self

import pyarrow as pa

from difflm.errors import DataError, StorageError
from difflm.records.files.paths import KINDS, PACKED, ending_of
from difflm.records.files.remedies import setting

_MIB = 2**20
_MAX_RATIO, _LEAST, _MOST = 200, 256 * _MIB, 16 * 1024 * _MIB
_CHUNK = 4 * _MIB

_CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_CONTENTS = (
    (b"\x1f\x8b", "gzip", ".gz"),
    (b"BZh", "bzip2", ".bz2"),
    (b"\xfd7zXZ\x00", "xz", ".xz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard", ".zst"),
    (b"PAR1", "Parquet", ".parquet"),
    (b"ARROW1", "Arrow", ".arrow"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook", ".zip or .xlsx"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", ".xls"),
    (b'[{"', "JSON", ".json or .jsonl"),
    (b'{"', "JSON", ".jsonl or .json"),
)
"""What a file begins with, what it then is, and the ending that says so."""
_PDF: Final = b"%PDF-"
_HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|head|meta|body|table)[\s>]", re.IGNORECASE)


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """How much a file may unpack to: `packed` and `most` are bytes."""

    path: Path
    packed: int
    most: int

    @classmethod
    def of(cls, path: Path, most_mib: int | None = None) -> Self:
        """Return what a file may unpack to, by its size unless told; OSError where there is no such file."""
        packed = path.stat().st_size
        most = min(max(_MAX_RATIO * packed, _LEAST), _MOST) if most_mib is None else most_mib * _MIB
        return cls(path=path, packed=packed, most=most)

    @classmethod
    def unbounded(cls, path: Path) -> Self:
        """Return what this project's own files may unpack to."""
        return cls(path=path, packed=0, most=2**63 - 1)

    def check(self, size: int) -> None:
        """Raise DataError for more bytes than there may be."""
        if size > self.most:
            raise self.error()

    def error(self) -> DataError:
        """Return what is said where there are more bytes than there may be."""
        most = -(-self.most // _MIB)
        unpack = "unpack it first, or " if self.path.suffix.lower() in PACKED else ""
        return DataError(
            f"{self.path}: its {self.packed:,} bytes unpack to more than {most:,} MiB, as if made to fill the memory; "
            f"if you trust it, {unpack}{setting('max_unpacked_mib', 4 * most)}"
        )

    def read(self, stream: _Stream) -> bytes:
        """Read a stream to its end; DataError where that is too far."""
        whole = io.BytesIO()
        while chunk := stream.read(_CHUNK):
            whole.write(chunk)
            self.check(whole.tell())
        return whole.getvalue()


def contents(path: Path, *, max_unpacked_mib: int | None = None) -> tuple[bytes, str]:
    """Read a file whole, taken out of its compression; and the ending, in small letters, of what is inside.

    Raises:
        DataError: it is missing, a folder, damaged, an archive of several files, or unpacks to too much; names it.
        StorageError: it may not be read.
    """
    packing = path.suffix.lower()
    try:
        if path.is_dir():
            raise DataError(f"{path}: is a folder; give a file of it, or several by a pattern such as '{path}/*.csv'")
        if path.exists() and not path.is_file():  # it would wait for whoever writes into it, deaf to signals meanwhile
            raise DataError(f"{path}: is a pipe or a device, and tables are read from files; write it to one")
        expansion = Expansion.of(path, max_unpacked_mib)
        if packing == ".zip":
            return _zipped(path, expansion)
        if packing == ".xz":
            with lzma.open(path) as unpacked:
                data = expansion.read(unpacked)
        else:
            codec = _CODECS.get(packing)
            with pa.input_stream(str(path), compression=codec) as stream:
                data = stream.read() if codec is None else expansion.read(stream)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; give the path of a table") from error
    except PermissionError as error:
        raise StorageError(f"{path}: no permission to read; change it or give another file") from error
    except MemoryError as error:
        raise DataError(f"{path}: does not fit into the memory of this machine; give a part of it") from error
    except (OSError, EOFError, RuntimeError, lzma.LZMAError, zipfile.BadZipFile, zlib.error, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read ({reason}); is it complete and what its name says?") from error
    return data, ending_of(path)


def _zipped(path: Path, expansion: Expansion) -> tuple[bytes, str]:
    with zipfile.ZipFile(path) as archive:
        names = [info.filename for info in archive.infolist() if not info.is_dir() and not _is_litter(info.filename)]
        if len(names) != 1:
            listed = ", ".join(map(repr, names[:5])) or "nothing"
            raise DataError(f"{path}: holds {listed}; give an archive of one table, or the files by themselves")
        with archive.open(names[0]) as unpacked:
            data = expansion.read(unpacked)
    inside = PurePath(names[0]).suffix.lower()
    return data, inside or ending_of(path)


def _is_litter(name: str) -> bool:
    return name.startswith("__MACOSX/") or PurePath(name).name.startswith(".")


def refuse_another_kind(data: bytes, path: Path, kind: str) -> None:
    """Refuse bytes that are plainly not of the kind that the name says.

    Raises:
        DataError: says what they are and what to call the file.
    """
    for begin, what, ending in _CONTENTS:
        if data.startswith(begin) and KINDS.get(kind, kind) not in ending.split(" or "):
            raise DataError(f"{path}: is {what}, not what its name says; let the name end in {ending}")


def refuse_page(data: bytes, path: Path) -> None:
    """Refuse a page of HTML, which programs save as .xls or .csv for Excel to open, and of PDF.

    Raises:
        DataError: it is one; names it and the way out.
    """
    if data.startswith(_PDF):
        raise DataError(f"{path}: is a PDF document, not what its name says; save the table that it shows as .csv")
    if _HTML.match(data):
        raise DataError(f"{path}: is a page of HTML, not what its name says; open it in Excel and save it as .xlsx")
