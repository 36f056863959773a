"""Batched decoding with a KV cache, constrained by an automaton.

Shape legend: B records, K soft tokens, D embedding width, A active tokens, T steps.

Every token of record b at step t is drawn by inverse transform from the uniform number `uniforms_BT[b, t]`: no
generator is shared between records, so what a record becomes does not depend on who else is in its batch (up to the
floating-point arithmetic of matrix products of another shape).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from difflm.models.decoder import FrozenDecoder
from difflm.models.injector import Prompt
from difflm.synthesis.automaton import Automaton


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """Token ids of every record; `finished_B` is False where the step limit came before the end of the record."""

    tokens: list[list[int]]
    finished_B: list[bool]


@torch.no_grad()
def decode_batch(
    decoder: FrozenDecoder, prompt: Prompt, automaton: Automaton, uniforms_BT: Tensor, *, temperature: float
) -> Decoded:
    """Draw one record per prompt, at most T tokens each; every token is one that the automaton allows."""
    from difflm.synthesis.cache import preallocated_cache

    walk = Walk.begin(automaton, prompt.embeds_BKD.shape[0], prompt.embeds_BKD.device)
    model = decoder.model
    embed = model.get_input_embeddings()
    batch, soft, _ = prompt.embeds_BKD.shape
    steps = uniforms_BT.shape[1]
    cache = preallocated_cache(model.config.num_hidden_layers, soft + 1 + steps)
    bos_B1 = torch.full((batch, 1), decoder.bos_id, device=uniforms_BT.device)
    inputs = torch.cat([prompt.embeds_BKD.to(decoder.embeddings_VD.dtype), embed(bos_B1)], dim=1)
    drawn: list[Tensor] = []
    for step in range(steps):
        logits_BV = model(inputs_embeds=inputs, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
        tokens_B = walk.advance(logits_BV, uniforms_BT[:, step], temperature)
        drawn.append(torch.where(walk.ended_before_B, -1, tokens_B))
        if bool(walk.ended_B.all()):
            break
        inputs = embed(tokens_B)[:, None]
    rows = torch.stack(drawn, dim=1).tolist()
    return Decoded(tokens=[[token for token in row if token >= 0] for row in rows], finished_B=walk.ended_B.tolist())


@dataclass(slots=True, kw_only=True)
class Walk:
    """Where every record stands in the automaton."""

    automaton: Automaton
    state_B: Tensor
    in_bounded_B: Tensor
    ended_before_B: Tensor
    ended_B: Tensor

    @classmethod
    def begin(cls, automaton: Automaton, batch: int, device: torch.device) -> Walk:
        nothing = torch.zeros(batch, dtype=torch.bool, device=device)
        return cls(
            automaton=automaton,
            state_B=torch.full((batch,), automaton.start, device=device),
            in_bounded_B=torch.zeros(batch, dtype=torch.int64, device=device),
            ended_before_B=nothing,
            ended_B=nothing,
        )

    def advance(self, logits_BV: Tensor, uniform_B: Tensor, temperature: float) -> Tensor:
        """Draw a token for every record and move on; a record that has ended stays where it is and its token means
        nothing.
        """
        automaton = self.automaton
        allowed_BA = automaton.allowed_BA(self.state_B)
        scores_BA = logits_BV[:, automaton.tokens_A].float().masked_fill(~allowed_BA, -torch.inf)
        scores_BA = torch.where(self.ended_B[:, None], 0.0, scores_BA)
        # The greatest score becomes 0 before the division, so that no temperature overflows it.
        scores_BA = (scores_BA - scores_BA.amax(dim=1, keepdim=True)).double() / temperature
        choice_B = draw(scores_BA, uniform_B)
        next_B = automaton.next_B(self.state_B, choice_B)
        self.ended_before_B = self.ended_B
        self.state_B = torch.where(self.ended_B, self.state_B, next_B)
        self._close()
        self.ended_B = self.state_B == automaton.final
        return automaton.tokens_A[choice_B]

    def _close(self) -> None:
        limit_B = self.automaton.limit_S[self.state_B]
        bounded_B = self.automaton.closing_S[self.state_B] != self.state_B
        self.in_bounded_B = torch.where(bounded_B, self.in_bounded_B + 1, 0)
        self.state_B = torch.where(self.in_bounded_B > limit_B, self.automaton.closing_S[self.state_B], self.state_B)


def draw(scores_BA: Tensor, uniform_B: Tensor) -> Tensor:
    """Inverse transform: the first place whose cumulative probability exceeds uniform * total, so a masked place is
    never drawn.
    """
    weights_BA = torch.softmax(scores_BA.double(), dim=-1).cumsum(dim=-1)
    threshold_B1 = uniform_B.double()[:, None] * weights_BA[:, -1:]
    return torch.searchsorted(weights_BA, threshold_B1, right=True).squeeze(1).clamp(max=scores_BA.shape[1] - 1)
