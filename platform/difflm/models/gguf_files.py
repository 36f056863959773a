"""GGUF files (llama.cpp's format): what their head says, and the same model as a folder that transformers loads.

Quantised weights cannot be trained through: gradients for soft tokens need plain matrices. So a file is unpacked once,
to float32, into a folder of the cache that is named after the file's hash. Whoever loads the model again reads that.

The cache is `$DIFFLM_CACHE`, or `difflm` in `$XDG_CACHE_HOME` or `~/.cache`.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from difflm.artifacts.atomic import atomic_directory, storage_errors, write_json_atomic
from difflm.artifacts.store import hash_file
from difflm.errors import ModelError, StorageError
from difflm.models.sources import card_licence, is_gguf, located
from difflm.telemetry import free_memory

LAYOUT: Final = 1  # of the folders in the cache; another one unpacks anew
SOURCE_NAME: Final = "source.json"
WEIGHTS_NAME: Final = "model.safetensors"
ARCHITECTURES: Final = ("gemma3", "llama")
"""Those that are unpacked and tested; llama is also what Mistral's and SmolLM's files call themselves."""

_MAX_LAYERS = 10_000  # what is built layer by layer must end
_FLOAT32_BYTES = 4
_COPIES = 2  # of the weights in memory while they are unpacked: as read, and in their module
_GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHead:
    """What a file says of itself before its weights; `parameters` are the numbers of all tensors."""

    architecture: str
    name: str | None
    licence: str | None
    parameters: int


def read_head(file: Path) -> GgufHead:
    """Read a file's head, and check that the weights it lists are in the file.

    Raises:
        ModelError: the package gguf is missing, or the file is damaged, cut off, of another architecture, a part of a
            model, or without weights or a tokenizer.
    """
    status = file.stat()
    return _read_head(file, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)
def _read_head(file: Path, size: int, changed_ns: int) -> GgufHead:
    del size, changed_ns  # another file under the same name is read again
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise ModelError(f"{file}: reading GGUF needs the package gguf; pip install gguf installs it") from error
    try:
        _check_counts(file)
        reader = GGUFReader(file)
        facts = {key: _value(reader, key) for key in ("general.architecture", "general.name", "general.license")}
        parts, model = _value(reader, "split.count"), _value(reader, "tokenizer.ggml.model")
        layers = _value(reader, f"{facts['general.architecture']}.block_count")
        parameters = sum(int(tensor.n_elements) for tensor in reader.tensors)
    except Exception as error:  # whatever numpy raises at bytes that are none of the format
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"{file}: a damaged or cut off GGUF file ({reason}); fetch it again") from error
    architecture = str(facts["general.architecture"])
    if architecture not in ARCHITECTURES:
        raise ModelError(
            f"{file}: a GGUF file of the architecture {architecture!r}, and {', '.join(ARCHITECTURES)} is what can be "
            "unpacked; give this model as a folder made by save_pretrained, or its hub id"
        )
    if isinstance(parts, int) and parts > 1:
        raise ModelError(f"{file}: one of {parts} parts of a model; merge them (llama-gguf-split --merge) first")
    if isinstance(layers, int) and layers > _MAX_LAYERS:
        raise ModelError(f"{file}: a GGUF file of {layers:,} layers; {_MAX_LAYERS:,} is the most")
    if not parameters:
        raise ModelError(f"{file}: a GGUF file without weights; give the model itself")
    if model is None:
        raise ModelError(f"{file}: a GGUF file without a tokenizer; give one with it, or the model's own folder")
    name, licence = facts["general.name"], facts["general.license"]
    return GgufHead(
        architecture=architecture,
        name=None if name is None else str(name),
        licence=None if licence is None else str(licence),
        parameters=parameters,
    )


_SIZES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # of numbers, by their kind
_TEXT, _LIST = 8, 9


def _check_counts(file: Path) -> None:
    """Refuse a head that counts more entries than the file has room for: its reader would go on for ever.

    Raises:
        ValueError, struct.error: it does, or is none.
    """
    size = file.stat().st_size
    with file.open("rb") as head:

        def number(form: str) -> int:
            return int(struct.unpack(form, head.read(struct.calcsize(form)))[0])

        def skip(length: int) -> None:
            if length > size - head.tell():
                raise ValueError(f"its head has an entry of {length:,} bytes, and the file {size:,}")
            head.seek(length, os.SEEK_CUR)

        def skip_value(kind: int) -> None:
            if kind in _SIZES:
                skip(_SIZES[kind])
            elif kind == _TEXT:
                skip(number("<Q"))
            elif kind == _LIST and (inner := number("<I")) in _SIZES:
                skip(number("<Q") * _SIZES[inner])
            elif kind == _LIST and inner == _TEXT:
                for _ in range(min(number("<Q"), size)):
                    skip(number("<Q"))
            else:
                raise ValueError(f"its head has an entry of the kind {kind}")

        if head.read(4) != b"GGUF" or number("<I") > 0xFFFF:
            raise ValueError("it does not begin as one, or is of the other order of bytes")
        tensors, entries = number("<Q"), number("<Q")
        if tensors + entries > size:
            raise ValueError(f"its head counts {tensors + entries:,} entries")
        for _ in range(entries):
            skip(number("<Q"))
            skip_value(number("<I"))


def _value(reader: Any, key: str) -> object:
    field = reader.get_field(key)
    return None if field is None else field.contents()


def unpacked_folder(file: Path) -> Path:
    """Return the folder of the cache that a file is unpacked into, whether or not it is there."""
    status = file.stat()
    digest = _hash(file, status.st_size, status.st_mtime_ns)
    return cache_folder() / "models" / f"{file.stem}-{digest[:16]}-v{LAYOUT}"


@lru_cache(maxsize=8)
def _hash(file: Path, size: int, changed_ns: int) -> str:
    del size, changed_ns
    return hash_file(file)


def is_unpacked(folder: Path) -> bool:
    """Tell whether a folder of the cache is whole: its weights have the size that they were written with."""
    try:
        source = json.loads((folder / SOURCE_NAME).read_bytes())
        return bool((folder / WEIGHTS_NAME).stat().st_size == source["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def unpack(file: Path, write: Callable[[Path, Path], None]) -> Path:
    """Return the folder of an unpacked file; `write(file, folder)` makes it where it is not there yet.

    Raises:
        ModelError: the file cannot be unpacked (see `read_head`), or there is too little memory to do so.
        StorageError: the cache is full or cannot be written.
    """
    from filelock import FileLock

    folder = unpacked_folder(file)
    if is_unpacked(folder):
        return folder
    head = read_head(file)
    try:
        with storage_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(f".{folder.name}.lock")):  # many workers start at once
                if not is_unpacked(folder):
                    _need_memory(file, head)
                    _write(file, folder, head, write)
    except StorageError as error:
        raise StorageError(f"{str(error).partition(';')[0]}; give another cache in DIFFLM_CACHE") from error
    return folder


def _write(file: Path, folder: Path, head: GgufHead, write: Callable[[Path, Path], None]) -> None:
    with atomic_directory(folder) as temporary:
        write(file, temporary)
        weights = temporary / WEIGHTS_NAME
        weights.chmod(0o644)  # safetensors lets nobody else read it, and caches are shared
        size = weights.stat().st_size
        write_json_atomic(temporary / SOURCE_NAME, {"file": file.name, "bytes": size, **asdict(head)})


def _need_memory(file: Path, head: GgufHead) -> None:
    needed, free = _COPIES * _FLOAT32_BYTES * head.parameters, free_memory()
    if needed > free:
        raise ModelError(
            f"{file}: unpacking {head.parameters:,} numbers takes {needed / _GIB:.1f} GiB of memory, and "
            f"{free / _GIB:.1f} GiB are free; give a smaller model, or unpack it on a machine with more memory "
            "(DIFFLM_CACHE may be shared)"
        )


def cache_folder() -> Path:
    """Return the folder of what can be made again."""
    if given := os.environ.get("DIFFLM_CACHE"):
        return Path(given).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "difflm"


def licence_of(model: str | Path) -> str | None:
    """Return the licence that a model states: a GGUF file in its head, a folder in its model card; else None.

    Raises:
        ModelError: the model cannot be located.
    """
    found = located(model)
    if is_gguf(found):
        return read_head(Path(found)).licence
    return card_licence(Path(found)) if Path(found).is_dir() else None
