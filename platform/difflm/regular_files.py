"""Files that somebody else may have made: read where they are files, and no larger than such a file can be."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from difflm.errors import ConfigError, without_passwords

MAX_BYTES = 256 * 2**20
"""Of a file of settings, facts or scores; the largest, vocabularies, have some 20 MiB. A hole of any size takes no room
in an archive."""


_MAX_NAME = 255  # bytes, on every usual file system


def given_path(given: object, *, name: str) -> Path:
    """Return a path that a caller passes.

    Raises:
        ConfigError: it is none, one that no disk can have, or an address, which would become folders of that name here;
            the message begins with ``name``.
    """
    if isinstance(given, str) and "://" in given:
        raise ConfigError(f"{name}: {without_passwords(given):.80} is an address; give a path on this machine")
    if isinstance(given, (str, Path)) and "\0" not in str(given):
        path = Path(given)
        if all(len(part.encode(errors="surrogatepass")) <= _MAX_NAME for part in path.parts):
            return path
    shown = f"{given!r:.80}"
    raise ConfigError(f"{name}: {shown} is no path that a disk can have; give another one, as a text or a Path")


def not_there(path: Path) -> str:
    """Say that no file is at a path, and what helps; a path that was made of an address has lost one of its slashes."""
    if re.match(r"\w+:/(?!/)", str(path)):
        return "is an address; tables are read from paths of this machine and from databases, so fetch it first"
    return "no such file; check the path"


def written_path(path: Path) -> Path:
    """Return the file that a path of the user's leads to: that of a link, which stays one.

    Raises:
        ConfigError: it is a pipe or a device, which whole files cannot replace.
    """
    try:
        found = path.resolve() if path.is_symlink() else path
        other = found.exists() and not found.is_file() and not found.is_dir()
    except (
        OSError,
        RuntimeError,
    ):  # links in a circle, and folders that cannot be looked into, fail where it is written
        return path
    if other:
        raise ConfigError(f"{path}: is a pipe or a device, and whole files are written; give the name of a file")
    return found


def read_file(path: Path, *, most: int = MAX_BYTES) -> bytes:
    """Read a file whole.

    Raises:
        ValueError: it is a pipe or a device, whose reading may never end, or has more than `most` bytes.
        OSError: it is not there, or cannot be read.
    """
    with open(path, "rb", opener=_not_waiting) as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("is a pipe or a device, and no file")
        if facts.st_size > most:
            raise ValueError(f"has {facts.st_size:,} bytes, and {most:,} are the most")
        return file.read()


def _not_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # for whoever writes into a pipe
