"""A bundle's files, looked at before any of them is loaded: are they those that were written, and what do they lead to.

hashes.json   SHA-256 and size of every other file; a bundle is often a copy, far from the manifest of its artifact
README.md     the model card of a saved one; nothing is loaded from it and people edit it, so it is not listed
"""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from difflm.artifacts.manifest import MANIFEST_NAME, SIGNATURE_NAME, FileEntry, Manifest
from difflm.artifacts.store import hash_file
from difflm.config import load_yaml
from difflm.errors import MISFITS, BundleError, ConfigError, reason_of
from difflm.regular_files import MAX_BYTES, read_file
from difflm.telemetry import parse_json

BUNDLE_VERSION: Final = 1
HASHES_NAME = "hashes.json"
CARD_NAME = "README.md"
ALLOW_LOCAL = "DIFFLM_ALLOW_LOCAL_BASE"
HASHES_VERSION: Final = 1

_PACKAGE = "package:"  # a model that an installed package brings, which is no path
_CONFIG_NAME = "config.yaml"
_log = logging.getLogger(__name__)


class _Hashes(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: Literal[1]
    files: dict[str, FileEntry]


def write_hashes(directory: Path) -> None:
    """Write hashes.json over all other files of a bundle; the last file of its assembly."""
    entries = {
        name: FileEntry(sha256=hash_file(directory / name), size=(directory / name).stat().st_size).model_dump()
        for name in sorted(bundle_files(directory))
    }
    (directory / HASHES_NAME).write_text(json.dumps({"format_version": HASHES_VERSION, "files": entries}, indent=2))


def refuse_special(directory: Path) -> None:
    """Refuse a bundle that holds devices or pipes, also behind links, or links that lead out of it: reading the former
    may never end, and what lies behind the latter is its reader's own, which would be read, exported and pushed.

    Raises:
        BundleError: names it.
    """
    inside = _places(directory)
    for path in directory.rglob("*"):
        try:
            facts = path.stat()
        except OSError:
            facts = path.lstat()  # of a link to nothing, which is missing where it is read
        mode = facts.st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            raise BundleError(f"{path}: is a device or a pipe, and no file; a bundle has files alone")
        if stat.S_ISREG(mode) and facts.st_size > MAX_BYTES and path.suffix != ".safetensors":
            raise BundleError(f"{path}: has {facts.st_size:,} bytes, and {MAX_BYTES:,} are the most but of tensors")
        if not path.is_symlink():
            continue
        if not any(Path(os.path.realpath(path)).is_relative_to(place) for place in inside):
            raise BundleError(f"{path}: is a link that leads out of the bundle; put the file itself there")
        if stat.S_ISDIR(mode):
            raise BundleError(f"{path}: is a link to a folder; put the folder itself there")


def _places(directory: Path) -> list[Path]:
    """Return where links of a bundle may lead: into its folder, and where a hub's cache keeps the folder's files."""
    folder = Path(os.path.realpath(directory))
    cached = folder.parent.name == "snapshots"
    return [folder, *([folder.parent.parent / "blobs"] if cached else [])]


def read_facts(directory: Path) -> dict[str, object]:
    """bundle.json of this version. Raises BundleError naming the file and the remedy."""
    path = directory / "bundle.json"
    if not path.is_file():
        here = "it has no bundle.json; give the folder that the assemble stage wrote"
        nothing = "nothing is there; give a run, the folder of a bundle or a .difflm file"
        raise BundleError(f"{directory} is no bundle: {here if directory.exists() else nothing}")
    try:
        facts = parse_json(read_file(path))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: not JSON ({error}); assemble the bundle again") from error
    if not isinstance(facts, dict):
        raise BundleError(f"{path}: holds {type(facts).__name__}, not keys and values; assemble the bundle again")
    version = facts.get("format_version")
    if version != BUNDLE_VERSION:
        newer = isinstance(version, int) and version > BUNDLE_VERSION
        remedy = "pip install -U difflm" if newer else "assemble it again or use the version that made it"
        raise BundleError(f"{path}: bundle of format {version}, this version reads {BUNDLE_VERSION}; {remedy}")
    return facts


def check_files(directory: Path) -> None:
    """Compare every file of a bundle with hashes.json, or with its artifact's manifest where it is older than that.

    Raises:
        BundleError: one is missing, changed, or not of the bundle; names it.
    """
    refuse_special(directory)
    written = _written(directory)
    if written is None:
        _log.warning("%s: has no %s, so changed files are not noticed; assemble it again", directory, HASHES_NAME)
        return
    present = bundle_files(directory)
    for name, entry in written.items():
        path = directory / name
        if name not in present:
            raise BundleError(f"{path} is missing from the bundle; assemble the bundle again")
        if path.stat().st_size != entry.size or hash_file(path) != entry.sha256:
            raise BundleError(f"{path}: changed since the bundle was assembled; assemble the bundle again")
    strange = min(present - set(written), default=None)
    if strange is not None:
        raise BundleError(f"{directory / strange}: does not belong to the bundle; remove it, or assemble it again")


def read_hashes(path: Path) -> Mapping[str, FileEntry]:
    """Read a hashes.json. Raises BundleError."""
    try:
        return _Hashes.model_validate(parse_json(read_file(path))).files
    except (OSError, ValueError) as error:
        reason = _first(error) if isinstance(error, ValidationError) else str(error)
        raise BundleError(f"{path}: no list of hashes ({reason}); assemble the bundle again") from error


def _written(directory: Path) -> Mapping[str, FileEntry] | None:
    path = directory / HASHES_NAME
    if path.is_file():
        return read_hashes(path)
    return Manifest.read(directory).files if (directory / MANIFEST_NAME).is_file() else None


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"


def bundle_files(directory: Path) -> set[str]:
    """Name all files but the lists themselves, the signature, the card and hidden ones, which file managers leave. A
    link to a folder counts as a file: what lies behind it is read with the bundle, and was never listed.
    """
    found = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file() or path.is_symlink())
    names = {name.as_posix() for name in found if not any(part.startswith(".") for part in name.parts)}
    return names - {HASHES_NAME, MANIFEST_NAME, SIGNATURE_NAME, CARD_NAME}


def check_base(directory: Path, facts: Mapping[str, object], *, allow_local: bool = False) -> None:
    """Refuse a bundle whose base model is a folder that its user never chose: a bundle may come from somebody else.

    A folder is chosen by the configuration of the experiment that the bundle lies in, by `allow_local`
    (sampling.allow_local_base) or by the environment variable DIFFLM_ALLOW_LOCAL_BASE=1. `facts` are bundle.json's.

    Raises:
        BundleError: it names a folder; says which and how to allow it.
    """
    if allow_local or os.environ.get(ALLOW_LOCAL, "").strip().lower() in ("1", "true", "yes", "on"):
        return
    for where, model in _models(directory, facts):
        if is_local(model) and not _is_chosen(directory, model):
            raise BundleError(
                f"{directory / where}: its base model is the folder {model!r}, which no configuration of this "
                f"experiment names; if you trust it, give --set sampling.allow_local_base=true or {ALLOW_LOCAL}=1"
            )


def is_local(model: str) -> bool:
    """Whether the name of a model is a path, or would be taken for one here."""
    if model.startswith(_PACKAGE):
        return False
    return model.startswith((".", "~", "/")) or "\\" in model or "\0" in model or os.path.lexists(model)


@contextmanager
def fitting(directory: Path, *others: type[Exception]) -> Iterator[None]:
    """Say that files do not fit each other where what is made of all of them raises what nobody foresaw: `MISFITS`, and
    of building modules also `others`.

    Raises:
        BundleError: it did.
    """
    try:
        yield
    except MISFITS + others as error:
        reason = reason_of(error)
        raise BundleError(
            f"{directory}: its files do not fit each other ({reason}); assemble the bundle again"
        ) from error


def _models(directory: Path, facts: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Return the pretrained models that a bundle names, each with the file that does."""
    try:
        decoder = parse_json(read_file(directory / "decoder" / "decoder.json"))
    except (OSError, ValueError):
        decoder = None  # what is wrong with the file is said where it is read
    for where, keys, value in (
        ("decoder/decoder.json", ("config", "model"), decoder),
        ("bundle.json", ("autoencoder", "encoder", "model"), facts),
    ):
        model = _at(value, keys)
        if isinstance(model, str):
            yield where, model


def _at(value: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _is_chosen(directory: Path, model: str) -> bool:
    """Whether the experiment's own configuration, beside or above the folder of artifacts, names the path."""
    folder = directory.resolve()
    for path in (folder.parent / _CONFIG_NAME, folder.parent.parent / _CONFIG_NAME):
        if not path.is_file():
            continue
        try:
            config = load_yaml(path)
        except ConfigError:
            continue
        for keys in (("decoder", "model"), ("autoencoder", "encoder", "model")):
            named = _at(config, keys)
            if isinstance(named, str) and _same(named, model):
                return True
    return False


def _same(named: str, model: str) -> bool:
    """Whether a configured path is the one of a bundle; a relative one was of the folder that the run began in."""
    if os.path.expanduser(named) == os.path.expanduser(model):
        return True
    given, wanted = os.path.expanduser(named), os.path.expanduser(model)
    if os.path.isabs(given):
        return os.path.realpath(given) == os.path.realpath(wanted)
    parts = [part for part in PurePath(os.path.normpath(given)).parts if part not in ("..", ".")]
    return bool(parts) and list(PurePath(wanted).parts[-len(parts) :]) == parts
