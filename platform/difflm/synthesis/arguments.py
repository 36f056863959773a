"""What a caller in Python passes, checked before any work; numpy's numbers are as good as Python's."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import SupportsIndex

from difflm.errors import ConfigError

MAX_ROWS = 999_999_999  # what names of parts have digits for


def row_count(given: object, *, name: str) -> int:
    """Return a number of rows as Python's own; ConfigError naming the argument for a float, say, or out of range."""
    return _whole_number(given, name=name, least=1, most=MAX_ROWS, remedy=f"a number of rows from 1 to {MAX_ROWS:,}")


def seed_number(given: object) -> int:
    """Return a seed as Python's own; ConfigError for what is no whole number, or out of range."""
    return _whole_number(given, name="seed", least=0, most=2**63 - 1, remedy="a whole number from 0 to 2**63 - 1")


def _whole_number(given: object, *, name: str, least: int, most: int, remedy: str) -> int:
    if isinstance(given, SupportsIndex) and not isinstance(given, bool):
        try:
            number = operator.index(given)
        except TypeError:  # an array of several
            number = least - 1
        if least <= number <= most:
            return number
    raise ConfigError(f"{name} is {given!r}; give {remedy}")


def share(given: object, *, name: str, remedy: str) -> float:
    """Return a number from 0 to 1.

    Raises:
        ConfigError: it is none, or out of range; names the argument and ends with ``remedy``.
    """
    try:
        number = float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if isinstance(given, str) or not 0.0 <= number <= 1.0:
        raise ConfigError(f"{name} is {given if isinstance(given, float) else f'{given!r:.40}'}; give {remedy}")
    return number


def text_or_none(given: object, *, name: str, remedy: str) -> str | None:
    """Return a text, or None where none was given.

    Raises:
        ConfigError: it is something else; names the argument and ends with ``remedy``.
    """
    if given is None or isinstance(given, str):
        return given
    raise ConfigError(f"{name} is {given!r}; give {remedy}")


def texts(given: object, *, name: str) -> tuple[str, ...]:
    """Return a list of texts as a tuple.

    Raises:
        ConfigError: it is one text, or holds something else; names the argument.
    """
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise ConfigError(f"{name} is {given!r}; give a list of texts, such as {name}=['start <= end']")
    found = tuple(given)
    for each in found:
        if not isinstance(each, str):
            raise ConfigError(f"{name} holds {each!r}; give texts, such as 'start <= end'")
    return found


def column_names(given: Iterable[str] | None, known: Sequence[str]) -> list[str] | None:
    """Return the names of columns as a list; None for all. Labels that are no text go by their text, as in the table.

    Raises:
        ConfigError: it is one text, names no column, or one twice or that is not there.
    """
    if given is None:
        return None
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise ConfigError(f"columns is {given!r}; give a list of names, such as columns=[{known[0]!r}]")
    names = [str(name) for name in given]
    if not names:
        raise ConfigError("columns is empty; give at least one name, or leave it out for all")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"columns: there is no {unknown[0]!r}; columns are {', '.join(map(repr, known))}")
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ConfigError(f"columns: {repeated[0]!r} is there twice; give every name once")
    return names
