"""Likelihood of text under a causal LM behind a prompt of embeddings.

Shape legend: B records, K soft tokens, T text tokens, D embedding width, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def causal_nll(model: nn.Module, prompt_BKD: Tensor, ids_BT: Tensor, lengths_B: Tensor, *, bos_id: int) -> Tensor:
    """Nats per token (B, T) of the text behind [prompt, BOS]; 0 behind a record's end.

    `model` is any Hugging Face causal LM.
    """
    batch, length = ids_BT.shape
    embed = model.get_input_embeddings()  # type: ignore[operator]
    bos_B1 = torch.full((batch, 1), bos_id, dtype=ids_BT.dtype, device=ids_BT.device)
    text_BTD = embed(torch.cat([bos_B1, ids_BT[:, :-1]], dim=1))
    inputs = torch.cat([prompt_BKD.to(text_BTD.dtype), text_BTD], dim=1)
    logits_BTV = model(inputs_embeds=inputs, use_cache=False, logits_to_keep=length).logits
    nats_BT = nn.functional.cross_entropy(logits_BTV.float().transpose(1, 2), ids_BT, reduction="none")
    inside_BT = torch.arange(length, device=ids_BT.device) < lengths_B[:, None]
    return nats_BT * inside_BT


def freeze(model: PreTrainedModel) -> PreTrainedModel:
    """No gradient for any parameter, evaluation mode."""
    model.requires_grad_(False)
    model.train(False)
    return model
