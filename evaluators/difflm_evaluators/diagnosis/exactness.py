"""What a table has exactly: numbers of two columns that are equal, and numbers that many rows share (atoms).

Both are found in the training rows, and counted there and in other tables. They are what a tree finds at once when a
generator blurs them, and what averages over columns and pairs do not show.

- Equal columns: rows in which two numeric columns hold the same number, zeros not counted, in at least LEAST_EQUAL of
  the rows, in so many more than if the two columns had nothing to do with each other (`chance`), and with at least
  LEAST_VALUES different numbers: codes from 1 to 3 are often equal and mean nothing by it.
- Atoms: values of a numeric column in at least LEAST_ATOM of the rows, LEAST_ROWS of them, and MANIFOLD times as many
  as the column's middle value has. So neither a small table's repeats nor all ages of a census are atoms.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from difflm_evaluators.columns.columns import Columns, FloatArray, draw_rows

LEAST_EQUAL = 0.01
LEAST_VALUES = 10
LEAST_ATOM = 0.005
LEAST_ROWS = 10
MANIFOLD = 10
ATOMS_PER_COLUMN = 10
SEARCHED_ROWS = 50_000
"""Among so many training rows, drawn with a seed, equal columns are looked for; the rates are of all rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualColumns:
    """Shares of rows in which two columns are equal and not zero: real, by chance, and in other tables by name."""

    first: str
    second: str
    real: float
    chance: float
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Atom:
    """A value of a column that many rows share: its share of the real rows, and of other tables' by name."""

    column: str
    value: float
    real: float
    shares: Mapping[str, float]


def equal_columns(train: Columns, tables: Mapping[str, Columns], *, seed: int) -> tuple[EqualColumns, ...]:
    """Find the columns that are often equal, those first whose share differs most between training and a table."""
    searched = draw_rows(train, SEARCHED_ROWS, np.random.default_rng(seed))
    found = []
    for first, second in combinations((name for name, column in train.items() if column.kind == "numeric"), 2):
        equal_N = _equal(searched, first, second)
        if equal_N.mean() < LEAST_EQUAL / 2 or len(np.unique(searched[first].numbers_N[equal_N])) < LEAST_VALUES:
            continue
        real, chance = float(_equal(train, first, second).mean()), _chance(train, first, second)
        if real >= LEAST_EQUAL and real - chance >= LEAST_EQUAL:
            shares = {name: float(_equal(table, first, second).mean()) for name, table in tables.items()}
            found.append(EqualColumns(first=first, second=second, real=real, chance=chance, shares=shares))
    return tuple(sorted(found, key=_difference, reverse=True))


def _equal(table: Columns, first: str, second: str) -> npt.NDArray[np.bool_]:
    one_N, other_N = table[first].numbers_N, table[second].numbers_N
    equal_N: npt.NDArray[np.bool_] = (one_N == other_N) & (one_N != 0)
    return equal_N


def _chance(table: Columns, first: str, second: str) -> float:
    """Compute how often they would be equal if they were independent: the sum of p(v) q(v) over v other than zero."""
    (values_K, shares_K), (others_L, shares_L) = (_shares(table[name].numbers_N) for name in (first, second))
    common, places_K, places_L = np.intersect1d(values_K, others_L, assume_unique=True, return_indices=True)
    return float((shares_K[places_K] * shares_L[places_L])[common != 0].sum())


def _shares(numbers_N: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the distinct numbers, and the share of the rows that each has; missing ones are none."""
    values_K, rows_K = np.unique(numbers_N[~np.isnan(numbers_N)], return_counts=True)
    return values_K, rows_K / len(numbers_N)


def atoms(train: Columns, tables: Mapping[str, Columns]) -> tuple[Atom, ...]:
    """Find the atoms of every numeric column, those first whose share differs most between training and a table."""
    found = [
        Atom(
            column=name,
            value=value,
            real=share,
            shares={role: float((table[name].numbers_N == value).mean()) for role, table in tables.items()},
        )
        for name, column in train.items()
        if column.kind == "numeric"
        for value, share in _column_atoms(column.numbers_N)
    ]
    return tuple(sorted(found, key=_difference, reverse=True))


def _column_atoms(numbers_N: FloatArray) -> Iterator[tuple[float, float]]:
    values_K, shares_K = _shares(numbers_N)
    if len(values_K) < 2:
        return
    least = max(LEAST_ATOM, LEAST_ROWS / len(numbers_N), MANIFOLD * float(np.median(shares_K)))
    for place in np.argsort(-shares_K, kind="stable")[:ATOMS_PER_COLUMN].tolist():
        if shares_K[place] >= least:
            yield float(values_K[place]), float(shares_K[place])


def _difference(found: EqualColumns | Atom) -> float:
    return max((abs(share - found.real) for share in found.shares.values()), default=0.0)
