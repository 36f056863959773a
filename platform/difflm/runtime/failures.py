"""Failures: errors of other processes, brought back to the driver as one line of the same class."""

from __future__ import annotations

from difflm import errors
from difflm.errors import DiffLMError


def error_class(name: str) -> type[DiffLMError] | None:
    """The class of that name in `difflm.errors`; None for errors that nobody raised on purpose."""
    found = getattr(errors, name, None)
    return found if isinstance(found, type) and issubclass(found, DiffLMError) else None


def last_line(error: BaseException, *, limit: int = 300) -> str:
    """The last line of a message, which in a remote traceback is the one that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:limit] if lines else type(error).__name__
