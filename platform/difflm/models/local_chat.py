"""A pretrained language model in this process that answers messages: a judge without an endpoint.

Shape legend: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from difflm.errors import ModelError
from difflm.models.decoder import load_causal_lm


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatReply:
    """What the model wrote, whether it came to its end, and the tokens that it read and wrote."""

    text: str
    finished: bool
    read: int
    written: int


class LocalChat:
    """A causal LM that is loaded at the first message; `model` is whatever `difflm.models.sources` names."""

    def __init__(self, model: str) -> None:
        self.model = model
        self._loaded: tuple[Any, Any] | None = None

    @torch.inference_mode()
    def reply(
        self,
        messages: Sequence[dict[str, str]],
        *,
        max_tokens: int,
        temperature: float | None,
        seed: int,
        given_up: Callable[[], bool] = lambda: False,
    ) -> ChatReply:
        """Answer by the likeliest tokens, or at a temperature above 0 by tokens drawn with the seed.

        It ends early once `given_up` says that nobody waits for the answer any more.

        Raises:
            ModelError: the model cannot be loaded, or messages and reply are longer than it reads.
        """
        model, tokenizer = self.load()
        ids: list[int] = tokenizer(_spelled(tokenizer, messages), add_special_tokens=False)["input_ids"]
        longest = int(getattr(model.config, "max_position_embeddings", 0) or 0)
        if longest and len(ids) + max_tokens > longest:
            raise ModelError(
                f"{self.model}: reads {longest} tokens; messages of {len(ids)} and a reply of {max_tokens} are more"
            )
        generator, written = torch.Generator().manual_seed(seed), list[int]()
        past, step_1T = None, torch.tensor([ids])
        for _ in range(max_tokens):
            if given_up():
                break
            out = model(input_ids=step_1T, past_key_values=past, use_cache=True, logits_to_keep=1)
            token = _chosen(out.logits[0, -1].float(), temperature, generator)
            if token == tokenizer.eos_token_id:
                return ChatReply(text=tokenizer.decode(written), finished=True, read=len(ids), written=len(written))
            written.append(token)
            past, step_1T = out.past_key_values, torch.tensor([[token]])
        return ChatReply(text=tokenizer.decode(written), finished=False, read=len(ids), written=len(written))

    def load(self) -> tuple[Any, Any]:
        """Return model and tokenizer, which are loaded once; raise ModelError where that is impossible."""
        if self._loaded is None:
            model, tokenizer = load_causal_lm(self.model)
            model.train(False)
            self._loaded = model, tokenizer
        return self._loaded


def _chosen(logits_V: Tensor, temperature: float | None, generator: torch.Generator) -> int:
    if not temperature:
        return int(logits_V.argmax())
    return int(torch.multinomial((logits_V / temperature).softmax(dim=-1), 1, generator=generator))


def _spelled(tokenizer: Any, messages: Sequence[dict[str, str]]) -> str:
    if getattr(tokenizer, "chat_template", None):
        text: str = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        return text
    return "\n\n".join([*(message["content"] for message in messages), ""])
