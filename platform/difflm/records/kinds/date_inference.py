"""Date inference: the field of a column of dates or times, in the formats that training has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from difflm.records.kinds.distinct_values import Column
from difflm.records.kinds.dress import MAX_WORDS
from difflm.records.kinds.moments import (
    find_compact,
    find_formats,
    looks_dated,
    microseconds,
    parse_datetime,
    spelling,
)
from difflm.records.notices import Reporter
from difflm.records.schema import DatetimeField

_FEWEST_OTHERS: Final = 10


def datetime_field(
    column: Column, report: Reporter, *, compact: bool = False, given: bool = False
) -> DatetimeField | None:
    """Infer the field of a column of dates; None where it is none. `compact` looks for dates without separators only.

    With `given`, someone says that they are dates, and few are enough.

    Raises:
        DataError: `given`, and more than a few texts are no dates.
    """
    texts: list[str] = column.distinct.to_pylist()
    if compact:
        found = find_compact(texts, least=1 if given else 3)
    else:
        found = None if pa.types.is_integer(column.source) else find_formats(texts)
    if found is None:
        return None
    words = column.words(found.others)
    fits = len(words) <= MAX_WORDS and 2 * len(found.others) <= len(texts)
    if not fits or not all(word.isascii() and word.isprintable() for word in words):
        if given:
            remedy = f"its dates are written like {' and '.join(found.formats)}; correct it, or set text"
            raise column.misfit(texts[found.others[0]], "datetime", remedy)
        return None
    if words:
        rows, shown = column.count_of(found.others), ", ".join(map(repr, words[:4]))
        column.tell("words", rows, f"{rows} cells are words beside the dates, kept as they are: {shown}", report)
    others = set(found.others)
    dated = {text: _code(text, found.formats) for place, text in enumerate(texts) if place not in others}
    counts = dict(zip(texts, column.counts.to_pylist(), strict=True))
    points = _points(dated, counts)
    usual = {text: code for text, code in dated.items() if text not in points}
    return DatetimeField(
        name=column.name,
        nullable=column.missing > 0,
        missing_share=column.missing / column.rows,
        format=found.formats[0],
        others=found.formats[1:],
        minimum=min(usual, key=lambda text: (usual[text], text)),
        maximum=max(usual, key=lambda text: (usual[text], text)),
        points=points,
        words=words,
        **spelling(list(dated), found.formats),
    )


def undated(column: Column, report: Reporter) -> None:
    """Report texts that look like dates, though in no format that is known."""
    if not column.is_typed and looks_dated(column.distinct.to_pylist()):
        message = (
            f"looks like dates, such as {column.distinct[0].as_py()!r}, but in no known format: their range and order "
            "are not learned; write them like 2024-01-31 to have them understood"
        )
        column.tell("undated", column.rows - column.missing, message, report)


def _code(text: str, formats: Sequence[str]) -> int:
    moment = next(moment for format in formats if (moment := parse_datetime(text, format)) is not None)
    return microseconds(moment)


def _points(codes: dict[str, int], counts: dict[str, int]) -> tuple[str, ...]:
    """Return the dates that stand for an open end: in several rows, and farther from the other dates than these are
    from each other, such as 9999-12-31.
    """
    points: list[str] = []
    for extreme in (min, max):
        rest = {text: code for text, code in codes.items() if text not in points}
        text = extreme(rest, key=lambda one: rest[one])
        others = [code for code in rest.values() if code != rest[text]]
        if len(others) < _FEWEST_OTHERS or counts[text] < 2:
            continue
        gap = min(abs(rest[text] - code) for code in others)
        if gap > max(others) - min(others):
            points += [one for one, code in rest.items() if code == rest[text]]
    return tuple(points)
