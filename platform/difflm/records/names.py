"""Column names: every column gets one of its own, without line breaks or blanks around it."""

import re
from collections.abc import Sequence

_BREAKS = re.compile(r"[\s\x00-\x1f\x7f\u2028\u2029\ufeff]+")


def unique_names(names: Sequence[str]) -> list[str]:
    """Names as they are where possible: empty ones become `column_3`, repeated ones `age_2`, white space one blank."""
    tidy = [_BREAKS.sub(" ", name).strip() or f"column_{position + 1}" for position, name in enumerate(names)]
    taken = set(tidy)
    used: set[str] = set()
    unique: list[str] = []
    for name in tidy:
        candidate, number = name, 1
        while candidate in used or (number > 1 and candidate in taken):
            number += 1
            candidate = f"{name}_{number}"
        used.add(candidate)
        unique.append(candidate)
    return unique
