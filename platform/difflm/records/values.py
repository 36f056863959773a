"""Values: what a cell of a record may hold."""

from typing import TypeAlias

Value: TypeAlias = str | int | float | bool | None
"""A cell. Dates and times are their own text, in the format that their field holds; None is a missing value."""

Record: TypeAlias = dict[str, Value]
"""One row, keys in the order of the schema."""
