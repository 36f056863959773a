"""Completions of prompts by a causal language model: sampled, and cut where the exercise's own function ends.

Shape legend: K completions of one prompt, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STOPS = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\nassert ", '\n"""', "\n@")
"""What begins something new at the margin: Chen et al. 2021, section 3.2; also decorators, assertions, docstrings."""


@torch.no_grad()
def complete(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    *,
    samples: int,
    temperature: float,
    most_tokens: int,
    seed: int,
) -> list[str]:
    """K completions of a prompt, of at most `most_tokens` tokens each. The prompt's last tokens are read where all of
    it has no room.
    """
    device: Any = model.device
    room: int | None = getattr(model.config, "max_position_embeddings", None)
    ids = tokenizer(prompt, add_special_tokens=True)["input_ids"]
    if room is not None:
        ids = ids[-max(1, room - most_tokens) :]
    torch.manual_seed(seed)
    generate: Any = model.generate
    made_KT = generate(
        torch.tensor([ids], device=device),
        attention_mask=torch.ones((1, len(ids)), dtype=torch.int64, device=device),
        do_sample=True,
        temperature=temperature,
        num_return_sequences=samples,
        max_new_tokens=most_tokens,
        pad_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return [str(tokenizer.decode(row[len(ids) :], skip_special_tokens=True)) for row in made_KT]


def cut(completion: str, stops: Sequence[str] = STOPS) -> str:
    """The completion up to the first line that begins something new; a stop at its very beginning is part of it."""
    ends = [place for stop in stops if (place := completion.find(stop, 1)) >= 0]
    return completion[: min(ends)] if ends else completion
