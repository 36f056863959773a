"""A generator as one file, `people.difflm`: a ZIP archive of its bundle, nothing of it compressed.

.difflm          first of all: the version of this layout, and who made it
README.md        the model card
hashes.json      SHA-256 and size of every other file; also signature.json where the bundle is signed
bundle.json ...  the bundle, see `difflm.synthesis.bundle`

Equal bundles give equal files. Unpacked with any tool it is a bundle's folder. Here it is unpacked once, into a folder
of the cache that is named after the file's hash, and only if it is what was written: a file comes from somebody else,
so that nothing in it is believed before it was compared with `hashes.json`.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final

import difflm
from difflm.artifacts.atomic import atomic_directory, storage_errors, temporary_sibling
from difflm.artifacts.manifest import SIGNATURE_NAME
from difflm.artifacts.store import hash_file
from difflm.errors import BundleError, StorageError
from difflm.models.gguf_files import cache_folder
from difflm.regular_files import written_path
from difflm.synthesis.bundle_files import CARD_NAME, HASHES_NAME, bundle_files, check_files
from difflm.synthesis.signatures import sign_bundle
from difflm.telemetry import parse_json

SUFFIX: Final = ".difflm"
CONTAINER_VERSION: Final = 1
HEAD_NAME: Final = ".difflm"

_MAX_FILES = 10_000
_MAX_NAME = 512
_MAX_HEAD = 4096
_CHUNK = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a ZIP archive knows no earlier time
_ENCRYPTED = 0x1
_AGAIN = "get the file again from its maker"
_UNREADABLE = (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError, struct.error)


def pack(folder: Path, path: Path) -> None:
    """Write the bundle in a folder into one file, which appears whole or not at all.

    Raises:
        BundleError: a file is missing, changed, or not of the bundle.
        ConfigError: the path is a pipe or a device.
        StorageError: the disk is full or writing is not permitted.
    """
    path = written_path(path)
    check_files(folder)
    first = [name for name in (CARD_NAME, HASHES_NAME, SIGNATURE_NAME, "bundle.json") if (folder / name).is_file()]
    names = [*first, *sorted(bundle_files(folder) - set(first))]
    head = {
        "format": "difflm generator",
        "format_version": CONTAINER_VERSION,
        "made_by": f"difflm {difflm.__version__}",
    }
    with storage_errors(path):
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_sibling(path)
        try:
            with temporary.open("wb") as file:
                with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                    archive.writestr(_entry(HEAD_NAME), json.dumps(head))
                    for name in names:
                        with (folder / name).open("rb") as source:
                            size = os.fstat(source.fileno()).st_size
                            with archive.open(_entry(name), "w", force_zip64=size >= zipfile.ZIP64_LIMIT) as target:
                                shutil.copyfileobj(source, target, _CHUNK)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


def unpacked(path: Path) -> Path:
    """Return the folder of the cache with the bundle that a file holds, unpacking it where it is not there yet.

    Raises:
        BundleError: the file is none that `pack` wrote, cut short, changed since, or of a newer version.
        StorageError: the cache is full or cannot be written.
    """
    try:
        status = path.stat()
        folder = _folder(path.absolute(), status.st_size, status.st_mtime_ns, status.st_ino, cache_folder())
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()})") from error
    try:
        with storage_errors(folder):
            if _holds(folder, path):
                return folder
            if folder.is_symlink():
                folder.unlink()
            folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with atomic_directory(folder) as temporary:
            _extract(path, temporary)
    except StorageError as error:
        raise StorageError(f"{str(error).partition(';')[0]}; give another cache in DIFFLM_CACHE") from error
    return folder


def _holds(folder: Path, path: Path) -> bool:
    """Whether a folder of the cache has what the file has: others may write there, and old files may be swept away."""
    hashes = folder / HASHES_NAME
    if not hashes.is_file():
        return False
    with _opened(path) as archive:
        try:
            size = archive.getinfo(HASHES_NAME).file_size
            if size != hashes.stat().st_size or archive.read(HASHES_NAME) != hashes.read_bytes():
                return False
        except (KeyError, *_UNREADABLE):
            return False  # unpacking says what is wrong with the file
    try:
        check_files(folder)
    except BundleError:
        return False
    return True


@lru_cache(maxsize=32)
def _folder(path: Path, size: int, changed_ns: int, inode: int, cache: Path) -> Path:
    """Hash a file that a server looks at again every few seconds once only, as long as it stays what it is."""
    del size, changed_ns, inode
    return cache / "generators" / hash_file(path)


def sign_container(path: Path, key: Path) -> str:
    """Sign the bundle in a file, which is written anew; returns the public key's name. Raises as `sign_bundle`."""
    folder = unpacked(path)
    with tempfile.TemporaryDirectory(prefix="difflm-sign-") as temporary:
        copy = Path(shutil.copytree(folder, Path(temporary) / "bundle", copy_function=shutil.copyfile))
        signer = sign_bundle(copy, key)
        pack(copy, path)
    return signer


def _extract(path: Path, folder: Path) -> None:
    with _opened(path) as archive:
        _check_head(archive, path)
        for entry in _members(archive, path):
            target = folder / entry.filename
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("xb") as file:
                    _copy(source, file, entry.file_size)
            except _UNREADABLE as error:
                if isinstance(error, OSError) and not isinstance(error, FileExistsError | NotADirectoryError):
                    raise  # of the disk
                raise BundleError(f"{path}: {entry.filename!r} cannot be unpacked ({error}); {_AGAIN}") from error
    if not (folder / HASHES_NAME).is_file() or not (folder / "bundle.json").is_file():
        raise BundleError(f"{path}: is a generator without bundle.json or {HASHES_NAME}; {_AGAIN}")
    try:
        check_files(folder)
    except BundleError as error:
        reason = str(error).replace(f"{folder}{os.sep}", "").partition(";")[0]
        raise BundleError(f"{path}: damaged, or changed by somebody ({reason}); {_AGAIN}") from error


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    with path.open("rb") as file:
        began = file.read(4)
        try:
            archive = zipfile.ZipFile(file)
        except _UNREADABLE as error:
            if began != b"PK\x03\x04":
                raise BundleError(
                    f"{path}: is no generator; give a file that difflm export or Generator.save wrote, or a folder"
                ) from error
            raise BundleError(f"{path}: is cut short or damaged ({error}); {_AGAIN}") from error
        with archive:
            yield archive


def _check_head(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse other archives, and those of a newer version, before anything else of them is looked at."""
    try:
        with archive.open(HEAD_NAME) as file:
            head: Any = parse_json(file.read(_MAX_HEAD))
    except KeyError:
        raise BundleError(f"{path}: is a ZIP archive, but no generator; give a file that difflm export wrote") from None
    except _UNREADABLE as error:
        raise BundleError(f"{path}: is cut short or damaged ({error}); {_AGAIN}") from error
    version = head.get("format_version") if isinstance(head, dict) else None
    if not isinstance(version, int) or version < 1:
        raise BundleError(f"{path}: is a ZIP archive, but no generator; give a file that difflm export wrote")
    if version > CONTAINER_VERSION:
        raise BundleError(
            f"{path}: a generator of format {version}, this version reads {CONTAINER_VERSION}; pip install -U difflm"
        )


def _members(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """Return the files of an archive: plain ones that lie in a folder of their own, no larger than the archive is."""
    entries = archive.infolist()
    if len(entries) > _MAX_FILES:
        raise BundleError(f"{path}: has {len(entries):,} files, where a generator has dozens; do not use it")
    members = []
    for entry in entries:
        fault = _fault(entry)
        if fault is not None:
            raise BundleError(f"{path}: {entry.orig_filename[:80]!r} {fault}; do not use it")
        if not entry.is_dir() and entry.filename != HEAD_NAME:
            members.append(entry)
    names = [entry.filename.casefold() for entry in members]
    if len(set(names)) < len(names):
        raise BundleError(f"{path}: has two files of one name; do not use it")
    if sum(entry.file_size for entry in members) > path.stat().st_size:
        raise BundleError(f"{path}: claims to hold more than it is large; do not use it")
    return members


def _fault(entry: zipfile.ZipInfo) -> str | None:
    """Say why an entry is none of a generator; None for one that may be."""
    name, kind = entry.filename, stat.S_IFMT(entry.external_attr >> 16)
    parts = name.removesuffix("/").split("/")
    hidden = name != HEAD_NAME and any(part.startswith(".") for part in parts)
    if (
        name != entry.orig_filename
        or len(name) > _MAX_NAME
        or not name.isprintable()
        or any(one in name for one in "\\:")
    ):
        return "is no name of a file in a generator"
    if not all(parts) or hidden:
        return "leads out of the folder, or is hidden"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device, not a file"
    if entry.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        return "is compressed, which no file of a generator is"
    return None


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    """Copy exactly so many bytes; ValueError where there are others."""
    shutil.copyfileobj(source, target, _CHUNK)
    if target.tell() != size:
        raise ValueError(f"has {target.tell():,} bytes, not {size:,}")
