"""Equations: sums, differences, products and quotients of two or three columns that another column equals.

Columns are projected onto one random direction over some rows. A sum of columns equals another one in all of these rows
only if their projections do, so single numbers are searched, not rows: pairs against columns, and pairs against pairs.
Products are sums of logarithms. What is found so is a candidate, and verified row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from difflm.records.relations.expressions import Binary, Column, Constant, Expression, columns_of, shown
from difflm.records.relations.lines import find_lines
from difflm.records.relations.search import BROKEN_SHARE, FEWEST_ROWS, Search, complete_rows, numeric_columns
from difflm.records.relations.values import FloatArray, IntArray, kind_of, step_of
from difflm.records.schema import DatetimeField, DecimalField

_PROJECTED_ROWS: Final = 128
_MOST_CANDIDATES: Final = 2_000
_MOST_NEAR: Final = 5_000
_CHUNK: Final = 10_000
_FIRST_ROWS: Final = 6
_UNITS: Final = (1.0, 24.0, 1440.0, 86_400.0)
"""Numbers beside dates are days, hours, minutes or seconds."""
Scale: TypeAlias = Literal["sum", "product"]


def find_equations(search: Search) -> None:
    """Find the equations of a table's numbers and dates, simple ones first; a column is stated by one at most."""
    find_lines(search)
    scales: tuple[Scale, ...] = ("sum", "product")
    for three in (True, False):
        for scale in scales:
            _find(search, _Pool.of(search, scale), three=three)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pool:
    """What equations are made of: terms (a column, or one in another unit), their values in some rows, and projections.

    `slack_NT` is how far a rounded result may lie from the exact one, `tight` what binary rounding does to projections.
    """

    scale: Scale
    terms: Sequence[Expression]
    date_T: IntArray
    decimals_T: FloatArray
    values_NT: FloatArray
    slack_NT: FloatArray
    projected_T: FloatArray
    loose_T: FloatArray
    tight: float

    @classmethod
    def of(cls, search: Search, scale: Scale) -> _Pool | None:
        """Project what is left of the columns; None where there are too few of them, or too few rows."""
        names = numeric_columns(search)
        if scale == "product":
            names = [name for name in names if kind_of(search.schema.field(name)) == "number"]
        columns_TN = [search.sample.numbers(name) for name in names]
        kept, rows_N = complete_rows(columns_TN, least=FEWEST_ROWS, zeros=scale == "product")
        random = np.random.default_rng(0)
        rows_N = rows_N if len(rows_N) <= _PROJECTED_ROWS else np.sort(random.choice(rows_N, _PROJECTED_ROWS, False))
        kept = [place for place in kept if _varies(columns_TN[place][rows_N])]
        if len(kept) < 3:
            return None
        fields = [search.schema.field(names[place]) for place in kept]
        clocks = scale == "sum" and any(isinstance(each, DatetimeField) and "%H" in each.format for each in fields)
        terms: list[Expression] = []
        rows: list[tuple[bool, float, FloatArray, FloatArray]] = []
        for each, place in zip(fields, kept, strict=True):
            date, step, values_N = kind_of(each) == "date", step_of(each), columns_TN[place][rows_N]
            places = float(each.decimals - each.exponent) if isinstance(each, DecimalField) else 0.0
            for unit in _UNITS if clocks and not date else _UNITS[:1]:
                terms.append(Column(each.name) if unit == 1.0 else Binary("/", Column(each.name), Constant(unit)))
                if scale == "product":
                    rows.append((date, places, np.log(np.abs(values_N)), step / np.abs(values_N)))
                else:
                    rows.append((date, places, values_N / unit, np.full(len(values_N), step)))
        weights_N = random.normal(size=len(rows_N))
        values_NT, slack_NT = (np.stack(list(part), axis=1) for part in zip(*(row[2:] for row in rows), strict=True))
        return cls(
            scale=scale,
            terms=terms,
            date_T=np.array([row[0] for row in rows], dtype=np.int64),
            decimals_T=np.array([row[1] for row in rows]),
            values_NT=values_NT,
            slack_NT=slack_NT,
            projected_T=weights_N @ values_NT,
            loose_T=np.abs(weights_N) @ slack_NT,
            tight=1e-12 * float((np.abs(weights_N) @ np.abs(values_NT)).max()),
        )

    def holding(self, places_EK: IntArray, signs_K: Sequence[int]) -> IntArray:
        """Return the equations that hold in all rows: terms with their signs are zero but for what rounds the last."""
        for rows in (slice(_FIRST_ROWS), slice(None)):
            places_EK = places_EK[self._holds_E(places_EK, signs_K, rows)]
        return places_EK

    def _holds_E(self, places_EK: IntArray, signs_K: Sequence[int], rows: slice) -> npt.NDArray[np.bool_]:
        parts_EK, target_E = places_EK[:, :-1], places_EK[:, -1]
        needed_E = self.decimals_T[parts_EK].sum(axis=1) if self.scale == "product" else (
            self.decimals_T[parts_EK].max(axis=1)
        )  # fmt: skip
        rounded_E = (needed_E > self.decimals_T[target_E]) & (self.date_T[target_E] == 0)
        if min(signs_K[:-1]) < 0 and self.scale == "product":
            rounded_E[:] = True
        held: list[npt.NDArray[np.bool_]] = []
        for first in range(0, len(places_EK), _CHUNK):
            part = slice(first, first + _CHUNK)
            columns_NEK = self.values_NT[rows][:, places_EK[part]]
            gap_NE = np.abs(columns_NEK @ np.array(signs_K, dtype=np.float64))
            exact_NE = 1e-12 * np.abs(columns_NEK).max(axis=2) + 1e-12
            allowed_NE = exact_NE + np.where(rounded_E[part], 1.001 * self.slack_NT[rows][:, target_E[part]], 0.0)
            held.append((gap_NE <= allowed_NE).all(axis=0))
        return np.concatenate(held) if held else np.zeros(0, np.bool_)


def _varies(values_N: FloatArray) -> bool:
    _, counts = np.unique(values_N, return_counts=True)
    return float(1.0 - ((counts / len(values_N)) ** 2).sum()) >= BROKEN_SHARE


def _find(search: Search, pool: _Pool | None, *, three: bool) -> None:
    if pool is None:
        return
    for equation in _threes(pool) if three else _fours(pool):
        names = {name for term in equation for name in columns_of(pool.terms[abs(term) - 1])}
        if len(names) == len(equation) and not names & search.derived:
            _accept(search, pool, equation)


Equation: TypeAlias = tuple[int, ...]
"""Places of terms from 1 on, negative behind the equals sign: (1, 2, -3) is term 1 + term 2 == term 3."""


def _threes(pool: _Pool) -> list[Equation]:
    """Return the triples of which two combine to the third, or to what rounding leaves of it."""
    h_T = pool.projected_T
    one_P, other_P = np.triu_indices(len(pool.terms), k=0 if pool.scale == "product" else 1)
    sums = _Sums.of(h_T[one_P] + h_T[other_P])
    pair_E, target_E = sums.near(h_T, np.minimum(pool.loose_T, 0.01 * sums.spread) + pool.tight)
    found = _kept(pool, np.stack([one_P[pair_E], other_P[pair_E], target_E], axis=1), (1, 1, -1))
    if pool.scale == "product":  # quotients that are rounded: means and rates
        one_Q, other_Q = np.nonzero(~np.eye(len(pool.terms), dtype=np.bool_))
        quotients = _Sums.of(h_T[one_Q] - h_T[other_Q])
        pair_E, target_E = quotients.near(h_T, np.where(pool.loose_T <= 0.01 * sums.spread, pool.loose_T, 0.0))
        found += _kept(pool, np.stack([one_Q[pair_E], other_Q[pair_E], target_E], axis=1), (1, -1, -1))
    return found


def _fours(pool: _Pool) -> list[Equation]:
    """Return the quadruples of which three combine to the fourth, or two to the same as the two others."""
    h_T, count = pool.projected_T, len(pool.terms)
    one_P, other_P = np.triu_indices(count, k=1)
    sums = _Sums.of(h_T[one_P] + h_T[other_P])
    third_T, found = np.arange(count), list[Equation]()
    loose_T = np.where(pool.loose_T <= 1e-4 * sums.spread, pool.loose_T, 0.0) + pool.tight
    for target in range(count):
        for sign in (1, -1) if pool.scale == "sum" else (1,):
            pair_E, third_E = sums.near(h_T[target] - sign * h_T, np.full(count, loose_T[target]))
            first_E, second_E = one_P[pair_E], other_P[pair_E]
            once_E = second_E < third_E  # of the forms that say the same, one
            if sign < 0:
                once_E = (first_E < third_T[third_E]) & (third_E < target) & (second_E != third_E)
            once_E &= (first_E != target) & (second_E != target) & (third_E != target)
            places_EK = np.stack([first_E, second_E, third_E, np.full(len(pair_E), target)], axis=1)[once_E]
            found += _kept(pool, places_EK, (1, 1, sign, -1))
    return found


@dataclass(frozen=True, slots=True)
class _Sums:
    """The projections of pairs (P,), in order."""

    order_P: IntArray
    sorted_P: FloatArray
    spread: float

    @classmethod
    def of(cls, sum_P: FloatArray) -> _Sums:
        order_P = np.argsort(sum_P, kind="stable")
        return cls(order_P, sum_P[order_P], float(sum_P.std()))

    def near(self, wanted_W: FloatArray, loose_W: FloatArray) -> tuple[IntArray, IntArray]:
        """Return the pairs that lie near a wanted number, and which number that is (E,), (E,); of too many, some."""
        low_W = np.searchsorted(self.sorted_P, wanted_W - loose_W)
        count_W = np.searchsorted(self.sorted_P, wanted_W + loose_W, side="right") - low_W
        count_W = np.minimum(count_W, _MOST_NEAR)
        wanted_E = np.repeat(np.arange(len(wanted_W)), count_W)
        within_E = np.arange(len(wanted_E)) - np.repeat(np.cumsum(count_W) - count_W, count_W)
        return self.order_P[low_W[wanted_E] + within_E], wanted_E


def _kept(pool: _Pool, places_EK: IntArray, signs_K: Sequence[int]) -> list[Equation]:
    held_EK = pool.holding(places_EK, signs_K)[:_MOST_CANDIDATES]
    return [tuple(int(place + 1) * sign for place, sign in zip(row, signs_K, strict=True)) for row in held_EK]


def _accept(search: Search, pool: _Pool, equation: Equation) -> None:
    above = sum(int(pool.date_T[abs(term) - 1]) * (1 if term > 0 else -1) for term in equation)
    if above != 0:  # days that are added to days are no date
        return
    target, combined = _product(pool, equation) if pool.scale == "product" else _sum(search, pool, equation)
    columns = frozenset((target.name, *columns_of(combined)))
    if search.accept_rule(f"{shown(target)} == {shown(combined)}") or columns in search.refuted:
        search.derived.add(target.name)


def _product(pool: _Pool, equation: Equation) -> tuple[Column, Expression]:
    """Write an equation of a product: the column that the others combine to, and how."""
    combined, *others, target = (pool.terms[abs(term) - 1] for term in equation)
    for sign, part in zip(equation[1:-1], others, strict=True):
        combined = Binary("*" if sign > 0 else "/", combined, part)
    assert isinstance(target, Column)
    return target, combined


def _sum(search: Search, pool: _Pool, equation: Equation) -> tuple[Column, Expression]:
    """Write an equation of a sum: the column that people would put alone, and what it equals.

    That is the number beside dates, else the one that the others add up to, of several the last.
    """
    terms = [pool.terms[abs(term) - 1] for term in equation]
    places = [search.schema.names.index(columns_of(term)[0]) for term in terms]
    dates = [bool(pool.date_T[abs(term) - 1]) for term in equation]

    def rank(place: int) -> tuple[bool, int]:
        accompanied = sum((equation[place] > 0) == (other > 0) for other in equation) > 1
        return (dates[place] if any(dates) else accompanied), -places[place]

    stated = min(range(len(equation)), key=rank)
    added = [place for place in range(len(equation)) if (equation[place] > 0) != (equation[stated] > 0)]
    taken = [place for place in range(len(equation)) if place not in (stated, *added)]
    first, *rest = sorted(added, key=places.__getitem__)
    combined = terms[first]
    for part in rest:
        combined = Binary("+", combined, terms[part])
    for part in sorted(taken, key=places.__getitem__):
        combined = Binary("-", combined, terms[part])
    target = terms[stated]
    if isinstance(target, Binary):  # a number of hours, say: its unit goes to the other side
        combined = Binary("*", combined, target.right)
        target = target.left
    assert isinstance(target, Column)
    return target, combined
