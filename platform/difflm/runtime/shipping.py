"""Shipping: a folder of the driver's machine brought to every node once, through Ray's object store.

The nodes of a cluster need not share a disk with the driver. The folder is packed once, lies once in the object store
of each node that asks for it, and is unpacked there by the first process; its name is the hash of its contents, so that
later jobs find it.
"""

from __future__ import annotations

import io
import os
import secrets
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difflm.artifacts.atomic import remove_tree, storage_errors
from difflm.artifacts.hashing import hash_folder
from difflm.runtime.cluster import ClusterContext


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedFolder:
    """A packed folder: the hash of its contents, and the reference to its archive."""

    digest: str
    archive: Any


def ship(folder: Path) -> ShippedFolder:
    """Pack a folder into the object store of the running cluster."""
    import ray

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(folder, arcname=".")
    return ShippedFolder(digest=hash_folder(folder), archive=ray.put(packed.getvalue()))


def reachable(folders: Mapping[str, Path], context: ClusterContext) -> dict[str, str | ShippedFolder]:
    """Folders as arguments of actors: paths where all actors run on this machine, else what `unpacked` unpacks."""
    return {name: str(path.resolve()) if context.local else ship(path) for name, path in folders.items()}


def unpacked(value: Any) -> Any:
    """An argument as an actor's own code wants it: the path of a shipped folder; anything else as it is."""
    return str(unpack(value)) if isinstance(value, ShippedFolder) else value


def unpack(shipped: ShippedFolder) -> Path:
    """The folder on this node; unpacked at most once, and whole or not at all.

    Raises:
        StorageError: the node's temporary folder is full or cannot be written.
    """
    import ray

    target = Path(tempfile.gettempdir()) / f"difflm-{os.getuid()}" / shipped.digest[:32]
    with storage_errors(target):
        if target.is_dir():
            return target
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.tmp-{secrets.token_hex(6)}")
        try:
            with tarfile.open(fileobj=io.BytesIO(ray.get(shipped.archive))) as archive:
                archive.extractall(temporary, filter="data")
            temporary.rename(target)
        except OSError:
            if not target.is_dir():  # another process was quicker
                raise
        finally:
            remove_tree(temporary)
    return target
