"""Number tokens: numbers in pairs of digits instead of characters.

12345.6 is `1`, of a number with two more pairs before its point, `23`, `45` and `.6`. The first token tells how long
the number is, so every number says by itself where it ends, and what is written next has no part in that.
"""

from __future__ import annotations

NUMBER_MARK = "\ue000"
"""What the names of number tokens begin with: of the private use area, so that texts hardly ever have it."""


def leading_token(digits: str, pairs: int) -> str:
    """Name the token of a whole number's first one or two digits, which `pairs` more pairs follow."""
    return f"{NUMBER_MARK}{digits}|{pairs}"


def pair_token(digits: str) -> str:
    """Name the token of digits inside of a number; `.5` and `.50` begin a fraction."""
    return f"{NUMBER_MARK}{digits}"


def number_pieces(magnitude: str) -> list[str]:
    """Cut a number without its sign, such as 12345.6, into the names of its tokens."""
    whole, _, fraction = magnitude.partition(".")
    pairs = (len(whole) - 1) // 2
    head = len(whole) - 2 * pairs
    names = [leading_token(whole[:head], pairs)]
    names += [pair_token(whole[at : at + 2]) for at in range(head, len(whole), 2)]
    cut = [fraction[at : at + 2] for at in range(0, len(fraction), 2)]
    return names + [pair_token(("." if at == 0 else "") + digits) for at, digits in enumerate(cut)]


def number_tokens(*, whole_digits: int, decimals: int) -> list[str]:
    """Name all tokens of numbers with up to so many digits before the point and exactly so many behind it."""
    longest = (whole_digits - 1) // 2
    ones, pairs = [str(digit) for digit in range(10)], [f"{pair:02}" for pair in range(100)]
    names = [leading_token(digits, 0) for digits in ones]
    for behind in range(longest + 1):
        names += [leading_token(digits, behind) for digits in ones[1:] if behind]
        if 2 * behind + 2 <= whole_digits:
            names += [leading_token(digits, behind) for digits in pairs[10:]]
    names += [pair_token(digits) for digits in pairs if longest or decimals > 3]
    if decimals:
        names += [pair_token("." + digits) for digits in (ones if decimals == 1 else pairs)]
    if decimals > 1 and decimals % 2:
        names += [pair_token(digits) for digits in ones]
    return names


def is_number(token: str) -> bool:
    """Whether a token is called as number tokens are."""
    return token.startswith(NUMBER_MARK) and token[1:].translate(_NO_NUMBERS) == ""


def comparable(token: str) -> tuple[str, int] | None:
    """Return which number tokens one is alike, those of the same place, and what it counts there; None: it is none.

    Digits before the point, behind it and within a number are different places, and so are one and two of them.
    """
    if not is_number(token):
        return None
    digits, ends, pairs = token[1:].partition("|")
    if ends:
        return f"|{pairs}", int(digits)
    bare = digits.removeprefix(".")
    return f"{digits[: len(digits) - len(bare)]}{len(bare)}", int(bare)


def number_bytes(token: str) -> bytes:
    """Return what a number token writes."""
    return token.removeprefix(NUMBER_MARK).partition("|")[0].encode()


_NO_NUMBERS = str.maketrans("", "", "0123456789.|")
