"""Private summaries of single columns: the kind of each, its frequent values, and counts between quantiles of numbers.

A column's share of rho goes to votes on its kind, to its values one by one, and for numbers to octaves (powers of two,
which find the range), to cells inside of the octaves that are not empty, and to finer ones in those of the cells that
are not. Bounds are those of cells: extremes that hardly a unit has are never seen.

Shape legend: N rows, D distinct texts, K codes of a column (values, then cells), C cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from difflm.errors import DataError
from difflm.printable import setting
from difflm.privacy.budget import VALUES_SHARE, Plan
from difflm.privacy.cells import KINDS, CellColumn, kind_of, number_of, text_of
from difflm.privacy.measuring import Ledger, frequent_values, nearest_counts, noisy_counts, scale_of

_KINDS_SHARE, _OCTAVES_SHARE = 0.1, 0.14
_CELLS_SHARE = 1 - _KINDS_SHARE - _OCTAVES_SHARE - VALUES_SHARE
_OCTAVES: Final = 62
_PER_OCTAVE: Final = 16
_FINEST, _COARSE = 64, 0.4
"""Cells of a column, once those of its octaves that are empty are known, and the share of rho for these."""
_SURE: Final = 4.5
"""Standard deviations of noise above which an octave is not empty."""
_SAME_KIND: Final = 0.98
"""Share of cells that are numbers or dates in a column of these."""
_NAMED: Final = 0.6
"""Share of cells that have frequent values in a column of categories; what has fewer is free text."""

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSummary:
    """What is known of a column, all of it private: `values` and cells `[low, high)` of numbers, with noisy counts.

    `kind` is number, date, datetime or category; numbers are in units of the last of `decimals`.
    """

    name: str
    kind: str
    decimals: int
    values: tuple[str, ...]
    cells: tuple[tuple[int, int], ...]
    counts_K: Floats
    missing: float

    def code_texts(self, texts_D: Sequence[str]) -> Codes:
        """Return the code of every distinct text: that of its value or its cell, -1 for one of neither."""
        places = {value: place for place, value in enumerate(self.values)}
        codes_D = np.array([places.get(self.canonical(text) or "", -1) for text in texts_D], dtype=np.int64)
        if self.cells:
            lows = np.array([low for low, _ in self.cells])
            for place in np.flatnonzero(codes_D < 0).tolist():
                number = number_of(texts_D[place], self.kind, self.decimals)
                cell = -1 if number is None else int(np.searchsorted(lows, number, side="right")) - 1
                if number is not None and cell >= 0 and number < self.cells[cell][1]:
                    codes_D[place] = len(self.values) + cell
        return codes_D

    def canonical(self, text: str) -> str | None:
        """Return the spelling of a text that `values` have: numbers with all their decimals."""
        if self.kind == "category":
            return text
        number = number_of(text, self.kind, self.decimals)
        return None if number is None else text_of(number, self.kind, self.decimals)

    def draw(self, codes_N: Codes, random: np.random.Generator) -> list[str | None]:
        """Write a value of every code: of a cell any number in it; -1 is missing."""
        drawn: list[str | None] = []
        for code in codes_N:
            if code < 0:
                drawn.append(None)
            elif code < len(self.values):
                drawn.append(self.values[code])
            else:
                low, high = self.cells[code - len(self.values)]
                drawn.append(text_of(int(random.integers(low, high)), self.kind, self.decimals))
        return drawn

    def positions_K(self) -> Floats:
        """Return where codes stand in an order of the column: numbers by size, categories by frequency."""
        if self.kind == "category":
            return np.arange(len(self.values), dtype=np.float64)
        numbers = [number_of(value, self.kind, self.decimals) or 0 for value in self.values]
        return np.array([*numbers, *((low + high) / 2 for low, high in self.cells)], dtype=np.float64)


def summarize_columns(columns: Sequence[CellColumn], plan: Plan, ledger: Ledger) -> list[ColumnSummary]:
    """Measure every column with an equal share of rho.

    Raises:
        DataError: a column is free text, or nothing is left of it under this budget.
    """
    rho = plan.columns_rho / len(columns)
    delta = plan.threshold_delta / len(columns)
    return [_summarize(column, rho=rho, delta=delta, ledger=ledger) for column in columns]


def _summarize(column: CellColumn, *, rho: float, delta: float, ledger: Ledger) -> ColumnSummary:
    part, rows_D = f"column {column.name}", column.counts_D()
    kinds_D = [kind_of(text) for text in column.texts_D]
    votes = [int(rows_D[[kind == each for kind in kinds_D]].sum()) for each in KINDS]
    votes.append(int((column.code_N < 0).sum()))
    *kinds, missing = noisy_counts(np.array(votes), rho=_KINDS_SHARE * rho, part=part, ledger=ledger).tolist()
    noise = scale_of(_KINDS_SHARE * rho)
    missing = float(missing) if missing > 3 * noise else 0.0
    kind, decimals = _voted([max(0.0, count - 2 * noise) for count in kinds], column.name)
    summary = ColumnSummary(
        name=column.name, kind=kind, decimals=decimals, values=(), cells=(), counts_K=np.zeros(0), missing=missing
    )
    share = VALUES_SHARE if kind != "category" else 1 - _KINDS_SHARE
    counted: dict[str, int] = {}
    for text, rows in zip(column.texts_D, rows_D.tolist(), strict=True):
        if (spelled := summary.canonical(text)) is not None and rows:
            counted[spelled] = counted.get(spelled, 0) + rows
    found = frequent_values(counted, rho=share * rho, delta=delta, part=part, ledger=ledger)
    known, present = float(sum(found.values())), max(1.0, float(sum(kinds)))
    values, counts_K = tuple(found), np.array(list(found.values()), dtype=np.float64)
    if kind == "category":
        _refuse_text(column.name, known / present, values)
    else:
        rest = {text: rows for text, rows in counted.items() if text not in found}
        numbers = np.array([number_of(text, kind, decimals) for text in rest], dtype=np.int64)
        weights = np.array(list(rest.values()), dtype=np.int64)
        cells, in_cells = _cells(numbers, weights, rho=rho, part=part, ledger=ledger)
        counts_K = np.concatenate([counts_K, in_cells])
        if not len(counts_K):
            raise DataError(f"column {column.name!r}: this budget sees none of its numbers; leave it out, or raise it")
        return ColumnSummary(
            name=column.name,
            kind=kind,
            decimals=decimals,
            values=values,
            cells=cells,
            counts_K=counts_K,
            missing=missing,
        )
    return ColumnSummary(
        name=column.name, kind=kind, decimals=0, values=values, cells=(), counts_K=counts_K, missing=missing
    )


def _refuse_text(name: str, share: float, values: tuple[str, ...]) -> None:
    if share < _NAMED or not values:
        raise DataError(
            f"column {name!r} is free text, or names its rows: about {min(1, max(0, share)):.0%} of its cells have "
            "a value that enough rows share, and texts have no private form; leave it out "
            f"({setting('privacy.leave_out', name)})"
        )


def _voted(kinds: Sequence[float], name: str) -> tuple[str, int]:
    """Return what most cells are; of numbers also the decimals that nearly all have at most."""
    total = sum(kinds)
    if total <= 0:
        raise DataError(f"column {name!r}: too few of its cells have a value for this budget; leave it out")
    numbers = np.array(kinds[: len(KINDS) - 3])
    if numbers.sum() >= _SAME_KIND * total:
        return "number", int(np.searchsorted(numbers.cumsum(), 0.98 * numbers.sum()))
    for place, kind in ((-3, "date"), (-2, "datetime")):
        if kinds[place] >= _SAME_KIND * total:
            return kind, 0
    return "category", 0


def _cells(
    numbers: Codes, weights: Codes, *, rho: float, part: str, ledger: Ledger
) -> tuple[tuple[tuple[int, int], ...], Floats]:
    """Count numbers in cells of the octaves that are not empty, in order."""
    octave = np.where(
        numbers == 0, 0, np.sign(numbers) * (np.log2(np.maximum(np.abs(numbers), 1)).astype(np.int64) + 1)
    )
    octave = octave.astype(np.int64) + _OCTAVES
    counts = np.bincount(octave, weights=weights, minlength=2 * _OCTAVES + 1).astype(np.int64)
    measured = noisy_counts(counts, rho=_OCTAVES_SHARE * rho, part=part, ledger=ledger)
    full = np.flatnonzero(measured > _SURE * scale_of(_OCTAVES_SHARE * rho))
    octaves, share = [_divided(int(place) - _OCTAVES) for place in full], _CELLS_SHARE * rho
    if not octaves:
        return (), np.zeros(0)
    cells = [cell for inside in octaves for cell in inside]
    noisy = noisy_counts(_count(cells, numbers, weights), rho=_COARSE * share, part=part, ledger=ledger)
    first = _within(noisy, octaves, measured[full])
    kept = np.flatnonzero(first > 0)
    parts = max(1, _FINEST // max(1, len(kept)))
    finer = [_parts(*cells[place], parts) for place in kept]
    flat = [cell for some in finer for cell in some]
    if not flat:
        return (), np.zeros(0)
    second = noisy_counts(_count(flat, numbers, weights), rho=(1 - _COARSE) * share, part=part, ledger=ledger)
    found = _within(second, finer, first[kept])
    full = np.flatnonzero(found > 0)
    return tuple(flat[place] for place in full), found[full]


def _within(noisy: Codes, parts: Sequence[Sequence[object]], totals: npt.NDArray[np.generic]) -> Floats:
    """Fit the counts of parts of cells to what the cells have together: nothing is lost where each has little."""
    ends = np.cumsum([len(some) for some in parts])
    pieces = np.split(noisy.astype(np.float64), ends[:-1])
    fitted = [nearest_counts(piece, float(total)) for piece, total in zip(pieces, totals.tolist(), strict=True)]
    return np.concatenate(fitted)


def _count(cells: Sequence[tuple[int, int]], numbers: Codes, weights: Codes) -> Codes:
    """Count numbers in cells that are in order and do not overlap."""
    lows, highs = (np.array(edges) for edges in zip(*cells, strict=True))
    place = np.searchsorted(lows, numbers, side="right") - 1
    inside = (place >= 0) & (numbers < highs[np.maximum(place, 0)])
    return np.bincount(place[inside], weights=weights[inside], minlength=len(cells)).astype(np.int64)


def _parts(low: int, high: int, most: int) -> list[tuple[int, int]]:
    """Divide a cell into at most so many of about equal size."""
    count = min(most, high - low)
    return list(pairwise([low + (high - low) * step // count for step in range(count + 1)]))


def _divided(octave: int) -> list[tuple[int, int]]:
    """Divide the numbers of an octave into cells `[low, high)`: 0 has one, +-1 one each, then powers of two."""
    if octave == 0:
        return [(0, 1)]
    size = 1 << (abs(octave) - 1)
    found = _parts(size, 2 * size, _PER_OCTAVE)
    return found if octave > 0 else [(1 - high, 1 - low) for low, high in found][::-1]
