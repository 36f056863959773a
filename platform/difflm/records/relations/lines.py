"""Lines: columns that are another one times a number plus a number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from difflm.records.relations.expressions import Binary, Column, Constant, Expression, shown
from difflm.records.relations.search import FEWEST_ROWS, Search, complete_rows, numeric_columns
from difflm.records.relations.values import FloatArray, kind_of, step_of

_LINE_ROWS: Final = 2_000
_FEWEST_VALUES: Final = 5
_STRAIGHT: Final = 1e-5


def find_lines(search: Search) -> None:
    """Find columns that are another one times a number plus a number."""
    names = numeric_columns(search)
    columns_TN = [search.sample.numbers(name) for name in names]
    kept, rows_N = complete_rows(columns_TN, least=FEWEST_ROWS, zeros=False)
    rows_N = rows_N[:_LINE_ROWS]
    kept = [place for place in kept if len(np.unique(columns_TN[place][rows_N])) >= _FEWEST_VALUES]
    if len(kept) < 2:
        return
    table_NT = np.stack([columns_TN[place][rows_N] for place in kept], axis=1)
    centred_NT = (table_NT - table_NT.mean(axis=0)) / table_NT.std(axis=0)
    straight_TT = np.abs(centred_NT.T @ centred_NT) / len(rows_N) > 1.0 - _STRAIGHT
    for first, second in zip(*np.nonzero(np.triu(straight_TT, k=1)), strict=True):
        one, other = names[kept[first]], names[kept[second]]
        if {one, other} & search.derived or kind_of(search.schema.field(one)) != kind_of(search.schema.field(other)):
            continue
        for target, source in ((other, one), (one, other)):
            x_N, y_N = (table_NT[:, first], table_NT[:, second]) if target == other else (
                table_NT[:, second],
                table_NT[:, first],
            )  # fmt: skip
            if any(search.accept_rule(text) for text in _lines(search, source, target, x_N, y_N)):
                search.derived.add(target)
                break


def _lines(search: Search, source: str, target: str, x_N: FloatArray, y_N: FloatArray) -> Iterator[str]:
    """Yield the lines that may lead from one column to another, round numbers first."""
    dates = kind_of(search.schema.field(target)) == "date"
    slope = float(np.polyfit(x_N - x_N.mean(), y_N - y_N.mean(), 1)[0])
    step = step_of(search.schema.field(target))
    seen = set[str]()
    for digits in (1, 2, 3, 4, 6):
        factor = float(f"{slope:.{digits - 1}e}")
        if dates and factor != 1.0:
            continue
        offset = float(np.median(y_N - factor * x_N))
        offset = float(f"{offset:.9g}") if dates else round(offset / (2.0 * step)) * 2.0 * step
        text = shown(Column(target)) + " == " + shown(_line(source, factor, float(f"{offset:.12g}")))
        if text not in seen:
            seen.add(text)
            yield text


def _line(source: str, factor: float, offset: float) -> Expression:
    scaled: Expression = Column(source) if factor == 1.0 else Binary("*", Column(source), Constant(factor))
    if factor == -1.0:
        return Binary("-", Constant(offset), Column(source))
    if offset == 0.0:
        return scaled
    return Binary("+" if offset > 0 else "-", scaled, Constant(abs(offset)))
