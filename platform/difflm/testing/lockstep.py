"""The reference of the decoding loop: all records in step, every token drawn, forced ones too, and no cache.

Shape legend: B records, T most tokens of a record, A active tokens.

Walks through a grammar without a model: any constraint, driven as the decoding loop drives it, by chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from difflm.models.decoder import FrozenDecoder
from difflm.models.prompt import Prompt, causal_logits, join_tokens
from difflm.synthesis.decoding.sampling import Truncation, draw
from difflm.synthesis.grammar.automaton import Automaton
from difflm.synthesis.grammar.constraint import Constraint, Runs, Walks


def random_walks(constraint: Constraint, indices: Sequence[int], *, seed: int, longest: int) -> list[list[int]]:
    """Return one complete walk per index, with uniform choices among the allowed tokens.

    Raises AssertionError when one allows nothing, or has more than `longest` tokens.
    """
    walks, slots_N = constraint.walks(len(indices)), torch.arange(len(indices))
    spelled: list[list[int]] = [[] for _ in indices]
    generator = torch.Generator().manual_seed(seed)
    _append(spelled, slots_N, walks.begin(slots_N, indices))
    while len(slots_N := slots_N[~walks.final_N(slots_N)]):
        allowed_NA = walks.allowed_BA()[slots_N]
        _check_choices(walks, slots_N, allowed_NA)
        assert bool(allowed_NA.any(dim=1).all()), "a walk that has not ended allows nothing"
        choice_N = torch.multinomial(allowed_NA.double(), 1, generator=generator).squeeze(1)
        _append(spelled, slots_N, walks.advance(slots_N, choice_N))
        assert max(map(len, spelled)) <= longest, f"a walk has more than {longest} tokens"
    return spelled


def _check_choices(walks: Walks, slots_N: Tensor, allowed_NA: Tensor) -> None:
    """Compare the list of what may come next, if there is one, with the mask."""
    if (choices := walks.choices()) is None:
        return
    for slot, allowed_A in zip(slots_N.tolist(), allowed_NA, strict=True):
        listed = choices.place_BL[slot][choices.real_BL[slot]]
        assert listed.tolist() == allowed_A.nonzero().squeeze(1).tolist(), "mask and list of the next tokens differ"


def _append(spelled: list[list[int]], slots_N: torch.Tensor, runs: Runs) -> None:
    rows = zip(slots_N.tolist(), runs.tokens_NF.tolist(), runs.lengths_N.tolist(), strict=True)
    for slot, tokens, length in rows:
        spelled[slot] += tokens[:length]


@torch.no_grad()
def decode_in_step(
    decoder: FrozenDecoder, automaton: Automaton, prompt: Prompt, uniforms_BT: Tensor, truncation: Truncation
) -> list[list[int] | None]:
    """Return the tokens of every record, None where T of them did not end it."""
    batch = len(prompt)
    read_BT = torch.full((batch, 1), decoder.bos_id)
    state_B, spent_B = torch.full((batch,), automaton.start), torch.zeros(batch, dtype=torch.int64)
    tokens: list[list[int]] = [[] for _ in range(batch)]
    for uniform_B in uniforms_BT.T:
        ended_B = state_B == automaton.final
        if bool(ended_B.all()):
            break
        scores_BA = _scores(decoder, prompt, read_BT)[:, automaton.tokens_A].float()
        masked_BA = scores_BA.masked_fill(~automaton.allowed_BA(state_B), -torch.inf)
        masked_BA = torch.where(ended_B[:, None], 0.0, masked_BA)
        choice_B = draw(truncation.scores_BA(masked_BA), uniform_B)
        next_B = torch.where(ended_B, state_B, automaton.next_B(state_B, choice_B))
        state_B, spent_B = _closed(automaton, next_B, spent_B)
        chosen_B = automaton.tokens_A[choice_B]
        for row, token, ended in zip(tokens, chosen_B.tolist(), ended_B.tolist(), strict=True):
            row += [] if ended else [token]
        read_BT = torch.cat([read_BT, chosen_B[:, None]], dim=1)
    finished = (state_B == automaton.final).tolist()
    return [row if whole else None for row, whole in zip(tokens, finished, strict=True)]


@torch.no_grad()
def nats_in_step(
    decoder: FrozenDecoder,
    automaton: Automaton,
    prompt: Prompt,
    records: Sequence[Sequence[int]],
    truncation: Truncation,
) -> list[float]:
    """Return minus the logarithm of the probability that every record's tokens are drawn with, one token at a time."""
    found = []
    for row, tokens in enumerate(records):
        one, nats = prompt.rows(slice(row, row + 1)), 0.0
        state_1, spent_1 = torch.tensor([automaton.start]), torch.zeros(1, dtype=torch.int64)
        for place, token in enumerate(tokens):
            scores_1A = _scores(decoder, one, torch.tensor([[decoder.bos_id, *tokens[:place]]]))[:, automaton.tokens_A]
            masked_1A = scores_1A.float().masked_fill(~automaton.allowed_BA(state_1), -torch.inf)
            choice_1 = (automaton.tokens_A == token).nonzero()[0]
            nats -= float(torch.log_softmax(truncation.scores_BA(masked_1A), dim=1)[0, choice_1])
            state_1, spent_1 = _closed(automaton, automaton.next_B(state_1, choice_1), spent_1)
        found.append(nats)
    return found


def _scores(decoder: FrozenDecoder, prompt: Prompt, read_BT: Tensor) -> Tensor:
    """Return the scores (B, V) of what follows the tokens read so far."""
    if decoder.joined_V is None:
        return causal_logits(decoder.model, prompt, read_BT)[:, -1]
    lengths_B = torch.full((len(read_BT),), read_BT.shape[1])
    text = join_tokens(read_BT, lengths_B, decoder.joined_V)
    scores_BPV = causal_logits(decoder.model, prompt, text.tokens_BP, text.also_BP)
    return scores_BPV[torch.arange(len(read_BT)), text.lengths_B - 1]


def _closed(automaton: Automaton, state_B: Tensor, spent_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return the states of walks that have just entered one: those that have spent their steps are moved on."""
    bounded_B = automaton.closing_S[state_B] != state_B
    spent_B = torch.where(bounded_B, spent_B + 1, 0)
    return torch.where(spent_B > automaton.limit_S[state_B], automaton.closing_S[state_B], state_B), spent_B
