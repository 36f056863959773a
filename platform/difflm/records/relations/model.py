"""Relations as the schema holds them: rules over numbers, dates and texts, functions by table, closed combinations."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, FiniteFloat
from pydantic import Field as Option

_FROZEN = ConfigDict(frozen=True, extra="forbid", strict=True)
Cell: TypeAlias = bool | int | FiniteFloat | str | None
Origin: TypeAlias = Literal["found", "asked"]
"""Found in the training rows, or asked for as a constraint."""


class Rule(BaseModel):
    """A comparison that every row satisfies in which none of its columns is missing: `start <= end`.

    With `missing_together` the column that an equation states is missing exactly where another one of it is.
    """

    model_config = _FROZEN

    kind: Literal["rule"] = "rule"
    text: str
    missing_together: Annotated[bool, Option(exclude_if=lambda together: not together)] = False
    origin: Annotated[Origin, Option(exclude_if=lambda origin: origin == "found")] = "found"


class Lookup(BaseModel):
    """A column that is a function of others: `rows` are the values of `sources`, each with that of `column` behind."""

    model_config = _FROZEN

    kind: Literal["lookup"] = "lookup"
    column: str
    sources: Annotated[tuple[str, ...], Option(min_length=1)]
    rows: tuple[tuple[Cell, ...], ...]
    origin: Annotated[Origin, Option(exclude_if=lambda origin: origin == "found")] = "found"


class Combinations(BaseModel):
    """Columns whose values come in the combinations of `rows` only."""

    model_config = _FROZEN

    kind: Literal["combinations"] = "combinations"
    columns: Annotated[tuple[str, ...], Option(min_length=2)]
    rows: tuple[tuple[Cell, ...], ...]
    origin: Annotated[Origin, Option(exclude_if=lambda origin: origin == "found")] = "found"


Relation: TypeAlias = Annotated[Rule | Lookup | Combinations, Option(discriminator="kind")]
RELATIONS_VERSION: Literal[1] = 1


class Relations(BaseModel):
    """The relations that synthetic rows keep; a schema without any leaves them out."""

    model_config = _FROZEN

    format_version: Literal[1] = RELATIONS_VERSION
    kept: tuple[Relation, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.kept)
