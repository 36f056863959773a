"""The seam between the decoding loop and a causal LM: prompts are read ahead, then every slot reads its own run.

Shape legend: B slots, N prompts, K positions of the prompt, D embedding width, L layers, X keys and values, H key
heads, E head size, A active tokens, F tokens of the longest run.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from difflm.models.decoder import FrozenDecoder
from difflm.models.prompt import Prompt
from difflm.synthesis.cache import PromptCache, SlotCache, joined
from difflm.synthesis.constraint import Runs

PREFILL_TOKENS = 4096  # of soft prompts that are read in one pass: more gains nothing and takes more memory


class SlotModel(Protocol):
    """A causal LM that scores the active tokens."""

    def prefill(self, embeds_NKD: Tensor) -> PromptCache:
        """Read prompts of one length, from position 0 on."""
        ...

    def recall(self, memory_NLXHKE: Tensor) -> PromptCache:
        """Prompts that are given as keys and values already, as the model itself would have them."""
        ...

    def step(self, cache: SlotCache, runs: Runs, filled_B: Tensor) -> Tensor:
        """Read the run of every slot behind the `filled_B` positions that its cache holds, and score what comes next.

        What the cache says is added to a slot's tokens is added to their embeddings.
        Scores have the shape (B, A); those of a slot whose run is empty mean nothing. One slot's tokens and NaN do not
        touch another's.
        """
        ...


def read_prompts(model: SlotModel, prompt: Prompt) -> PromptCache:
    """What the slots keep of prompts: read in pieces of bounded memory, or recalled."""
    if prompt.memory_BLXHKE is not None:
        return replace(model.recall(prompt.memory_BLXHKE), added_ND=prompt.added_BD)
    rows = max(1, PREFILL_TOKENS // prompt.positions)
    return joined([model.prefill(piece_NKD) for piece_NKD in torch.split(prompt.embeds_BKD, rows)])


def slot_model(decoder: FrozenDecoder, tokens_A: Tensor) -> SlotModel:
    """The fastest that fits the decoder: our own forward pass for small Llamas, Hugging Face's for every other."""
    from difflm.synthesis.hugging_face_slots import HuggingFaceSlots
    from difflm.synthesis.llama_slots import LlamaSlots, is_small_llama

    if is_small_llama(decoder.model):
        return LlamaSlots(decoder.model, tokens_A)
    return HuggingFaceSlots(decoder.model, tokens_A)
