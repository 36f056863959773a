"""The decoding loop: slots that each hold one record under way, how each is filled, moves on, ends, and is refilled.

Shape legend: B slots, N of them or of the prompts, A active tokens, L of them that may come next, F tokens of the
longest run, T most tokens of a record.

In every round each slot reads the run that it is sure of (a token that was drawn, and all that the grammar forces
behind it), scores what may come next, and draws. A record that ends leaves its slot to the next prompt at once; when
none waits, empty slots are dropped. Prompts are read ahead, as many as there are slots, so memory does not depend on
how many follow.

The token at place t of a record is drawn by inverse transform from the record's own number `uniforms_NT[n, t]`, from
scores that are computed of this record alone. So what a record becomes depends on its prompt and its numbers, not on
the other slots, their number or their order: exactly so in exact arithmetic. Matrix products of another shape may add
in another order, which changes a draw whose number lies within rounding of the border between two tokens. In float32
on a CPU such a draw is rare, about one token in a million, and a different number of slots gives the same records. In
bfloat16, and on a GPU, rounding is coarser, records may differ here and there, and only the same slots, indices and
machine repeat them. The distribution of a record is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

import torch
from torch import Tensor, nn

from difflm.models.decoder import FrozenDecoder
from difflm.models.prompt import join_tokens
from difflm.synthesis.decoding.corrections import Corrections
from difflm.synthesis.decoding.kv_cache import SlotCache
from difflm.synthesis.decoding.requests import Address, Decoded, Failure, Prompts, PromptSource
from difflm.synthesis.decoding.sampling import Truncation, draw
from difflm.synthesis.decoding.slot_model import SlotModel, read_prompts, slot_model
from difflm.synthesis.grammar.constraint import Constraint, Runs

BUSY_SHARE = 0.75  # with fewer slots in use and nothing waiting, the empty ones are dropped


class SlotTable:
    """As many slots as there are prompts at first, all of them empty."""

    def __init__(
        self,
        model: SlotModel,
        constraint: Constraint,
        prompts: Prompts,
        truncation: Truncation,
        *,
        decoder: FrozenDecoder,
        corrections: Corrections | None = None,
    ) -> None:
        self.model, self.truncation, self.corrections = model, truncation, corrections
        self.bos_id, self.joined_V = decoder.bos_id, decoder.joined_V
        count, most = prompts.uniforms_NT.shape
        device = prompts.uniforms_NT.device
        self.scored = False
        self._wait(prompts)
        self.cache = SlotCache(self.waiting_cache, slots=count)
        self.walks = constraint.walks(count)
        self.addresses: list[Address | None] = [None] * count
        self.filled_B = torch.zeros(count, dtype=torch.int64, device=device)
        self.known_B = torch.zeros_like(self.filled_B)  # tokens of the record, read or in its run
        self.tokens_BT = torch.zeros((count, most), dtype=torch.int64, device=device)
        self.uniforms_BT = torch.zeros_like(prompts.uniforms_NT)
        self.temperature_B1 = torch.ones((count, 1), device=device)
        self.corrected_B = torch.ones(count, dtype=torch.bool, device=device)
        self.nats_B = torch.zeros(count, device=device)
        self.runs = Runs(tokens_NF=self.tokens_BT[:, :1].clone(), lengths_N=torch.zeros_like(self.filled_B))

    @property
    def busy(self) -> int:
        """Slots that hold a record."""
        return len(self.addresses) - self.addresses.count(None)

    def refill(self, source: PromptSource, ahead: int) -> list[Decoded]:
        """Give empty slots to waiting prompts; return the records whose grammar leaves no choice."""
        ended: list[Decoded] = []
        while free := [slot for slot, address in enumerate(self.addresses) if address is None]:
            if self.next_row == len(self.waiting.addresses):
                prompts = source.take(ahead, idle=False)
                if prompts is None:
                    break
                self._wait(prompts)
            ended += self._admit(free)
        return ended

    @property
    def room(self) -> int:
        """Empty slots that no prompt waits for which was read ahead."""
        return len(self.addresses) - self.busy - (len(self.waiting.addresses) - self.next_row)

    def grow(self, slots: int) -> None:
        """Add so many empty slots."""
        self.addresses += [None] * slots
        self.cache.grow(slots)
        self.walks.grow(slots)
        self.filled_B, self.known_B = _longer(self.filled_B, slots), _longer(self.known_B, slots)
        self.tokens_BT, self.uniforms_BT = _longer(self.tokens_BT, slots), _longer(self.uniforms_BT, slots)
        self.temperature_B1 = _longer(self.temperature_B1, slots, value=1.0)
        self.corrected_B, self.nats_B = _longer(self.corrected_B, slots), _longer(self.nats_B, slots)
        self.runs = Runs(tokens_NF=_longer(self.runs.tokens_NF, slots), lengths_N=_longer(self.runs.lengths_N, slots))

    @property
    def numbers(self) -> set[int]:
        """The indices that have records under way, and no candidate that waits."""
        waiting = {address.index for address in self.waiting.addresses[self.next_row :]}
        return {address.index for address in self.addresses if address is not None} - waiting

    def abandon(self, unwanted: Container[int]) -> None:
        """Empty the slots of records that nobody waits for any more, by their indices."""
        slots = [
            slot for slot, address in enumerate(self.addresses) if address is not None and address.index in unwanted
        ]
        for slot in slots:
            self.addresses[slot] = None
        if slots:
            self.runs.lengths_N[torch.tensor(slots, device=self.filled_B.device)] = 0

    def drop_empty(self) -> None:
        """Make the table smaller when many slots are empty; call it when nothing waits for them."""
        kept = [slot for slot, address in enumerate(self.addresses) if address is not None]
        if len(kept) > BUSY_SHARE * len(self.addresses):
            return
        kept_N = torch.tensor(kept, device=self.filled_B.device)
        self.addresses = [self.addresses[slot] for slot in kept]
        self.cache.keep(kept_N)
        self.walks.keep(kept_N)
        self.filled_B, self.known_B = self.filled_B[kept_N], self.known_B[kept_N]
        self.tokens_BT, self.uniforms_BT = self.tokens_BT[kept_N], self.uniforms_BT[kept_N]
        self.temperature_B1, self.corrected_B = self.temperature_B1[kept_N], self.corrected_B[kept_N]
        self.nats_B = self.nats_B[kept_N]
        self.runs = Runs(tokens_NF=self.runs.tokens_NF[kept_N], lengths_N=self.runs.lengths_N[kept_N])

    def advance(self) -> list[Decoded]:
        """Let every record read its run, draw a token and take the tokens forced after it; return those that end."""
        runs = self.runs if self.joined_V is None else _joined(self.runs, self.joined_V)
        # One more position than is read: padding is written there.
        self.cache.reserve(int((self.filled_B + runs.lengths_N).max()) + 1)
        scores_BA = self.model.step(self.cache, runs, self.filled_B)
        self.filled_B = self.filled_B + runs.lengths_N
        # Few of all active tokens may come next, as a rule: what follows is done for these alone.
        choices = self.walks.choices()
        allowed_BL = self.walks.allowed_BA() if choices is None else choices.real_BL
        scores_BL = (scores_BA if choices is None else scores_BA.gather(1, choices.place_BL)).float()
        if self.corrections is not None:
            place_BL = None if choices is None else choices.place_BL
            scores_BL = scores_BL + self.corrections(runs, self.corrected_B, place_BL)
        masked_BL = scores_BL.masked_fill(~allowed_BL, -torch.inf)
        sound_B = masked_BL.amax(dim=1).isfinite()
        if not sound_B.all():
            masked_BL = masked_BL.masked_fill(~sound_B[:, None], 0.0)
        place_B1 = self.known_B.clamp(max=self.uniforms_BT.shape[1] - 1)[:, None]
        scores_BL = self.truncation.scores_BA(masked_BL, self.temperature_B1)
        drawn_B = draw(scores_BL, self.uniforms_BT.gather(1, place_B1).squeeze(1))
        if self.scored:
            self.nats_B = self.nats_B + nn.functional.cross_entropy(scores_BL, drawn_B, reduction="none")
        choice_B = drawn_B if choices is None else choices.place_BL.gather(1, drawn_B[:, None]).squeeze(1)
        busy = [slot for slot, address in enumerate(self.addresses) if address is not None]
        sound = sound_B.tolist()
        going_N = torch.tensor([slot for slot in busy if sound[slot]], dtype=torch.int64, device=choice_B.device)
        self.runs = Runs(tokens_NF=self.runs.tokens_NF[:, :1], lengths_N=torch.zeros_like(self.filled_B))
        failed = self._fail([slot for slot in busy if not sound[slot]], allowed_BL)
        if len(going_N) == 0:
            return failed
        self._follow(going_N, self.walks.advance(going_N, choice_B[going_N]))
        return failed + self._end(going_N)

    def _wait(self, prompts: Prompts) -> None:
        self.waiting, self.next_row = prompts, 0
        self.scored = self.scored or prompts.scored
        self.waiting_cache = read_prompts(self.model, prompts.prompt)

    def _admit(self, free: list[int]) -> list[Decoded]:
        """Put waiting prompts into free slots. A record begins with BOS and what its grammar begins with."""
        rows = range(self.next_row, min(self.next_row + len(free), len(self.waiting.addresses)))
        self.next_row = rows.stop
        device = self.filled_B.device
        rows_N, slots_N = torch.tensor(rows, device=device), torch.tensor(free[: len(rows)], device=device)
        addresses = [self.waiting.addresses[row] for row in rows]
        for slot, address in zip(free, addresses, strict=False):
            self.addresses[slot] = address
        self.cache.admit(self.waiting_cache, rows_N, slots_N)
        self.filled_B[slots_N], self.known_B[slots_N] = self.waiting.prompt.positions, 0
        self.nats_B[slots_N] = 0.0
        self.uniforms_BT[slots_N] = self.waiting.uniforms_NT[rows_N]
        own_N = self.waiting.temperatures_N
        self.temperature_B1[slots_N, 0] = self.truncation.temperature if own_N is None else own_N[rows_N].float()
        corrected_N = self.waiting.corrected_N
        self.corrected_B[slots_N] = True if corrected_N is None else corrected_N[rows_N]
        opening = self.walks.begin(slots_N, [address.index for address in addresses])
        self._follow(slots_N, opening)
        bos_N1 = torch.full((len(rows), 1), self.bos_id, device=device)
        self._read_next(
            slots_N,
            Runs(tokens_NF=torch.cat([bos_N1, opening.tokens_NF], dim=1), lengths_N=opening.lengths_N + 1),
        )
        return self._end(slots_N)

    def _follow(self, slots_N: Tensor, runs: Runs) -> None:
        """Write runs behind the tokens that the records have, as far as there is room, and read them next."""
        offset_F = torch.arange(runs.tokens_NF.shape[1], device=slots_N.device)
        place_NF = self.known_B[slots_N, None] + offset_F
        written_NF = (offset_F < runs.lengths_N[:, None]) & (place_NF < self.tokens_BT.shape[1])
        slot_NF = slots_N[:, None].expand_as(place_NF)
        self.tokens_BT[slot_NF[written_NF], place_NF[written_NF]] = runs.tokens_NF[written_NF]
        self.known_B[slots_N] += runs.lengths_N
        self._read_next(slots_N, runs)

    def _read_next(self, slots_N: Tensor, runs: Runs) -> None:
        tokens_BF, lengths_B = self.runs.tokens_NF, self.runs.lengths_N
        longer = runs.tokens_NF.shape[1] - tokens_BF.shape[1]
        if longer > 0:
            tokens_BF = torch.nn.functional.pad(tokens_BF, (0, longer))
        tokens_BF[slots_N, : runs.tokens_NF.shape[1]] = runs.tokens_NF
        lengths_B[slots_N] = runs.lengths_N
        self.runs = Runs(tokens_NF=tokens_BF, lengths_N=lengths_B)

    def _end(self, slots_N: Tensor) -> list[Decoded]:
        """Empty the slots whose records are complete or have no room left."""
        most = self.tokens_BT.shape[1]
        final_N, known_N = self.walks.final_N(slots_N), self.known_B[slots_N]
        ended_N = final_N | (known_N >= most)
        finished_N = final_N & (known_N <= most)
        which = ended_N.nonzero().squeeze(1)
        slots, finished = slots_N[which].tolist(), finished_N[which].tolist()
        tokens, lengths = self.tokens_BT[slots_N[which]].tolist(), known_N[which].tolist()
        self.runs.lengths_N[slots_N[which]] = 0
        return [
            self._empty(slot, row[:length], None if whole else "unfinished")
            for slot, whole, row, length in zip(slots, finished, tokens, lengths, strict=True)
        ]

    def _fail(self, slots: list[int], allowed_BL: Tensor) -> list[Decoded]:
        """Empty the slots that no token can be drawn for; what they hold is NaN, maybe."""
        if not slots:
            return []
        slots_N = torch.tensor(slots, device=self.filled_B.device)
        self.cache.clear(slots_N)
        possible, lengths = allowed_BL[slots_N].any(dim=1).tolist(), self.known_B[slots_N].tolist()
        rows = self.tokens_BT[slots_N].tolist()
        return [
            self._empty(slot, row[:length], "not_finite" if some else "dead_end")
            for slot, some, row, length in zip(slots, possible, rows, lengths, strict=True)
        ]

    def _empty(self, slot: int, tokens: list[int], failure: Failure | None) -> Decoded:
        address = self.addresses[slot]
        assert address is not None
        self.addresses[slot] = None
        nats = float(self.nats_B[slot]) if self.scored else 0.0
        return Decoded(address=address, tokens=tokens, failure=failure, nats=nats)


def _joined(runs: Runs, joined_V: Tensor) -> Runs:
    """Let the marked tokens of runs be read with the ones in front; a run begins with a token that was drawn."""
    read = join_tokens(runs.tokens_NF, runs.lengths_N, joined_V)
    return Runs(tokens_NF=read.tokens_BP, lengths_N=read.lengths_B, also_NF=read.also_BP)


def _longer(tensor: Tensor, rows: int, *, value: float = 0.0) -> Tensor:
    return torch.cat([tensor, tensor.new_full((rows, *tensor.shape[1:]), value)])


@torch.no_grad()
def decode(
    decoder: FrozenDecoder,
    constraint: Constraint,
    source: PromptSource,
    *,
    slots: int,
    truncation: Truncation,
    corrections: Corrections | None = None,
) -> Iterator[Decoded]:
    """Decode the records of all prompts of a source in the order in which they end, at most `slots` at a time.

    A record takes T tokens at most (the width of its prompt's `uniforms_NT`), so every walk ends. Scores are corrected
    where there are `corrections`, for a decoder that reads names with values.
    """
    model = slot_model(decoder, constraint.tokens_A)
    while (prompts := source.take(slots, idle=True)) is not None:
        table = SlotTable(model, constraint, prompts, truncation, decoder=decoder, corrections=corrections)
        while True:
            yield from table.refill(source, slots)
            if not table.busy:
                break
            table.drop_empty()
            yield from table.advance()
