"""Likelihood of text under a causal LM behind a prompt.

Shape legend: B records, K positions of the prompt, L layers, X keys and values, H key heads, E head size, T text
tokens, D embedding width, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from difflm.models.prompt import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache


def causal_logits(model: nn.Module, prompt: Prompt, tokens_BT: Tensor) -> Tensor:
    """Scores (B, T, V) of what follows every token of a text behind a prompt; the first token is BOS.

    `model` is any Hugging Face causal LM.
    """
    embed = model.get_input_embeddings()  # type: ignore[operator]
    text_BTD = embed(tokens_BT)
    if prompt.added_BD is not None:
        text_BTD = text_BTD + prompt.added_BD[:, None].to(text_BTD.dtype)
    inputs = torch.cat([prompt.embeds_BKD.to(text_BTD.dtype), text_BTD], dim=1)
    past = None if prompt.memory_BLXHKE is None else _cache(prompt.memory_BLXHKE.to(text_BTD.dtype))
    scores_BTV: Tensor = model(
        inputs_embeds=inputs, past_key_values=past, use_cache=False, logits_to_keep=tokens_BT.shape[1]
    ).logits
    return scores_BTV


def _cache(memory_BLXHKE: Tensor) -> Cache | None:
    """What Hugging Face's models read as their past; None where there are no positions."""
    from transformers.cache_utils import DynamicCache

    if memory_BLXHKE.shape[4] == 0:
        return None
    return DynamicCache([(layer_BXHKE[:, 0], layer_BXHKE[:, 1]) for layer_BXHKE in memory_BLXHKE.unbind(1)])


def causal_nll(model: nn.Module, prompt: Prompt, ids_BT: Tensor, lengths_B: Tensor, *, bos_id: int) -> Tensor:
    """Nats per token (B, T) of the text behind a prompt and BOS; 0 behind a record's end."""
    bos_B1 = torch.full((len(ids_BT), 1), bos_id, dtype=ids_BT.dtype, device=ids_BT.device)
    logits_BTV = causal_logits(model, prompt, torch.cat([bos_B1, ids_BT[:, :-1]], dim=1))
    nats_BT = nn.functional.cross_entropy(logits_BTV.float().transpose(1, 2), ids_BT, reduction="none")
    inside_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device) < lengths_B[:, None]
    return nats_BT * inside_BT


def freeze(model: PreTrainedModel) -> PreTrainedModel:
    """No gradient for any parameter, evaluation mode."""
    model.requires_grad_(False)
    model.train(False)
    return model
