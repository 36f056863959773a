"""Hashing folders: one hash for all that a folder holds, wherever it lies."""

from __future__ import annotations

import hashlib
from pathlib import Path

from difflm.artifacts.manifest import SIGNATURE_NAME
from difflm.artifacts.store import hash_file


def hash_folder(folder: Path) -> str:
    """Hash the names and contents of all files in a folder (SHA-256, in hex); where it lies does not matter, and
    neither does who signed it.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SIGNATURE_NAME):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{hash_file(path)}\n".encode())
    return digest.hexdigest()
