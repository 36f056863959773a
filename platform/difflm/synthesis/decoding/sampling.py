"""Drawing a token from masked scores by inverse transform, and completions of prompts drawn with it.

Drawing a token from masked scores by inverse transform: temperature, top-k, top-p.

Shape legend: B rows, A active tokens.

Completions of prompts by a causal language model: sampled, and cut where the exercise's own function ends.

Shape legend: K completions of one prompt, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


COLDEST, HOTTEST = 1e-30, 1e30
"""Beyond them single precision would divide 0 by 0 or infinity by itself; long before, no draw changes any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncation:
    """How the distribution of the next token is sharpened before it is drawn from.

    Everything refers to the allowed tokens, renormalised: what the grammar forbids takes no part in the temperature's
    softmax, in the k best or in the mass p. `top_k` 1 is greedy decoding.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None

    def scores_BA(self, masked_BA: Tensor, temperature_B1: Tensor | None = None) -> Tensor:
        """Return scores with -inf for what may not be drawn; a row's greatest score is 0.

        `masked_BA` has -inf where the grammar forbids a token, and a finite score in every row. `temperature_B1`
        gives every row a temperature of its own.
        """
        # The greatest score becomes 0 before the division, so that no temperature overflows it.
        if temperature_B1 is None:
            temperature: float | Tensor = min(max(self.temperature, COLDEST), HOTTEST)
        else:
            temperature = temperature_B1.clamp(COLDEST, HOTTEST)
        scores_BA = (masked_BA - masked_BA.amax(dim=1, keepdim=True)) / temperature
        if self.top_k is not None and self.top_k < scores_BA.shape[1]:
            least_B1 = scores_BA.topk(self.top_k, dim=1).values[:, -1:]
            scores_BA = scores_BA.masked_fill(scores_BA < least_B1, -math.inf)
        return self._nucleus(scores_BA) if self.top_p < 1 else scores_BA

    def _nucleus(self, scores_BA: Tensor) -> Tensor:
        """Keep the fewest best tokens whose mass reaches top_p (Holtzman et al. 2020); tied tokens stay together."""
        ordered_BA = scores_BA.sort(dim=1, descending=True).values
        mass_BA = torch.softmax(ordered_BA, dim=1).cumsum(dim=1)
        count_B1 = (mass_BA < self.top_p).sum(dim=1, keepdim=True).clamp(max=scores_BA.shape[1] - 1)
        return scores_BA.masked_fill(scores_BA < ordered_BA.gather(1, count_B1), -math.inf)


GROUP = 32
"""Places whose probabilities are summed before they are looked at one by one."""


def draw(scores_BA: Tensor, uniform_B: Tensor) -> Tensor:
    """Draw by inverse transform: the first place whose cumulative probability exceeds uniform * total.

    A masked place is never drawn.
    """
    # Sums in double precision: of a thousand terms in single one, the last ones would hardly count. Most running sums
    # are never needed: first comes the group of places that the threshold lies in, then the place in that group.
    weights_BA = torch.exp(scores_BA - scores_BA.amax(dim=-1, keepdim=True))
    weights_BX = nn.functional.pad(weights_BA, (0, -weights_BA.shape[1] % GROUP))
    weights_BGP = weights_BX.view(len(weights_BX), -1, GROUP)
    sum_BG = weights_BGP.sum(dim=2, dtype=torch.float64)
    until_BG = sum_BG.cumsum(dim=1)
    threshold_B1 = uniform_B.double()[:, None] * until_BG[:, -1:]
    group_B1 = torch.searchsorted(until_BG, threshold_B1, right=True).clamp(max=until_BG.shape[1] - 1)
    until_BP = weights_BGP.gather(1, group_B1[:, :, None].expand(-1, -1, GROUP)).squeeze(1).double().cumsum(dim=1)
    left_B1 = threshold_B1 - (until_BG - sum_BG).gather(1, group_B1)
    # Whatever rounding does, within the group: above none of its mass and below all of it.
    left_B1 = torch.minimum(left_B1.clamp(min=0.0), until_BP[:, -1:] * (1 - torch.finfo(torch.float64).eps))
    return (group_B1 * GROUP + torch.searchsorted(until_BP, left_B1, right=True)).squeeze(1)


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
    max_tokens: int,
    seed: int,
) -> list[str]:
    """Sample K completions of a prompt, of at most `max_tokens` tokens each.

    A prompt that does not fit into the context is truncated to its last tokens.
    """
    device: Any = model.device
    room: int | None = getattr(model.config, "max_position_embeddings", None)
    ids = tokenizer(prompt, add_special_tokens=True)["input_ids"]
    if room is not None:
        ids = ids[-max(1, room - max_tokens) :]
    torch.manual_seed(seed)
    generate: Any = model.generate
    made_KT = generate(
        torch.tensor([ids], device=device),
        attention_mask=torch.ones((1, len(ids)), dtype=torch.int64, device=device),
        do_sample=True,
        temperature=temperature,
        num_return_sequences=samples,
        max_new_tokens=max_tokens,
        pad_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return [str(tokenizer.decode(row[len(ids) :], skip_special_tokens=True)) for row in made_KT]


def cut(completion: str, stops: Sequence[str] = STOPS) -> str:
    """Cut a completion at the first line that begins something new; a stop at its very beginning is part of it."""
    ends = [place for stop in stops if (place := completion.find(stop, 1)) >= 0]
    return completion[: min(ends)] if ends else completion
