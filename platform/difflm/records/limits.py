"""Bounds of what a table may hold."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator

from difflm.errors import DataError

MAX_DIGITS: Final = 4000
"""Of a number; Python itself prints 4,300."""
MAX_COLUMNS: Final = 20_000
"""Of a table; what is done for every column takes milliseconds."""


def _written(number: int) -> int:
    if abs(number) >= 10**MAX_DIGITS:
        raise ValueError(f"it has more than {MAX_DIGITS} digits")
    return number


WrittenNumber: TypeAlias = Annotated[int, AfterValidator(_written)]
"""A whole number that can be written; as bounds, such numbers would stand in /openapi.json."""


def refuse_wide(columns: int, name: str) -> None:
    """Refuse a table of more columns than are read; raises DataError naming it."""
    if columns > MAX_COLUMNS:
        raise DataError(
            f"{name}: {columns:,} columns; at most {MAX_COLUMNS:,} are read: divide the table, or name the right "
            "delimiter with --set data.read.delimiter=';'"
        )
