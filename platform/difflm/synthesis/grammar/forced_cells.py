"""Forced cells: an automaton in which single values of a record are given, different ones for every index.

One automaton serves all indices: a walk that arrives where a given value begins takes that value's tokens as a forced
run, and goes on behind it. Whether the automaton itself has the value does not matter, as there may be more spellings
than it has (a date's month, say): what is given stands, and the codec judges the record. A value that the tokenizer
cannot spell leaves its walk nothing to take, which the decoding loop counts as a dead end.

Decoders that write in any order take all given values ahead, with the text in front of each, and pass over them later.

Shape legend: B slots, N of them, A active tokens, F tokens of the longest run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from difflm.errors import ModelError
from difflm.records.tokenization import RecordTokenizer
from difflm.synthesis.grammar.automaton import DEAD, Automaton
from difflm.synthesis.grammar.constraint import Cells, Choices, Runs
from difflm.synthesis.grammar.tables import RecordGrammar


@dataclass(frozen=True, slots=True, kw_only=True)
class ForcedCells:
    """A `Constraint`: the records of a grammar whose cells are those that `cells` gives for their index.

    `place_of_state` is the field that begins in a state: its value or, where given cells are written `ahead`, its own
    text. `resume_states` are where a walk goes on that need not write a field.
    """

    automaton: Automaton
    tokenizer: RecordTokenizer
    place_of_state: Mapping[int, int]
    resume_states: Mapping[int, int]
    cells: Callable[[int], Cells]
    ahead: bool

    @classmethod
    def of(
        cls, grammar: RecordGrammar, tokenizer: RecordTokenizer, cells: Callable[[int], Cells], *, ahead: bool = False
    ) -> ForcedCells:
        order = grammar.order
        if ahead:
            assert grammar.open_states is not None, "only decoders whose values all say where they end write ahead"
            begins, resumes = grammar.open_states[:-1], grammar.open_states[1:]
        else:
            begins = tuple(grammar.value_states[place] for place in order)
            resumes = tuple(grammar.behind_states[place] for place in order)
        return cls(
            automaton=grammar.automaton,
            tokenizer=tokenizer,
            place_of_state=dict(zip(begins, order, strict=True)),
            resume_states=dict(zip(order, resumes, strict=True)),
            cells=cells,
            ahead=ahead,
        )

    @property
    def tokens_A(self) -> Tensor:
        return self.automaton.tokens_A

    def walks(self, slots: int) -> ForcedWalks:
        """Return walks for so many slots."""
        state_B = torch.full((slots,), self.automaton.start, device=self.automaton.next_SC.device)
        return ForcedWalks(grammar=self, steps=_Steps.of(self), state_B=state_B, slots=[_Slot() for _ in range(slots)])


@dataclass(slots=True)
class _Slot:
    """One record under way: its state, its steps in a row in bounded states, and its given cells."""

    state: int = 0
    spent: int = 0
    cells: Cells = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steps:
    """The automaton's tables on the host, for single steps."""

    class_of: Mapping[int, int]
    next_SC: Sequence[Sequence[int]]
    closing_S: Sequence[int]
    limit_S: Sequence[int]
    only_S: Sequence[int]

    @classmethod
    def of(cls, grammar: ForcedCells) -> _Steps:
        automaton = grammar.automaton
        only_S = torch.where(automaton.run_length_S > 0, automaton.run_SR[:, 0], -1)
        return cls(
            class_of=dict(zip(automaton.tokens_A.tolist(), automaton.class_A.tolist(), strict=True)),
            next_SC=automaton.next_SC.tolist(),
            closing_S=automaton.closing_S.tolist(),
            limit_S=automaton.limit_S.tolist(),
            only_S=only_S.tolist(),
        )

    def take(self, slot: _Slot, token: int) -> None:
        """Take one token, counting the bounds of free text as `AutomatonWalks` does."""
        state = self.next_SC[slot.state][self.class_of[token]]
        slot.spent = slot.spent + 1 if self.closing_S[state] != state else 0
        slot.state = self.closing_S[state] if slot.spent > self.limit_S[state] else state


@dataclass(slots=True, kw_only=True)
class ForcedWalks:
    """`Walks` with given cells."""

    grammar: ForcedCells
    steps: _Steps
    state_B: Tensor
    slots: list[_Slot]

    def begin(self, slots_N: Tensor, indices: Sequence[int]) -> Runs:
        runs: list[list[int]] = []
        for slot, index in zip(slots_N.tolist(), indices, strict=True):
            self.slots[slot] = _Slot(self.grammar.automaton.start, 0, self.grammar.cells(index))
            runs.append(self._written_ahead(self.slots[slot]) + self._forced(self.slots[slot]))
        return self._moved(slots_N, runs)

    def allowed_BA(self) -> Tensor:
        return self.grammar.automaton.allowed_BA(self.state_B) & (self.state_B != DEAD)[:, None]

    def choices(self) -> Choices | None:
        return None if bool((self.state_B == DEAD).any()) else self.grammar.automaton.choices(self.state_B)

    def advance(self, slots_N: Tensor, choice_N: Tensor) -> Runs:
        runs: list[list[int]] = []
        for slot, token in zip(slots_N.tolist(), self.grammar.tokens_A[choice_N].tolist(), strict=True):
            self.steps.take(self.slots[slot], token)
            runs.append([token, *self._forced(self.slots[slot])])
        return self._moved(slots_N, runs)

    def final_N(self, slots_N: Tensor) -> Tensor:
        return self.state_B[slots_N] == self.grammar.automaton.final

    def keep(self, slots_N: Tensor) -> None:
        self.state_B, self.slots = self.state_B[slots_N], [self.slots[slot] for slot in slots_N.tolist()]

    def grow(self, slots: int) -> None:
        self.state_B = torch.cat([self.state_B, self.state_B.new_full((slots,), self.grammar.automaton.start)])
        self.slots += [_Slot() for _ in range(slots)]

    def _moved(self, slots_N: Tensor, runs: list[list[int]]) -> Runs:
        device, longest = self.state_B.device, max(map(len, runs), default=0)
        states = [self.slots[slot].state for slot in slots_N.tolist()]
        self.state_B[slots_N] = torch.tensor(states, dtype=self.state_B.dtype, device=device)
        tokens_NF = torch.tensor([run + [0] * (longest - len(run)) for run in runs], dtype=torch.long, device=device)
        lengths_N = torch.tensor([len(run) for run in runs], dtype=torch.long, device=device)
        return Runs(tokens_NF=tokens_NF.reshape(len(runs), longest), lengths_N=lengths_N)

    def _written_ahead(self, slot: _Slot) -> list[int]:
        """Return the tokens of all given cells, if they come first."""
        run: list[int] = []
        for place in sorted(slot.cells) if self.grammar.ahead else ():
            value = self._value(slot, place)
            run += [*self.grammar.tokenizer.fixed_ids[place], *value] if value is not None else []
        return run

    def _forced(self, slot: _Slot) -> list[int]:
        """Follow given values and forced tokens; return the tokens on the way."""
        run: list[int] = []
        while slot.state not in (self.grammar.automaton.final, DEAD):
            place = self.grammar.place_of_state.get(slot.state)
            if place is not None and place in slot.cells:
                run += [] if self.grammar.ahead else self._given(slot, place)
                if slot.state != DEAD:
                    slot.state, slot.spent = self.grammar.resume_states[place], 0
            elif (token := self.steps.only_S[slot.state]) >= 0:
                self.steps.take(slot, token)
                run.append(token)
            else:
                break
        return run

    def _given(self, slot: _Slot, place: int) -> list[int]:
        """Return the tokens of a given value, and the first token after it, which ends it."""
        value = self._value(slot, place)
        return [] if value is None else [*value, self.grammar.tokenizer.fixed_ids[place + 1][0]]

    def _value(self, slot: _Slot, place: int) -> tuple[int, ...] | None:
        """Return the tokens of a given value; where it cannot be spelled, the walk is dead."""
        try:
            return self.grammar.tokenizer.literal_ids(place, slot.cells[place])
        except ModelError:
            slot.state = DEAD
            return None
