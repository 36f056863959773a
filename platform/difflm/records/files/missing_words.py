"""Missing words: which texts of a delimited file stand for a missing value, and which are values after all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from difflm.records.files.remedies import setting
from difflm.records.large.values import Values
from difflm.records.notices import Notice, Reporter

MISSING = ("", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "\\N")
_CODE = "^[A-Z]{2}$"
_CODES = ("NA",)
"""Words that are also codes of two letters: Namibia's of a country, sodium's of an element, North America's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingWords:
    """What the configuration says: words of all columns, None for the usual ones, and words of single columns."""

    all: tuple[str, ...] | None
    by_column: Mapping[str, tuple[str, ...]]

    def without(self, column: pa.ChunkedArray, name: str, report: Reporter) -> tuple[pa.ChunkedArray, str]:
        """Make the missing cells of a text column null, and report them; also return the word most of them have."""
        given = self.by_column.get(name, self.all)
        words = MISSING if given is None else given
        seen = Values.of(column)
        is_missing = pc.is_in(seen.values, value_set=pa.array(words, pa.string()))
        if not pc.any(is_missing).as_py() and not column.null_count:
            return column, ""
        counts = seen.by_value(is_missing)
        if given is None:
            for word in _CODES:
                if word in counts and _among_codes(seen.values, is_missing):
                    kept = counts.pop(word)
                    is_missing = pc.and_(is_missing, pc.not_equal(seen.values, word))
                    _tell(
                        name, word, kept, "is a value, for all others are codes of two letters too", report, ("", word)
                    )
            for word, count in counts.items():
                if word:
                    _tell(name, word, count, "counts as missing", report, ("",))
        column = seen.replaced(pc.if_else(pc.fill_null(is_missing, True), pa.scalar(None, pa.string()), seen.values))
        return column, max(counts, key=lambda word: (counts[word], word)) if counts else ""


def _among_codes(column: pa.ChunkedArray, is_missing: pa.ChunkedArray) -> bool:
    others = column.filter(pc.invert(is_missing))
    if others.length() == 0 or not pc.match_substring_regex(others.slice(0, 1), _CODE)[0].as_py():
        return False
    return bool(pc.all(pc.match_substring_regex(others, _CODE)).as_py())


def _tell(name: str, word: str, count: int, what: str, report: Reporter, instead: tuple[str, ...]) -> None:
    message = f"{word!r} {what}, in {count:,} cells; if that is wrong, {setting('missing_in', {name: instead})}"
    report(Notice(column=name, code="missing_word", count=count, message=message))
