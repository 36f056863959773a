"""The seam between the decoding loop and a causal LM, and any causal LM of Hugging Face behind it, slot by slot.

The seam between the decoding loop and a causal LM: prompts are read ahead, then every slot reads its own run.

Shape legend: B slots, N prompts, K positions of the prompt, D embedding width, L layers, X keys and values, H key
heads, E head size, A active tokens, F tokens of the longest run.

Any causal LM of Hugging Face, slot by slot: its own forward pass with an explicit mask and explicit positions.

Shape legend: B slots, N prompts, K positions of the prompt, L layers, X keys and values, F tokens of the longest
run, T positions seen, D width, H key heads, E head size, A active tokens.

Runs are padded on the left, so that every slot's last token stands in the last column and only that one is scored.
Padding reads position 0 alone and writes to the cache's last position, which no record has reached yet.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

from difflm.errors import ModelError
from difflm.models.decoder import FrozenDecoder
from difflm.models.prompt import Prompt
from difflm.synthesis.decoding.kv_cache import PromptCache, SlotCache, joined
from difflm.synthesis.grammar.constraint import Runs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PREFILL_TOKENS = 4096  # of soft prompts that are read in one pass: more gains nothing and takes more memory


class SlotModel(Protocol):
    """A causal LM that scores the active tokens."""

    def prefill(self, embeds_NKD: Tensor, behind: PromptCache | None = None) -> PromptCache:
        """Read prompts of one length, from position 0 on or behind what is cached; return the cache of all of it."""
        ...

    def recall(self, memory_NLXHKE: Tensor) -> PromptCache:
        """Cache prompts that are already keys and values, in the model's own form."""
        ...

    def step(self, cache: SlotCache, runs: Runs, filled_B: Tensor) -> Tensor:
        """Read the run of every slot behind the `filled_B` positions that its cache holds, and score what comes next.

        What the cache says is added to a slot's tokens is added to their embeddings, and of tokens that are read in
        one position the embeddings are added.
        Scores have the shape (B, A); those of a slot whose run is empty mean nothing. One slot's tokens and NaN do not
        touch another's.
        """
        ...


def read_prompts(model: SlotModel, prompt: Prompt) -> PromptCache:
    """Compute the caches of prompts: read in pieces of bounded memory, or recalled."""
    if prompt.memory_BLXHKE is not None and prompt.embeds_BKD.shape[1] == 0:
        return replace(model.recall(prompt.memory_BLXHKE), added_ND=prompt.added_BD)
    rows = max(1, PREFILL_TOKENS // prompt.positions)
    pieces = [prompt.rows(slice(first, first + rows)) for first in range(0, len(prompt), rows)]
    memories = [None if piece.memory_BLXHKE is None else model.recall(piece.memory_BLXHKE) for piece in pieces]
    read = [model.prefill(piece.embeds_BKD, behind) for piece, behind in zip(pieces, memories, strict=True)]
    return replace(joined(read), added_ND=prompt.added_BD)


def slot_model(decoder: FrozenDecoder, tokens_A: Tensor) -> SlotModel:
    """Choose the fastest model: our own forward pass for small Llamas, Hugging Face's for all others."""
    from difflm.synthesis.decoding.llama import LlamaSlots, is_small_llama

    if is_small_llama(decoder.model):
        return LlamaSlots(decoder.model, tokens_A)
    return HuggingFaceSlots(decoder.model, tokens_A)


_KINDS = frozenset({"full_attention", "sliding_attention"})


class _SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """What one layer of the model sees of the slots' cache during one step."""

    is_sliding = False

    def __init__(self, cache: SlotCache, layer: int, rows: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cache, self.layer, self.rows = cache, layer, rows
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Do nothing: the cache exists already."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        self.cache.write(self.layer, self.rows, key_states.transpose(1, 2), value_states.transpose(1, 2))
        return self.cache.keys[self.layer], self.cache.values[self.layer]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.positions, 0

    def get_seq_length(self) -> int:
        return self.cache.positions

    def get_max_length(self) -> int:
        return self.cache.positions

    get_max_cache_shape = get_max_length  # what it is called before transformers 5


class HuggingFaceSlots:
    """A `SlotModel` over the forward pass of a `PreTrainedModel`."""

    def __init__(self, model: PreTrainedModel, tokens_A: Tensor) -> None:
        self.model, self.tokens_A = model, tokens_A
        config: Any = model.config.get_text_config()
        self.layer_count = int(config.num_hidden_layers)
        self.window: int | None = getattr(config, "sliding_window", None)
        kinds: list[str] | None = getattr(config, "layer_types", None)
        self.kinds = None if kinds is None else frozenset(kinds)
        if self.kinds is not None and self.kinds - _KINDS:
            odd = ", ".join(sorted(self.kinds - _KINDS))
            raise ModelError(
                f"the decoder {config.model_type} has layers of the kind {odd}, whose past cannot be kept slot by "
                "slot; choose a decoder with full or sliding attention"
            )

    def prefill(self, embeds_NKD: Tensor, behind: PromptCache | None = None) -> PromptCache:
        cache = DynamicCache([] if behind is None else list(zip(behind.keys, behind.values, strict=True)))
        self.model(inputs_embeds=embeds_NKD, past_key_values=cache, use_cache=True, logits_to_keep=1)
        layers: list[Any] = cache.layers
        return PromptCache(keys=[layer.keys for layer in layers], values=[layer.values for layer in layers])

    def recall(self, memory_NLXHKE: Tensor) -> PromptCache:
        layers = memory_NLXHKE.unbind(1)
        return PromptCache(keys=[layer[:, 0] for layer in layers], values=[layer[:, 1] for layer in layers])

    def step(self, cache: SlotCache, runs: Runs, filled_B: Tensor) -> Tensor:
        longest = int(runs.lengths_N.max())
        offset_BF = torch.arange(longest, device=filled_B.device) - (longest - runs.lengths_N)[:, None]
        real_BF = offset_BF >= 0
        ids_BF = runs.tokens_NF.gather(1, offset_BF.clamp(min=0)) * real_BF
        position_BF = (filled_B[:, None] + offset_BF) * real_BF
        seen = cache.positions
        written_BF = torch.where(real_BF, position_BF, cache.positions - 1)
        slot_BF = torch.arange(len(written_BF), device=filled_B.device)[:, None].expand_as(written_BF)
        rows = cache.rows(slot_BF, written_BF)
        layers: list[Any] = [_SlotLayer(cache, layer, rows) for layer in range(self.layer_count)]
        embeds_BFD = self.model.get_input_embeddings()(ids_BF)
        if runs.also_NF is not None:
            also_BF = runs.also_NF.gather(1, offset_BF.clamp(min=0))
            also_BFD = self.model.get_input_embeddings()(also_BF.clamp(min=0))
            embeds_BFD = embeds_BFD + also_BFD * (also_BF >= 0)[..., None]
        if cache.added_BD is not None:
            embeds_BFD = embeds_BFD + cache.added_BD[:, None]
        output = self.model(
            inputs_embeds=embeds_BFD,
            position_ids=position_BF,
            attention_mask=self._masks(position_BF, seen),
            past_key_values=Cache(layers=layers),
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1, self.tokens_A]  # type: ignore[no-any-return]

    def _masks(self, position_BF: Tensor, seen: int) -> Tensor | dict[str, Tensor]:
        """Build the mask, or one per kind of layer where the model has several (the form that `generate` prepares)."""
        if self.kinds is None:
            return self._mask(position_BF, seen, self.window)
        windows = {"full_attention": None, "sliding_attention": self.window}
        return {kind: self._mask(position_BF, seen, windows[kind]) for kind in sorted(self.kinds)}

    def _mask(self, position_BF: Tensor, seen: int, window: int | None) -> Tensor:
        """Build the mask that is added to attention scores, (B, 1, F, T)."""
        distance_BFT = position_BF[..., None] - torch.arange(seen, device=position_BF.device)
        hidden_BFT = distance_BFT < 0 if window is None else (distance_BFT < 0) | (distance_BFT >= window)
        dtype: torch.dtype = self.model.dtype
        mask_BFT = torch.zeros(hidden_BFT.shape, dtype=dtype, device=position_BF.device)
        return mask_BFT.masked_fill_(hidden_BFT, torch.finfo(dtype).min)[:, None]
