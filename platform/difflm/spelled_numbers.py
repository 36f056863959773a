"""Spelled numbers: the text of a number as a column of a text file spells it, from fixed decimals to E notation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, Final, Literal

PRINTED: Final = b"difflm.printed"
"""Metadata of a column of numbers: the arguments of `printed`, as JSON."""

NEVER: Final = 400
"""A power of ten that no double reaches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scientific:
    """Which numbers of a column are in E notation, and how it looks.

    `outside`: those below ten to `below` and from ten to `above` on; `shorter`: those that are shorter so, as R has
    them; `always`: all. `mantissa` is a fixed number of digits behind its mark (`5.00E-05`), None for the fewest; then
    `pointed` writes a zero there (`5.0E-5`). Exponents have at least `width` digits, and a plus above zero.
    """

    when: Literal["outside", "shorter", "always"] = "outside"
    below: int = -4
    above: int = NEVER
    mantissa: int | None = None
    pointed: bool = False
    letter: Literal["e", "E"] = "e"
    plus: bool = True
    width: int = 2

    def spelled(self, size: float, plain: str) -> str:
        """Spell a number from zero on, of which `plain` is the text without E notation."""
        if size == math.inf or (
            self.when == "outside" and (size == 0 or self.below <= Decimal(repr(size)).adjusted() < self.above)
        ):
            return plain
        text = self._text(size)
        return text if self.when != "shorter" or len(text) < len(plain) else plain

    def _text(self, size: float) -> str:
        if self.mantissa is not None:
            digits, _, power = f"{size:.{self.mantissa}e}".partition("e")
            exponent = int(power)
        else:
            exact = Decimal(repr(size)).normalize()
            exponent = exact.adjusted()
            all_digits = "".join(map(str, exact.as_tuple().digits))
            digits = all_digits[0] + ("." + all_digits[1:] if all_digits[1:] else ".0" if self.pointed else "")
        sign = "-" if exponent < 0 else "+" if self.plus else ""
        return f"{digits}{self.letter}{sign}{abs(exponent):0{self.width}d}"


def spelled_size(
    size: float,
    *,
    places: int | None = None,
    trimmed: bool = False,
    capital: bool = False,
    scientific: Scientific | None = None,
) -> str:
    """Spell a number from zero on with a fixed number of decimals, or as short as it reads back.

    `trimmed` leaves out a fraction of zero, `capital` writes Python's own exponents with `E`.
    """
    if places is not None:
        text = f"{size:.{places}f}"
    else:
        text = repr(size)
        if scientific is not None and "e" in text:
            text = format(Decimal(text), "f")
            text = text if "." in text else text + ".0"
        text = text.removesuffix(".0") if trimmed else text
        text = text.replace("e", "E") if capital else text
    return text if scientific is None else scientific.spelled(size, text)


def printed(value: float, **how: Any) -> str:
    """Print a number, `how` as in `spelled_size`; zero has no sign."""
    text = spelled_size(abs(value), **how)
    return f"-{text}" if value < 0 and text.strip("0.") else text


@cache
def printer(how: bytes) -> Callable[[float], str]:
    """Return the function that prints numbers as a column's metadata `PRINTED` says."""
    arguments = json.loads(how)
    if "scientific" in arguments:
        arguments["scientific"] = Scientific(**arguments["scientific"])
    return lambda value: printed(value, **arguments)
