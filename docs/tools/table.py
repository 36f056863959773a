"""What a table of figures is made with: the records, and how numbers are written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORDS = Path(__file__).resolve().parents[2] / "tests" / "benchmarks" / "results"
NBSP = "\u00a0"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of figures: a function that returns rows of cells, the header first."""

    rows: Callable[[], list[list[str]]]

    def __str__(self) -> str:
        header, *rows = self.rows()
        return "".join(f"| {' | '.join(row)} |\n" for row in [header, ["---"] * len(header), *rows])


def record(name: str) -> Any:
    """Read a record."""
    return json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))


def share(value: float, digits: int = 3) -> str:
    """Write a number between 0 and 1 without its leading zero: .563."""
    return f"{value:.{digits}f}".removeprefix("0")


def percent(value: float, digits: int = 2) -> str:
    """Write percent, with `digits` places and a space where no line breaks: 1.29 %."""
    return f"{value:.{digits}f}{NBSP}%"


def with_error(value: float, error: float | None, write: Callable[[float], str]) -> str:
    """Write a value, and its standard error where one is known."""
    unit = f"{NBSP}%" if write(value).endswith("%") else ""
    return write(value) if error is None else f"{write(value).removesuffix(unit)} ± {write(error)}"


def scores_of(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return scores by name."""
    return {entry["name"]: entry for entry in entries}
