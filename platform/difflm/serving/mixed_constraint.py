"""Mixed constraints: records of different grammars in one batch, each under its own.

A draw is known here by its ticket's number, which says whose constraint it has and which index it is there.

Shape legend: B slots, N of them, A active tokens, F tokens of the longest run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from difflm.synthesis.grammar.constraint import Choices, Constraint, Runs, Walks

Lookup = Callable[[int], tuple[Constraint, int]]
"""From a ticket's number to its constraint and its index in that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedConstraint:
    """A `Constraint` of many. `whole` is the one of all records: its active tokens hold those of every other."""

    whole: Constraint
    lookup: Lookup

    @property
    def tokens_A(self) -> Tensor:
        return self.whole.tokens_A

    def walks(self, slots: int) -> MixedWalks:
        """Begin walks for so many slots."""
        place_of = {token: place for place, token in enumerate(self.tokens_A.tolist())}
        return MixedWalks(constraint=self, place_of=place_of, owners=[None] * slots)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """The walks of one constraint, in the slots of all; `place_a` says where its tokens are among the whole's."""

    walks: Walks
    place_a: Tensor | None

    def own(self, choice_N: Tensor) -> Tensor:
        """Translate chosen places of the whole's tokens into places of its own."""
        return choice_N if self.place_a is None else torch.searchsorted(self.place_a, choice_N)


@dataclass(slots=True, kw_only=True)
class MixedWalks:
    """`Walks` of many constraints; `owners` is the group of each slot, by the identity of its constraint."""

    constraint: MixedConstraint
    place_of: dict[int, int]
    owners: list[int | None]
    groups: dict[int, _Group] = field(default_factory=dict)

    def begin(self, slots_N: Tensor, indices: Sequence[int]) -> Runs:
        found = [self.constraint.lookup(number) for number in indices]
        for slot, (constraint, _) in zip(slots_N.tolist(), found, strict=True):
            self.owners[slot] = id(constraint)
        kept = set(self.owners)
        self.groups = {key: group for key, group in self.groups.items() if key in kept}
        for constraint, _ in found:
            if id(constraint) not in self.groups:
                self.groups[id(constraint)] = self._group(constraint)
        own = [index for _, index in found]
        return self._joined(slots_N, lambda group, rows: group.walks.begin(slots_N[rows], [own[row] for row in rows]))

    def allowed_BA(self) -> Tensor:
        if len(self.groups) == 1 and (only := next(iter(self.groups.values()))).place_a is None:
            return only.walks.allowed_BA()
        tokens_A = self.constraint.tokens_A
        allowed_BA = torch.zeros((len(self.owners), len(tokens_A)), dtype=torch.bool, device=tokens_A.device)
        for key, group in self.groups.items():
            slots_N = self._slots_of(key)
            own_Na = group.walks.allowed_BA()[slots_N]
            if group.place_a is None:
                allowed_BA[slots_N] = own_Na
            else:
                allowed_BA[slots_N[:, None], group.place_a] = own_Na
        return allowed_BA

    def choices(self) -> Choices | None:
        if len(self.groups) == 1 and (only := next(iter(self.groups.values()))).place_a is None:
            return only.walks.choices()
        return None

    def advance(self, slots_N: Tensor, choice_N: Tensor) -> Runs:
        return self._joined(slots_N, lambda group, rows: group.walks.advance(slots_N[rows], group.own(choice_N[rows])))

    def final_N(self, slots_N: Tensor) -> Tensor:
        final_N = torch.zeros(len(slots_N), dtype=torch.bool, device=slots_N.device)
        for group, rows in self._parts(slots_N):
            final_N[rows] = group.walks.final_N(slots_N[rows])
        return final_N

    def keep(self, slots_N: Tensor) -> None:
        self.owners = [self.owners[slot] for slot in slots_N.tolist()]
        for group in self.groups.values():
            group.walks.keep(slots_N)

    def grow(self, slots: int) -> None:
        self.owners += [None] * slots
        for group in self.groups.values():
            group.walks.grow(slots)

    def _group(self, constraint: Constraint) -> _Group:
        walks = constraint.walks(len(self.owners))
        tokens_a, tokens_A = constraint.tokens_A, self.constraint.tokens_A
        if tokens_a.equal(tokens_A):
            return _Group(walks=walks, place_a=None)
        places = [self.place_of[token] for token in tokens_a.tolist()]
        assert places == sorted(places), "active tokens are in the order of their ids"
        return _Group(walks=walks, place_a=torch.tensor(places, device=tokens_A.device))

    def _slots_of(self, key: int) -> Tensor:
        slots = [slot for slot, owner in enumerate(self.owners) if owner == key]
        return torch.tensor(slots, dtype=torch.int64, device=self.constraint.tokens_A.device)

    def _parts(self, slots_N: Tensor) -> list[tuple[_Group, list[int]]]:
        """Pair every group with the rows of `slots_N` that are its own."""
        rows_of: dict[int, list[int]] = {}
        for row, slot in enumerate(slots_N.tolist()):
            owner = self.owners[slot]
            assert owner is not None
            rows_of.setdefault(owner, []).append(row)
        return [(self.groups[key], rows) for key, rows in rows_of.items()]

    def _joined(self, slots_N: Tensor, runs_of: Callable[[_Group, list[int]], Runs]) -> Runs:
        parts = [(rows, runs_of(group, rows)) for group, rows in self._parts(slots_N)]
        if len(parts) == 1:
            return parts[0][1]
        longest = max(runs.tokens_NF.shape[1] for _, runs in parts)
        tokens_NF = torch.zeros((len(slots_N), longest), dtype=torch.int64, device=slots_N.device)
        lengths_N = torch.zeros(len(slots_N), dtype=torch.int64, device=slots_N.device)
        for rows, runs in parts:
            rows_n = torch.tensor(rows, device=slots_N.device)
            tokens_NF[rows_n, : runs.tokens_NF.shape[1]] = runs.tokens_NF
            lengths_N[rows_n] = runs.lengths_N
        return Runs(tokens_NF=tokens_NF, lengths_N=lengths_N)
