"""Pretrained models: which one was loaded and its hash, its attention, and low-rank adapters (arXiv 2106.09685).

How a pretrained model computes its attention: as it prefers, by a fused kernel, by single operations, or by
FlashAttention 2 (Dao 2023, arXiv 2307.08691).

Pinning a pretrained model: the folder or the commit that was loaded, and a hash of its weights, whatever is called
so later.

Low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685) on a pretrained encoder, whose own weights stay.

Beside a linear layer's frozen W stands (alpha / rank) B A with `rank` rows in A and columns in B, which alone are
trained; B is zero at first, so the encoder begins as it was.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from difflm.config import Config
from difflm.errors import ModelError
from difflm.extras import installed_by
from difflm.models.sources import PACKAGE, guard_hub, is_gguf, located

if TYPE_CHECKING:
    from transformers import PreTrainedModel

AttentionName = Literal["auto", "sdpa", "eager", "flash_attention_2"]

AttentionChoice = Annotated[
    AttentionName,
    Field(
        exclude_if=lambda attention: attention == "auto",  # artifacts made before there was a choice keep their names
        description="auto: sdpa where the model has it, else eager; flash_attention_2: in training, on GPUs",
    ),
]


def loaded_attention(attention: AttentionName) -> str | None:
    """Return what `from_pretrained` is told; None leaves it to the model.

    A model that shall train with FlashAttention is loaded without it. Records are encoded in float32 and decoded with a
    mask for every slot, possibly on a CPU, and FlashAttention does none of these; `use_flash_attention` switches to it.
    """
    return attention if attention in ("sdpa", "eager") else None


def refused_attention(attention: AttentionName, model: str, key: str, error: Exception) -> ModelError:
    """Describe the failure of a model that was told how to attend, by the setting `key`, and raised."""
    reason = str(error).strip().splitlines()[0]
    return ModelError(f"{key} is {attention}, with which {model!r} cannot be loaded: {reason}; give --set {key}=auto")


def use_flash_attention(model: PreTrainedModel, *, key: str) -> None:
    """Let a loaded model attend by FlashAttention 2 from now on; `key` is the setting that asked for it.

    Raises:
        ModelError: this process sees no GPU, flash-attn is not installed, or the model cannot use it.
    """
    if not torch.cuda.is_available():
        raise ModelError(
            f"{key} is flash_attention_2, and this process sees no GPU; give --set {key}=auto or "
            "--set runtime.workers.gpus_per_worker=1 where there are GPUs"
        )
    try:
        model.set_attn_implementation("flash_attention_2")
    except (ImportError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{key} is flash_attention_2, which {type(model).__name__} cannot use here: {reason}; "
            f"install flash-attn or give --set {key}=auto"
        ) from error
    if "flash" not in str(model.config._attn_implementation):
        raise ModelError(
            f"{key} is flash_attention_2, and {type(model).__name__} cannot change its attention; give --set {key}=auto"
        )


def pinned(model: str, revision: str | None) -> tuple[str, str | None]:
    """Return a local folder's or GGUF file's absolute path, or a hub id with the commit of its revision (or main
    branch) now; the name of a package stays, for packages lie elsewhere on every machine.

    Raises:
        ModelError: the hub, or offline its cache, has no such model or revision, or there is no such package; names it.
    """
    found = located(model)
    if model.startswith(PACKAGE):
        return model, None
    folder = Path(found).expanduser()
    if is_gguf(found) or folder.is_dir() or folder.is_absolute() or model.startswith("."):
        return str(folder.resolve()), None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    guard_hub()
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
    """Hash names, shapes and a sample of every tensor in bfloat16.

    This is cheap at any size, and independent of the dtype the model is loaded in.

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


KEY = "autoencoder.encoder.lora"
UNREAD = "pooler"
"""What some encoders put behind their last layer; nobody reads it where the text's vectors are averaged."""

ALL_LINEAR = "all-linear"
Targets = str | Annotated[tuple[str, ...], Field(strict=False)]  # JSON has no tuples


class LoraConfig(Config):
    """Adapters of a rank on some linear layers."""

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0, description="what an adapter says is multiplied by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="of what an adapter reads, in training")
    targets: Targets = Field(
        default=ALL_LINEAR,
        description="all linear layers, or those of these names, such as [query, value]",
    )


def adapted_layers(model: nn.Module, targets: Targets) -> dict[str, tuple[int, int]]:
    """List the layers that get an adapter, by their names in the model: sizes of what each reads and writes.

    A target is the end of a layer's name, in whole parts (`query`, `self.query`). The model may be on the meta device.

    Raises:
        ModelError: no linear layer has the name of a target; names those that there are.
    """
    linear = _linear_layers(model)
    if targets == ALL_LINEAR:
        return linear
    names = (targets,) if isinstance(targets, str) else targets
    chosen = {name: size for name, size in linear.items() if any(_ends(name, target) for target in names)}
    missing = [target for target in names if not any(_ends(name, target) for name in chosen)]
    if missing or not chosen:
        known = ", ".join(sorted({name.rpartition(".")[2] for name in linear})) or "none"
        culprit = f"no linear layer of {type(model).__name__} is called {missing[0]!r}" if missing else "it is empty"
        raise ModelError(f"{KEY}.targets: {culprit}; its layers are {known}; give some of these, or all-linear")
    return chosen


def add_adapters(model: PreTrainedModel, config: LoraConfig) -> None:
    """Put adapters into a model in place and freeze everything else; A is drawn from torch's global generator.

    Raises:
        ModelError: peft is not installed, or no layer has the name of a target.
    """
    try:
        from peft import LoraConfig as Adapters
        from peft import inject_adapter_in_model
    except ImportError as error:
        raise ModelError(
            f"{KEY} needs the package peft ({error}); {installed_by('llm')} installs it, or give --set {KEY}=null"
        ) from error
    layers = adapted_layers(model, config.targets)
    model.requires_grad_(False)
    adapters = Adapters(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # divided by the rank only
        lora_dropout=config.dropout,
        target_modules=sorted(layers),
        fan_in_fan_out=any(_is_transposed(model.get_submodule(name)) for name in layers),
    )
    inject_adapter_in_model(adapters, model)


def _linear_layers(model: nn.Module) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for name, module in model.named_modules():
        if name.split(".")[0] == UNREAD:
            continue
        if isinstance(module, nn.Linear):
            found[name] = (module.in_features, module.out_features)
        elif _is_transposed(module):
            read, written = module.weight.shape
            found[name] = (int(read), int(written))
    return found


def _is_transposed(module: nn.Module) -> bool:
    """Tell whether a layer is GPT-2's linear one, whose matrix stands the other way round."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def _ends(name: str, target: str) -> bool:
    return f".{name}".endswith(f".{target}")
