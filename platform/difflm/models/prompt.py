"""The prompt: what a frozen decoder reads of a latent; and the likelihood of text behind one.

The prompt: what a frozen decoder reads of a latent, whatever wrote it.

Shape legend: B records, K positions in front of the text, D width of token embeddings, L layers, X keys and values (2),
H key heads, E head size.

Likelihood of text under a causal LM behind a prompt.

Shape legend: B records, K positions of the prompt, L layers, X keys and values, H key heads, E head size, T text
tokens, P positions of the text, D embedding width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from difflm.models.lean_llama import is_lean, lean_nats

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """K positions in front of BOS, and what is added to every token embedding behind them.

    The first positions are what the decoder's layers would have made of tokens there: keys, already turned to their
    positions, and values (`memory_BLXHKE`). Behind these stand embeddings that it reads like tokens (`embeds_BKD`).
    Either may have no positions. `added_BD` is added to the embeddings of BOS and of every token of the text.
    """

    embeds_BKD: Tensor
    memory_BLXHKE: Tensor | None = None
    added_BD: Tensor | None = None

    def __len__(self) -> int:
        """B."""
        return len(self.embeds_BKD)

    @property
    def positions(self) -> int:
        """K."""
        remembered = 0 if self.memory_BLXHKE is None else self.memory_BLXHKE.shape[4]
        return int(remembered + self.embeds_BKD.shape[1])

    def rows(self, rows: Tensor | slice) -> Prompt:
        """Return the prompts of some records."""
        return self._each(lambda part: part[rows])

    def to(self, dtype: torch.dtype) -> Prompt:
        """Return the same in another precision."""
        return self._each(lambda part: part.to(dtype))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Prompt:
        memory, added = self.memory_BLXHKE, self.added_BD
        return Prompt(
            embeds_BKD=change(self.embeds_BKD),
            memory_BLXHKE=None if memory is None else change(memory),
            added_BD=None if added is None else change(added),
        )


def joined_prompts(parts: Sequence[Prompt]) -> Prompt:
    """Return the prompts of several batches, which one injector wrote."""
    if len(parts) == 1:
        return parts[0]
    memories = [part.memory_BLXHKE for part in parts if part.memory_BLXHKE is not None]
    added = [part.added_BD for part in parts if part.added_BD is not None]
    return Prompt(
        embeds_BKD=torch.cat([part.embeds_BKD for part in parts]),
        memory_BLXHKE=torch.cat(memories) if memories else None,
        added_BD=torch.cat(added) if added else None,
    )


NO_TOKEN = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedTokens:
    """Tokens by the positions that a decoder reads them in, B texts of up to P positions.

    At a position stands a token and, unless it is NO_TOKEN, the one that is read with it; `place_BP` is where the last
    of the two stands in the text. What lies behind a text's `lengths_B` positions means nothing.
    """

    tokens_BP: Tensor
    also_BP: Tensor
    place_BP: Tensor
    lengths_B: Tensor


def join_tokens(tokens_BT: Tensor, lengths_B: Tensor, joined_V: Tensor) -> JoinedTokens:
    """Let every token that `joined_V` marks be read in the position of the one in front, where there is one.

    What only says which field follows needs no position of its own: its embedding is added to that of the token before.
    No two of them follow each other, for a value stands between.
    """
    place_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
    inside_BT = place_T < lengths_B[:, None]
    joins_BT = joined_V[tokens_BT] & inside_BT & (place_T > 0)
    before_BT = nn.functional.pad(joins_BT[:, 1:], (0, 1))  # its follower is read with it
    kept_BT = inside_BT & ~joins_BT
    kept_B = kept_BT.sum(dim=1)
    order_BP = torch.argsort((~kept_BT).to(torch.uint8), dim=1, stable=True)[:, : int(kept_B.max())]
    also_BT = torch.where(before_BT, nn.functional.pad(tokens_BT[:, 1:], (0, 1)), NO_TOKEN)
    return JoinedTokens(
        tokens_BP=tokens_BT.gather(1, order_BP),
        also_BP=also_BT.gather(1, order_BP),
        place_BP=order_BP + before_BT.gather(1, order_BP),
        lengths_B=kept_B,
    )


def causal_logits(model: nn.Module, prompt: Prompt, tokens_BT: Tensor, also_BT: Tensor | None = None) -> Tensor:
    """Scores (B, T, V) of what follows every token of a text behind a prompt; the first token is BOS.

    `model` is any Hugging Face causal LM; `also_BT` are the tokens that are read in the same positions, or NO_TOKEN.
    """
    return _logits(model, prompt, _inputs(model, prompt, tokens_BT, also_BT), tokens_BT.shape[1])


def _inputs(model: nn.Module, prompt: Prompt, tokens_BT: Tensor, also_BT: Tensor | None) -> Tensor:
    """Return the embeddings that the model reads: those of the prompt, and behind them of the text."""
    embed = model.get_input_embeddings()  # type: ignore[operator]
    if also_BT is None:
        text_BTD = embed(tokens_BT)
    else:  # at once, for private gradients are made of one use of the embeddings
        text_BTD, also_BTD = embed(torch.cat([tokens_BT, also_BT.clamp(min=0)], dim=1)).chunk(2, dim=1)
        text_BTD = text_BTD + also_BTD * (also_BT >= 0)[..., None]
    if prompt.added_BD is not None:
        text_BTD = text_BTD + prompt.added_BD[:, None].to(text_BTD.dtype)
    return torch.cat([prompt.embeds_BKD.to(text_BTD.dtype), text_BTD], dim=1)


def _logits(model: nn.Module, prompt: Prompt, inputs_BPD: Tensor, count: int) -> Tensor:
    """Return the scores of what follows the last `count` positions."""
    past = None if prompt.memory_BLXHKE is None else _cache(prompt.memory_BLXHKE.to(inputs_BPD.dtype))
    # Named one by one and not as a number: of a slice, which is not contiguous, torch would copy the whole output
    # matrix once for every record.
    kept_T = torch.arange(inputs_BPD.shape[1] - count, inputs_BPD.shape[1], device=inputs_BPD.device)
    scores_BTV: Tensor = model(
        inputs_embeds=inputs_BPD, past_key_values=past, use_cache=False, logits_to_keep=kept_T
    ).logits
    return scores_BTV


def _cache(memory_BLXHKE: Tensor) -> Cache | None:
    """Return what Hugging Face's models read as their past; None where there are no positions."""
    from transformers.cache_utils import DynamicCache

    if memory_BLXHKE.shape[4] == 0:
        return None
    return DynamicCache([(layer_BXHKE[:, 0], layer_BXHKE[:, 1]) for layer_BXHKE in memory_BLXHKE.unbind(1)])


def causal_nll(
    model: nn.Module,
    prompt: Prompt,
    ids_BT: Tensor,
    lengths_B: Tensor,
    *,
    bos_id: int,
    joined_V: Tensor | None = None,
    temperature_B: Tensor | None = None,
) -> Tensor:
    """Nats per token (B, T) of the text behind a prompt and BOS; 0 behind a record's end.

    Every record's distributions are those of its temperature, 1 by default.

    Tokens that `joined_V` marks are read with the one in front (`join_tokens`), and given: nothing predicts them.
    """
    bos_B1 = torch.full((len(ids_BT), 1), bos_id, dtype=ids_BT.dtype, device=ids_BT.device)
    read_BT = torch.cat([bos_B1, ids_BT[:, :-1]], dim=1)
    if joined_V is None:
        nats_BT = _text_nats(model, prompt, read_BT, None, ids_BT, temperature_B)
        inside_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device) < lengths_B[:, None]
        return nats_BT * inside_BT
    text = join_tokens(read_BT, lengths_B, joined_V)
    place_BP = text.place_BP  # of the last token read there, counted from BOS: the place in the ids of what follows
    target_BP = ids_BT.gather(1, place_BP)
    nats_BP = _text_nats(model, prompt, text.tokens_BP, text.also_BP, target_BP, temperature_B)
    inside_BP = torch.arange(place_BP.shape[1], device=ids_BT.device) < text.lengths_B[:, None]
    return torch.zeros_like(ids_BT, dtype=nats_BP.dtype).scatter_add(1, place_BP, nats_BP * inside_BP)


def _text_nats(
    model: nn.Module,
    prompt: Prompt,
    read_BT: Tensor,
    also_BT: Tensor | None,
    ids_BT: Tensor,
    temperature_B: Tensor | None,
) -> Tensor:
    """Return the nats (B, T) of tokens, each behind those that are read up to its place."""
    inputs_BPD = _inputs(model, prompt, read_BT, also_BT)
    if temperature_B is None and prompt.memory_BLXHKE is None and is_lean(model, inputs_BPD):
        return lean_nats(cast("PreTrainedModel", model), inputs_BPD, ids_BT)
    logits_BTV = _tempered(_logits(model, prompt, inputs_BPD, ids_BT.shape[1]).float(), temperature_B)
    # Flat, without copying the scores into another order.
    return nn.functional.cross_entropy(logits_BTV.flatten(0, 1), ids_BT.flatten(), reduction="none").view_as(ids_BT)


def _tempered(logits_BTV: Tensor, temperature_B: Tensor | None) -> Tensor:
    if temperature_B is None:
        return logits_BTV
    # The greatest becomes 0 before the division, so that no temperature overflows it.
    return (logits_BTV - logits_BTV.amax(dim=-1, keepdim=True)) / temperature_B[:, None, None]


def padded_batches(order: Sequence[int], lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Cut texts, ordered from short to long, into batches of `most` tokens with their padding; of one text at least."""
    batch: list[int] = []
    for place in order:
        if batch and (len(batch) + 1) * lengths[place] > most:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def freeze(model: PreTrainedModel) -> PreTrainedModel:
    """No gradient for any parameter, evaluation mode."""
    model.requires_grad_(False)
    model.train(False)
    return model
