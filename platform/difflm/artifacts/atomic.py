"""Files and folders that appear whole or not at all, and disk trouble said in one line."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from difflm.errors import StorageError
from difflm.telemetry import JSON, json_bytes

TEMPORARY_MARK = ".tmp-"
_TEMPORARY = re.compile(rf"\..+{re.escape(TEMPORARY_MARK)}[0-9a-f]{{12}}")
_REPLACED_MARK = ".replaced"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux, see rename(2)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
_FULL_TEXTS = (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "os error 28",
    "errno 28",
    "PytorchStreamWriter failed writing",  # this and the next are all that torch.save says when its file cannot grow
    ". unexpected pos ",
)


def temporary_sibling(path: Path) -> Path:
    """Return a fresh hidden name beside ``path``, on the same file system, so that a rename to ``path`` is atomic."""
    return path.with_name(f".{path.name}{TEMPORARY_MARK}{secrets.token_hex(6)}")


def is_temporary(path: Path) -> bool:
    """Tell whether a path has a name that `temporary_sibling` gives."""
    return _TEMPORARY.fullmatch(path.name) is not None


def remove_temporaries(folder: Path) -> None:
    """Remove what killed processes left half-written in ``folder``; call it only while nothing else writes there.

    A folder that was killed while another took its place gets its place back, if that is still empty.
    """
    if not folder.is_dir():
        return
    for replaced in folder.glob(f".*{_REPLACED_MARK}"):
        place = folder / replaced.name.removeprefix(".").removesuffix(_REPLACED_MARK)
        if place.exists():
            remove_tree(replaced)
        else:
            replaced.rename(place)
    for leftover in filter(is_temporary, list(folder.iterdir())):
        remove_tree(leftover)


def remove_tree(path: Path) -> None:
    """Remove a file or a folder with all it holds; nothing happens when it does not exist."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make_private(folder: Path) -> None:
    """Let only the owner read a folder and all files in it; where the file system has no modes, nothing happens."""
    with suppress(OSError):
        folder.chmod(0o700)
        for path in folder.rglob("*"):
            if not path.is_symlink():
                path.chmod(0o700 if path.is_dir() else 0o600)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission met inside the block into a StorageError that names ``path``.

    Libraries written in C++ or Rust report a full disk in their own exception classes, so their text is read as well.

    Raises:
        StorageError: the disk is full, a quota is used up, or writing is not permitted.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        message = describe_storage_error(error, path)
        if message is None:
            raise
        raise StorageError(message) from error


def describe_storage_error(error: BaseException, path: Path) -> str | None:
    """Return one line about the disk if ``error`` was caused by it, else None."""
    code = error.errno if isinstance(error, OSError) else None
    if code in _FULL or any(text in str(error) for text in _FULL_TEXTS):
        free = _free_mib(path)
        left = "" if free is None else f" ({free:,.0f} MiB free)"
        return f"{path}: no space left for writing{left}; free some space or give another folder (--runs, --out)"
    if code in _FORBIDDEN:
        culprit = getattr(error, "filename", None) or path
        reason = os.strerror(code or 0).lower()
        return f"{culprit}: cannot be written ({reason}); mend that or give another folder (--runs, --out)"
    if code == errno.ENAMETOOLONG:
        return f"{str(getattr(error, 'filename', None) or path)[:80]!r}...: too long for a name; give a shorter one"
    if code == errno.ELOOP:
        culprit = getattr(error, "filename", None) or path
        return f"{culprit}: is a link, and nothing is written through one; remove it"
    return None


def write_bytes_atomic(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Write a file so that readers see the old content or the new, never a part; the folder is made when missing.
    Without a `mode` the file has the one that new files get.

    Raises:
        StorageError: the disk is full or writing is not permitted; nothing half-written stays behind.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_sibling(path)
        try:
            with temporary.open("wb") as file:
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync(path.parent)


def write_json_atomic(path: Path, value: JSON) -> None:
    """Write a value as indented JSON, atomically.

    Raises:
        ValueError: the value holds NaN or an infinity.
        StorageError: the disk is full or writing is not permitted.
    """
    write_bytes_atomic(path, json_bytes(value, indent=2) + b"\n")


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Make a temporary folder beside ``path`` that becomes ``path`` when the block ends without an error.

    All files are flushed to disk before the rename. When the block fails, the temporary folder is removed and ``path``
    is untouched; a folder that already stands at ``path`` is replaced only on success.

    Raises:
        StorageError: the disk is full or writing is not permitted, inside the block or while renaming.
    """
    temporary = temporary_sibling(path)
    with storage_errors(path):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            _sync_tree(temporary)
            _replace_directory(temporary, path)
        except BaseException:
            with suppress(OSError):
                remove_tree(temporary)
            raise


def _replace_directory(new: Path, path: Path) -> None:
    """Give ``new`` the name ``path``: exchanged for the old one at one stroke where the system can do that.

    Elsewhere the old one steps aside first; a kill right then leaves it to ``remove_temporaries`` to put it back.
    """
    if not path.exists():
        new.rename(path)
    elif _exchange(new, path):
        remove_tree(new)
    else:
        aside = path.with_name(f".{path.name}{_REPLACED_MARK}")
        remove_tree(aside)
        path.rename(aside)
        new.rename(path)
        remove_tree(aside)
    _sync(path.parent)


def _exchange(first: Path, second: Path) -> bool:
    """Let two paths swap what they name, atomically; False where the C library or the file system cannot."""
    library = ctypes.CDLL(None, use_errno=True)
    try:
        rename = library.renameat2
    except AttributeError:  # not Linux
        return False
    if rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(second))


def _sync_tree(folder: Path) -> None:
    for item in sorted(folder.rglob("*")):
        _sync(item)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot flush a folder
            raise
    finally:
        os.close(descriptor)


def _free_mib(path: Path) -> float | None:
    for candidate in (path, *path.parents):
        if candidate.exists():
            return shutil.disk_usage(candidate).free / 2**20
    return None
