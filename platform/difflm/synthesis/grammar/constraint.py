"""The seam between decoding and grammars: which records an index may become, which tokens may come next.

The seam between the decoding loop and a grammar: which tokens a slot may take, and which it must.

Shape legend: B slots, N of them, A active tokens (those that some record has), F tokens of the longest run.

A slot holds one record under way. The loop knows nothing of a grammar but what is here, so an automaton over tokens and
a matcher that keeps a parser per slot serve it alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from torch import Tensor

from difflm.records.kinds.codes import Restriction, value_code
from difflm.records.kinds.literals import value_literal
from difflm.records.schema import BooleanField, CategoricalField, Record, RecordSchema

Cells: TypeAlias = Mapping[int, str]
"""By a field's place in the schema, the literal of its given value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSet:
    """The records of a schema that satisfy `restriction`, with the cells that `cells` gives for their index.

    A given cell stands as it is, also where the restriction of its column would leave it out; such a record is none of
    the set, and `fault` says so. Without arguments it is all records of the schema.

    With `first`, the given cells of an index are written before all others, then the fields at these places, then the
    rest: what is written later follows from them. Only decoders that write in any order can do so.
    """

    restriction: Restriction = field(default_factory=dict)
    cells: Callable[[int], Cells] | None = None
    first: tuple[int, ...] | None = None

    def opens(self, schema: RecordSchema) -> bool:
        """Say whether what is written first is so in the table's order too, and each of it drawn in one token."""
        first = self.first or ()
        return (
            self.cells is None
            and first == tuple(range(len(first)))
            and {schema.names[place] for place in first} == set(self.restriction)
            and all(isinstance(schema.fields[place], CategoricalField | BooleanField) for place in first)
        )

    def fault(self, index: int, record: Record, schema: RecordSchema) -> str | None:
        """Return why a record of the schema is none that this index may become; None if it is one."""
        for name, allowed in self.restriction.items():
            code = value_code(schema.field(name), record[name])
            if not (allowed.null if code is None else code in allowed.codes):
                return f"{name!r}: {record[name]!r} is not what was asked for"
        for place, literal in (self.cells(index) if self.cells is not None else {}).items():
            given = schema.fields[place]
            if value_literal(given, record[given.name]) != literal:
                return f"{given.name!r}: {record[given.name]!r} is not the given {literal[:60]}"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Tokens that follow without a choice: row n has `lengths_N[n]` of them, the rest of `tokens_NF` means nothing.

    `also_NF` are tokens that are read in the same positions, -1 where there is none.
    """

    tokens_NF: Tensor
    lengths_N: Tensor
    also_NF: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The active tokens that may come next, by their places: row b of `place_BL` has as many as `real_BL` marks."""

    place_BL: Tensor
    real_BL: Tensor


class Walks(Protocol):
    """Where the record of every slot stands in its grammar."""

    def begin(self, slots_N: Tensor, indices: Sequence[int]) -> Runs:
        """Start the records of these indices in these slots; return the tokens that each must begin with (maybe none).

        Indices matter because records of one batch may have grammars of their own.
        """
        ...

    def allowed_BA(self) -> Tensor:
        """Mark the active tokens that may come next in every slot; undefined for slots that are final or empty."""
        ...

    def choices(self) -> Choices | None:
        """List what `allowed_BA` marks, in the same order; None where no short list is known."""
        ...

    def advance(self, slots_N: Tensor, choice_N: Tensor) -> Runs:
        """Advance by the chosen places of `tokens_A` and all tokens forced after; return both, the chosen one first."""
        ...

    def final_N(self, slots_N: Tensor) -> Tensor:
        """Return whether the record of each slot is complete."""
        ...

    def keep(self, slots_N: Tensor) -> None:
        """Drop all slots but these, which are numbered 0 to N - 1 from now on."""
        ...

    def grow(self, slots: int) -> None:
        """Add so many empty slots, numbered after the existing ones."""
        ...


class Constraint(Protocol):
    """A grammar of records."""

    @property
    def tokens_A(self) -> Tensor:
        """Ids of the active tokens, without repetition."""
        ...

    def walks(self, slots: int) -> Walks:
        """Return walks for so many slots, none of which holds a record."""
        ...
