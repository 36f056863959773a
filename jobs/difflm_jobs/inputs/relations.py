"""What an experiment says of relations between columns: look for them, keep certain ones, or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

RelationsConfig: TypeAlias = Literal["auto", "off"] | tuple[str, ...]
AUTO: Final = "auto"


def asked_of(relations: RelationsConfig) -> tuple[tuple[str, ...], bool]:
    """Return the constraints that are asked for, and whether relations are looked for as well.

    A list holds constraints; with `auto` among them, those that are found are kept beside them.
    """
    if isinstance(relations, str):
        return (), relations == AUTO
    return tuple(text for text in relations if text.strip() != AUTO), AUTO in (text.strip() for text in relations)


def with_constraints(relations: RelationsConfig, constraints: Sequence[str]) -> RelationsConfig:
    """Add constraints of a command line to those of a configuration."""
    if not constraints:
        return relations
    texts, looked_for = asked_of(relations)
    return (*([AUTO] if looked_for else []), *texts, *constraints)
