"""Pinning a pretrained model: the folder or the commit that was loaded, and a hash of its weights, whatever is called
so later.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from difflm.errors import ModelError


def pinned(model: str, revision: str | None) -> tuple[str, str | None]:
    """A local folder as an absolute path, or a hub id with the commit that its revision (or its main branch) is now.

    Raises:
        ModelError: the hub, or offline its cache, has no such model or revision; names both.
    """
    folder = Path(model).expanduser()
    if folder.is_dir() or folder.is_absolute() or model.startswith("."):
        return str(folder.resolve()), None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        path = Path(hf_hub_download(model, "config.json", revision=revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        of = f"{model!r}" if revision is None else f"{model!r} at revision {revision!r}"
        raise ModelError(
            f"cannot find the pretrained model {of}: {reason}; give a hub id that is reachable or in the cache "
            "(HF_HOME), or a directory made by save_pretrained"
        ) from error
    return model, path.parent.name  # a file of the cache lies in snapshots/<commit>/


def hash_weights(model: torch.nn.Module) -> str:
    """A hash of names, shapes and a sample of every tensor in bfloat16: cheap at any size, and independent of the dtype
    it is loaded in.

    The sample is every n-th number, 4,096 to 8,191 of a tensor (all of a smaller one). So another model, another
    training or another precision on disk is seen, but not a change of a few single weights made to be missed. (All of
    them take 0.6 s of a core per GB, in every process that loads the model.)
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        flat = value.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 4096)].to(torch.bfloat16).view(torch.int16)
        digest.update(f"{name} {tuple(value.shape)} ".encode())
        digest.update(sample.cpu().numpy().tobytes())
    return digest.hexdigest()


def check_weights(model: torch.nn.Module, expected: str, *, name: str, revision: str | None) -> None:
    """Compare a loaded model with the hash of the one that something was trained with. Raises ModelError naming it."""
    found = hash_weights(model)
    if found != expected:
        where = repr(name) + (f" at revision {revision}" if revision else "")
        raise ModelError(
            f"the weights of {where} changed since this was trained (sha256 {found[:12]}, expected {expected[:12]}); "
            "put back those it was trained with, or train again"
        )
