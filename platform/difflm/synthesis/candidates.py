"""Candidates: of several records that were written with given fields first, one as if in the table's own order.

A decoder writes in any order, but knows best what follows from what in the table's order, that of most records of its
fit. So several candidates are written with the given fields first, and one of them is chosen with a probability in
proportion to p / q, where q is what it was drawn with and p what it would have in the table's order: sampling-
importance resampling (Rubin 1987). The more candidates, the nearer to the plain draws in which the condition holds.

Shape legend: N records, K candidates of each, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from difflm.models.autoencoder import Autoencoder
from difflm.models.prompt import padded_batches
from difflm.records.tokenization import RecordTokenizer
from difflm.synthesis.bundle import Bundle
from difflm.synthesis.decoding.requests import Decoded, Prompts, PromptSource
from difflm.synthesis.decoding.sampling import COLDEST, HOTTEST, Truncation
from difflm.synthesis.draws import DrawQueue
from difflm.synthesis.grammar.constraint import RecordSet
from difflm.synthesis.randomness import choice_number

CANDIDATES = 8
NEVER = -1e300  # the log-weight of what is chosen only where nothing else is
DRAWS_PER_PASS = 64  # whose candidates are compared at a time
TOKENS_PER_PASS = 16_384  # each takes a row of the vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """How one of `count` candidates is chosen; fields stand in any order, and begin with tokens of their own."""

    autoencoder: Autoencoder
    tokenizer: RecordTokenizer
    count: int
    temperature: float

    def prompts(self, made: Prompts) -> Prompts:
        """Repeat the prompt of every draw for its candidates, which share its uniform numbers, (N, K x T)."""
        row_M = torch.arange(len(made.addresses), device=made.uniforms_NT.device).repeat_interleave(self.count)
        return Prompts(
            addresses=[replace(address, candidate=place) for address in made.addresses for place in range(self.count)],
            prompt=made.prompt.rows(row_M),
            uniforms_NT=made.uniforms_NT.reshape(len(row_M), -1),
            scored=True,
        )

    def stream(self, decode: Callable[[PromptSource], Iterator[Decoded]], queue: DrawQueue) -> Iterator[Decoded]:
        """Decode all draws of a queue, and those that are queued again meanwhile; yield one candidate of each."""
        whole, parts = list[list[Decoded]](), dict[int, list[Decoded]]()
        while True:
            for item in decode(queue):
                group = parts.setdefault(item.address.index, [])
                group.append(item)
                if len(group) == self.count:
                    whole.append(parts.pop(item.address.index))
                if len(whole) == DRAWS_PER_PASS:
                    yield from self.chosen(whole, [queue.seed] * len(whole))
                    whole = []
            yield from self.chosen(whole, [queue.seed] * len(whole))
            whole = []
            if not queue.waits:
                return

    @torch.no_grad()
    def chosen(
        self,
        groups: Sequence[Sequence[Decoded]],
        seeds: Sequence[int],
        temperatures: Sequence[float | None] | None = None,
    ) -> list[Decoded]:
        """Choose one of every draw's candidates, N x K in any order, by inverse transform.

        Candidates that did not end are chosen only where none did. Temperatures are those of the draws; None is the
        configured one.
        """
        if not groups:
            return []
        ordered = [sorted(group, key=lambda item: item.address.candidate) for group in groups]
        drawn_with = [self.temperature if one is None else one for one in temperatures or [None] * len(groups)]
        temperature_M = torch.tensor(drawn_with, dtype=torch.float64).clamp(COLDEST, HOTTEST).float()
        flat = [item for group in ordered for item in group]
        weight_NK = self.weights(flat, temperature_M.repeat_interleave(self.count)).view(len(groups), self.count)
        until_NK = torch.softmax(weight_NK, dim=1).cumsum(dim=1)
        uniforms = [choice_number(group[0].address, seed) for group, seed in zip(ordered, seeds, strict=True)]
        target_N1 = torch.tensor(uniforms, dtype=torch.float64)[:, None] * until_NK[:, -1:]
        choice_N = torch.searchsorted(until_NK, target_N1, right=True).squeeze(1).clamp(max=self.count - 1)
        return [group[choice] for group, choice in zip(ordered, choice_N.tolist(), strict=True)]

    def weights(self, items: Sequence[Decoded], temperature_M: Tensor) -> Tensor:
        """Return log(p / q) of every candidate in double precision, shape (M,)."""
        weight_M = torch.full((len(items),), NEVER, dtype=torch.float64)
        ended = [place for place, item in enumerate(items) if item.failure is None]
        lengths = [len(item.tokens) for item in items]
        for places in padded_batches(sorted(ended, key=lambda place: lengths[place]), lengths, TOKENS_PER_PASS):
            nats_M = self._nats([items[place] for place in places], temperature_M[places])
            drawn_M = torch.tensor([items[place].nats for place in places], dtype=torch.float64)
            weight_M[places] = (drawn_M - nats_M).nan_to_num(nan=NEVER)
        return weight_M

    def _nats(self, items: Sequence[Decoded], temperature_M: Tensor) -> Tensor:
        """Return -log p of records with their fields in the table's order, written behind the empty prompt."""
        decoder = self.autoencoder.decoder
        device = decoder.embeddings_VD.device
        rows = [self.tokenizer.in_order(item.tokens) for item in items]
        ids_MT = torch.zeros((len(rows), max(map(len, rows))), dtype=torch.int64)
        for place, row in enumerate(rows):
            ids_MT[place, : len(row)] = torch.tensor(row)
        ids_MT, lengths_M = ids_MT.to(device), torch.tensor([len(row) for row in rows], device=device)
        prompt = self.autoencoder.empty_prompt(len(rows)).to(decoder.embeddings_VD.dtype)
        nats_MT = decoder.nll(prompt, ids_MT, lengths_M, temperature_B=temperature_M.to(device))
        # Which field follows is no question in a given order, and was never learned.
        opening = torch.tensor(self.tokenizer.opening_ids, device=device)
        return (nats_MT.double() * ~torch.isin(ids_MT, opening)).sum(dim=1).cpu()


def candidates_for(bundle: Bundle, records: RecordSet, count: int, truncation: Truncation) -> Candidates | None:
    """Return how records of a set are chosen of so many candidates; None where the first of them is as good.

    That is so where nothing is written before its turn, and what is compared are whole distributions, not their tops.
    """
    given = records.first is not None and not records.opens(bundle.schema)
    if not given or count == 1 or truncation.top_k is not None or truncation.top_p < 1:
        return None
    return Candidates(
        autoencoder=bundle.autoencoder,
        tokenizer=bundle.parts.tokenizer,
        count=count,
        temperature=truncation.temperature,
    )
