"""Equations: sums, differences, products and quotients of two or three columns that another column equals.

Columns are projected onto one random direction over some rows. A sum of columns equals another one in all of these rows
only if their projections do, so single numbers are searched, not rows: pairs against columns, and pairs against pairs.
Products are sums of logarithms. What is found so is a candidate, and verified row by row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from difflm.records.relations.expressions import Binary, Column, Constant, Expression, columns_of, shown
from difflm.records.relations.mining import BROKEN_SHARE, FEWEST_ROWS, Search
from difflm.records.relations.values import FloatArray, IntArray, kind_of, step_of
from difflm.records.schema import DatetimeField, DecimalField

_PROJECTED_ROWS: Final = 128
_LINE_ROWS: Final = 2_000
_FEWEST_VALUES: Final = 5
_STRAIGHT: Final = 1e-5
_MOST_CANDIDATES: Final = 2_000
_UNITS: Final = (1.0, 24.0, 1440.0, 86_400.0)
"""Numbers beside dates are days, hours, minutes or seconds."""
Scale: TypeAlias = Literal["sum", "product"]


def find_equations(search: Search) -> None:
    """Find the equations of a table's numbers and dates, simple ones first; a column is stated by one at most."""
    _find_lines(search)
    for scale in ("sum", "product"):
        _find(search, _Pool.of(search, scale), three=True)
    for scale in ("sum", "product"):
        _find(search, _Pool.of(search, scale), three=False)


def _numeric(search: Search) -> list[str]:
    names = [name for name in search.columns() if kind_of(search.schema.field(name)) != "text"]
    return [name for name in names if search.train.exact(name)]


def _complete(columns_TN: Sequence[FloatArray], *, least: int, zeros: bool) -> tuple[list[int], IntArray]:
    """Choose columns and the rows in which all of them have a value (with `zeros`, one other than 0).

    Columns with most gaps are left out until there are enough rows.
    """
    usable_TN = [np.isfinite(column) & ((column != 0.0) if zeros else True) for column in columns_TN]
    kept = sorted(range(len(usable_TN)), key=lambda place: -int(usable_TN[place].sum()))
    while kept:
        rows_N = np.flatnonzero(np.logical_and.reduce([usable_TN[place] for place in kept]))
        if len(rows_N) >= least:
            return sorted(kept), rows_N
        kept.pop()
    return [], np.zeros(0, dtype=np.int64)


def _find_lines(search: Search) -> None:
    """Find columns that are another one times a number plus a number."""
    names = _numeric(search)
    columns_TN = [search.sample.numbers(name) for name in names]
    kept, rows_N = _complete(columns_TN, least=FEWEST_ROWS, zeros=False)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pool:
    """What equations are made of: terms (a column, or one in another unit), their projections, and how exact these are.

    `loose_T` is how far the projection of a rounded result may lie from that of the exact one.
    """

    scale: Scale
    terms: Sequence[Expression]
    dates: Sequence[bool]
    decimals: Sequence[float]
    projected_T: FloatArray
    loose_T: FloatArray
    tight: float

    @classmethod
    def of(cls, search: Search, scale: Scale) -> _Pool | None:
        """Project what is left of the columns; None where there are too few of them, or too few rows."""
        names = _numeric(search)
        if scale == "product":
            names = [name for name in names if kind_of(search.schema.field(name)) == "number"]
        columns_TN = [search.sample.numbers(name) for name in names]
        kept, rows_N = _complete(columns_TN, least=FEWEST_ROWS, zeros=scale == "product")
        random = np.random.default_rng(0)
        rows_N = rows_N if len(rows_N) <= _PROJECTED_ROWS else np.sort(random.choice(rows_N, _PROJECTED_ROWS, False))
        kept = [place for place in kept if _varies(columns_TN[place][rows_N])]
        if len(kept) < 3:
            return None
        fields = {name: search.schema.field(name) for name in names}
        clocks = any(isinstance(each, DatetimeField) and "%H" in each.format for each in fields.values())
        weights_N = random.normal(size=len(rows_N))
        terms: list[Expression] = []
        dates, decimals, projected, loose, largest = list[bool](), list[float](), list[float](), list[float](), 0.0
        for place in kept:
            name, values_N = names[place], columns_TN[place][rows_N]
            date, step = kind_of(fields[name]) == "date", step_of(fields[name])
            for unit in _UNITS if clocks and not date and scale == "sum" else _UNITS[:1]:
                terms.append(Column(name) if unit == 1.0 else Binary("/", Column(name), Constant(unit)))
                dates.append(date)
                places = fields[name]
                decimals.append(places.decimals - places.exponent if isinstance(places, DecimalField) else 0.0)
                used_N = np.log(np.abs(values_N)) if scale == "product" else values_N / unit
                projected.append(float(used_N @ weights_N))
                slack_N = step / np.abs(values_N) if scale == "product" else np.full(len(rows_N), step)
                loose.append(float(np.abs(weights_N) @ slack_N))
                largest = max(largest, float(np.abs(weights_N) @ np.abs(used_N)))
        return cls(
            scale=scale,
            terms=terms,
            dates=dates,
            decimals=decimals,
            projected_T=np.array(projected),
            loose_T=np.array(loose),
            tight=1e-9 * largest,
        )

    def slack(self, target: int, parts: Sequence[int]) -> float:
        """How far the target's projection may lie from that of its parts."""
        needed = sum(self.decimals[part] for part in parts) if self.scale == "product" else max(
            self.decimals[part] for part in parts
        )  # fmt: skip
        rounded = needed > self.decimals[target] and not self.dates[target]
        return self.tight + (float(self.loose_T[target]) if rounded else 0.0)


def _varies(values_N: FloatArray) -> bool:
    _, counts = np.unique(values_N, return_counts=True)
    return float(1.0 - ((counts / len(values_N)) ** 2).sum()) >= BROKEN_SHARE


def _find(search: Search, pool: _Pool | None, *, three: bool) -> None:
    if pool is None:
        return
    found = _threes(pool) if three else _fours(pool)
    for equation in found[:_MOST_CANDIDATES]:
        names = {name for term in equation for name in columns_of(pool.terms[abs(term) - 1])}
        if len(names) == len(equation) and not names & search.derived:
            _accept(search, pool, equation)


Equation: TypeAlias = tuple[int, ...]
"""Places of terms from 1 on, negative behind the equals sign: (1, 2, -3) is term 1 + term 2 == term 3."""


def _threes(pool: _Pool) -> list[Equation]:
    """Return the triples of which two combine to the third, or to what rounding leaves of it."""
    count, h_T = len(pool.terms), pool.projected_T
    one_P, other_P = np.triu_indices(count, k=0 if pool.scale == "product" else 1)
    sum_P = h_T[one_P] + h_T[other_P]
    spread = float(sum_P.std())
    found, quotients = list[Equation](), list[Equation]()
    for target in range(count):
        loose = min(float(pool.loose_T[target]), 0.01 * spread) + pool.tight
        near_P = np.flatnonzero(np.abs(sum_P - h_T[target]) <= loose)
        for pair in near_P[:_MOST_CANDIDATES]:
            one, other = int(one_P[pair]), int(other_P[pair])
            if abs(sum_P[pair] - h_T[target]) <= pool.slack(target, (one, other)):
                found.append((one + 1, other + 1, -target - 1))
        if pool.scale == "product" and float(pool.loose_T[target]) <= 0.01 * spread:  # rounded quotients: means, rates
            quotient_TT = h_T[:, None] - h_T[None, :]
            for one, other in zip(*np.nonzero(np.abs(quotient_TT - h_T[target]) <= loose), strict=True):
                quotients.append((int(one) + 1, -int(other) - 1, -target - 1))
    return found + quotients


def _fours(pool: _Pool) -> list[Equation]:
    """Return the quadruples of which three combine to the fourth, or two to the same as the two others."""
    count, h_T = len(pool.terms), pool.projected_T
    one_P, other_P = np.triu_indices(count, k=1)
    sum_P = h_T[one_P] + h_T[other_P]
    order_P = np.argsort(sum_P)
    spread = float(sum_P.std())
    found: list[Equation] = []
    for target in range(count):
        loose = min(float(pool.loose_T[target]), 1e-3 * spread) + pool.tight
        for sign in (1, -1) if pool.scale == "sum" else (1,):
            wanted_T = h_T[target] - sign * h_T
            low_T = np.searchsorted(sum_P[order_P], wanted_T - loose)
            high_T = np.searchsorted(sum_P[order_P], wanted_T + loose, side="right")
            for third in np.flatnonzero(high_T > low_T):
                for pair in order_P[low_T[third] : high_T[third]][:_MOST_CANDIDATES]:
                    parts = int(one_P[pair]), int(other_P[pair]), int(third)
                    gap = abs(sum_P[pair] - wanted_T[third])
                    if len({*parts, target}) == 4 and gap <= pool.slack(target, parts) and _is_first(parts, sign, target):
                        found.append((parts[0] + 1, parts[1] + 1, sign * (parts[2] + 1), -target - 1))
            if len(found) > _MOST_CANDIDATES:
                return found
    return found


def _is_first(parts: tuple[int, int, int], sign: int, target: int) -> bool:
    """Whether this is the one form of an equation that is kept of those that say the same."""
    if sign > 0:
        return parts[1] < parts[2]
    return parts[0] == min(*parts, target) and parts[2] < target


def _accept(search: Search, pool: _Pool, equation: Equation) -> bool:
    above = sum(pool.dates[abs(term) - 1] * (1 if term > 0 else -1) for term in equation)
    if above != 0:  # days that are added to days are no date
        return False
    for text, target in _texts(search, pool, equation):
        if search.accept_rule(text) or search.dropped[-1:] and search.dropped[-1].message.startswith(f"{text} holds"):
            search.derived.add(target)
            return True
    return False


def _texts(search: Search, pool: _Pool, equation: Equation) -> Iterator[tuple[str, str]]:
    """Yield an equation as rules, the column alone first that people would put there: the number beside dates, the last
    column, or the one that the others combine to.
    """
    terms = [pool.terms[abs(term) - 1] for term in equation]
    if pool.scale == "product":
        target = terms[-1]
        combined = terms[0]
        for term, part in zip(equation[1:-1], terms[1:-1], strict=True):
            combined = Binary("*" if term > 0 else "/", combined, part)
        yield f"{shown(target)} == {shown(combined)}", columns_of(target)[0]
        return
    places = {name: place for place, name in enumerate(search.schema.names)}
    dates = [pool.dates[abs(term) - 1] for term in equation]
    stated = sorted(
        range(len(equation)),
        key=lambda i: (dates[i] if any(dates) else sum((equation[i] > 0) == (other > 0) for other in equation) > 1,
                       -places[columns_of(terms[i])[0]]),
    )[0]  # fmt: skip
    same = [(1 if (term > 0) != (equation[stated] > 0) else -1, part)
            for place, (term, part) in enumerate(zip(equation, terms, strict=True)) if place != stated]  # fmt: skip
    same.sort(key=lambda item: (-item[0], places[columns_of(item[1])[0]]))
    combined = same[0][1] if same[0][0] > 0 else Binary("-", Constant(0.0), same[0][1])
    for sign, part in same[1:]:
        combined = Binary("+" if sign > 0 else "-", combined, part)
    target = terms[stated]
    if isinstance(target, Binary):  # a number of hours, say: its unit goes to the other side
        target, combined = target.left, Binary("*", combined, target.right)
    yield f"{shown(target)} == {shown(combined)}", columns_of(target)[0]
