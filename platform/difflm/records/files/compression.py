"""Compression: the bytes of a file, taken out of .gz, .bz2, .xz, .zst and .zip, and what its name says it then is."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from pathlib import Path, PurePath

import pyarrow as pa

from difflm.errors import DataError, StorageError
from difflm.records.files.paths import ending_of

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
)
"""What a file begins with, what it then is, and the ending that says so."""


def contents(path: Path) -> tuple[bytes, str]:
    """Read a file whole, taken out of its compression; and the ending, in small letters, of what is inside.

    Raises:
        DataError: it is missing, a folder, damaged, or an archive of several files; names it.
        StorageError: it may not be read.
    """
    packing = path.suffix.lower()
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give a file of it, or several by a pattern such as '{path}/*.csv'")
    try:
        if packing == ".zip":
            return _zipped(path)
        if packing == ".xz":
            data: bytes = lzma.decompress(path.read_bytes())
        else:
            with pa.input_stream(str(path), compression=_CODECS.get(packing)) as stream:
                data = stream.read()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; give the path of a table") from error
    except PermissionError as error:
        raise StorageError(f"{path}: no permission to read; change it or give another file") from error
    except (OSError, EOFError, RuntimeError, lzma.LZMAError, zipfile.BadZipFile, zlib.error, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read ({reason}); is it complete and what its name says?") from error
    return data, ending_of(path)


def _zipped(path: Path) -> tuple[bytes, str]:
    with zipfile.ZipFile(path) as archive:
        names = [info.filename for info in archive.infolist() if not info.is_dir() and not _is_litter(info.filename)]
        if len(names) != 1:
            listed = ", ".join(map(repr, names[:5])) or "nothing"
            raise DataError(f"{path}: holds {listed}; give an archive of one table, or the files by themselves")
        data = archive.read(names[0])
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
        if data.startswith(begin) and kind not in ending.split(" or "):
            raise DataError(f"{path}: is {what}, not what its name says; let the name end in {ending}")
