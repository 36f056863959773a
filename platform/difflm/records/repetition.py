"""Repetition: how long a stretch of a text says one thing again and again.

Language models fall into loops, the more the colder they are drawn from: `[[[[[[[[`, `finance_finance_finance`. Real
texts have such stretches too (rules of dashes, indented code), so what is too long is for the training texts to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from typing import Final

from difflm.records.schema import Field, JsonField, RecordSchema, TextField, Value

SHORTEST: Final = 11
"""Characters of a stretch that is never too long."""
_LONGEST_UNIT: Final = 16
_EXAMINED: Final = 2_000
"""Of a column's texts."""
_WITNESSES: Final = 8
"""So many training texts have a stretch of the longest length that is drawn: fewer may be an accident, or a person."""


def _pattern() -> re.Pattern[str]:
    """Match a unit that is there three times, but for its last character, and fills `SHORTEST` characters at least."""
    short = [rf"(?:.{{{size}}})" for size in (1, 2, 3)]
    found = [
        rf"(?P<u{size}>{unit})(?P=u{size}){{{-(-SHORTEST // size) - 1},}}" for size, unit in enumerate(short, start=1)
    ]
    for size in range(4, _LONGEST_UNIT + 1):
        body, last = rf"(?P=v{size})", rf"(?P=w{size})"
        found.append(rf"(?P<v{size}>.{{{size - 1}}})(?P<w{size}>.){body}{last}{body}(?:{last}{body})*{last}?")
    return re.compile("|".join(found), re.DOTALL)


_STRETCH: Final = _pattern()


def longest_repetition(text: str) -> int:
    """Return how many characters the longest such stretch has; 0 where there is none of `SHORTEST`."""
    return max((match.end() - match.start() for match in _STRETCH.finditer(text)), default=0)


def usual_repetition(texts: Sequence[str]) -> int:
    """Return how long such stretches are in training texts, all different: what several of them reach."""
    step = -(-len(texts) // _EXAMINED) or 1
    longest = sorted(map(longest_repetition, texts[::step]), reverse=True)
    return max(longest[_WITNESSES - 1], SHORTEST) if len(longest) >= _WITNESSES else SHORTEST


def repetition_fault(schema: RecordSchema, record: Mapping[str, Value], given: Set[str]) -> str | None:
    """Return which text of a record, but for `given` columns, repeats itself longer than training texts do."""
    for field in schema.fields:
        most = _most(field)
        text = record[field.name]
        if most is None or field.name in given or not isinstance(text, str) or len(text) <= most:
            continue
        if (found := longest_repetition(text)) > most:
            return f"{field.name!r}: {found} characters say one thing again and again, in training at most {most}"
    return None


def _most(field: Field) -> int | None:
    return field.most_repeated if isinstance(field, TextField | JsonField) else None
