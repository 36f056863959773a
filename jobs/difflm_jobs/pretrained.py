"""Pretrained models as inputs: a local folder is checked and fingerprinted before anything runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

from difflm.errors import ModelError


def fingerprint(model: str, key: str) -> dict[str, str]:
    """What identifies a local model folder, by the name of its key; empty for the id of a hub, which names itself.

    The fingerprint covers the names and sizes of all files and the content of the small ones (configuration,
    tokenizer), so that a replaced model is noticed without reading gigabytes.

    Raises:
        ModelError: ``model`` is a path and no folder made by ``save_pretrained`` lies there.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        if folder.is_absolute() or model.startswith((".", "~")):
            raise ModelError(f"{key}: {model}: no such folder; give a hub id or a folder made by save_pretrained")
        return {}
    if not (folder / "config.json").is_file():
        raise ModelError(f"{key}: {model}: no config.json in this folder; give one made by save_pretrained")
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
        if size < 1 << 20:
            digest.update(path.read_bytes())
    return {key: digest.hexdigest()}
