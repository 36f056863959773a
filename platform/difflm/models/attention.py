"""How a pretrained model computes its attention: as it prefers, by a fused kernel, by single operations, or by
FlashAttention 2 (Dao 2023, arXiv 2307.08691).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field

from difflm.errors import ModelError

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
    """What `from_pretrained` is told; None leaves it to the model.

    A model that shall train with FlashAttention is loaded without it. Records are encoded in float32 and decoded with a
    mask for every slot, possibly on a CPU, and FlashAttention does none of these; `use_flash_attention` switches to it.
    """
    return attention if attention in ("sdpa", "eager") else None


def refused_attention(attention: AttentionName, model: str, key: str, error: Exception) -> ModelError:
    """What to say of a model that was told how to attend, by the setting `key`, and raised."""
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
