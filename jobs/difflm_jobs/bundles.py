"""Finding bundles: the one that was given, with what it needs from elsewhere, before any work begins."""

from __future__ import annotations

import json
from pathlib import Path

from difflm.errors import BundleError


def find_bundle(given: Path) -> Path:
    """The bundle in a folder: the folder itself, or the newest one of an experiment.

    Raises:
        BundleError: there is none, it is of another version, or its base model is not there.
    """
    from difflm.synthesis.bundle_folder import bundle_folder

    folder = bundle_folder(given)
    _check_base(folder)
    return folder


def _check_base(bundle: Path) -> None:
    """Look for the pretrained decoder that a bundle names, without loading its weights."""
    path = bundle / "decoder" / "decoder.json"
    try:
        config = json.loads(path.read_bytes())["config"]
        kind, model = config["kind"], config.get("model")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: not readable ({error}); assemble the bundle again") from error
    if kind == "compact":
        return
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(model, revision=config.get("revision"))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(
            f"{bundle}: its base model {model!r} cannot be loaded ({reason}); put it back there, or fetch it into the "
            "hub's cache"
        ) from error
