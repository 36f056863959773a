"""Singling out: predicates that are true of one synthetic row, and whether they are true of exactly one real row.

A predicate has a condition on one column, or on three, each made of a value of one synthetic row: numbers from the
median up are `>=`, others `<=`, so that few rows fulfil them; categories and texts are equal, missing is missing.

A predicate hits where it is true of exactly one of all real rows, those of both splits. Of rows that nobody learned
from, that one is a training row as often as training rows are among all; so hits on test rows, times training rows by
test rows, are what chance gives on training rows, whatever the sizes of the splits. (Counting in each split by itself
has to carry over how often chance hits to another number of rows, which goes wrong where that is many times as large.)
Several predicates may hit the same row, of which one with odd values is hit often: errors count rows, not hits.

Shapes: Q predicates, K conditions, C columns, N rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from difflm_evaluators.columns.columns import FloatArray, IntArray
from difflm_evaluators.privacy.membership import NORMAL_95
from difflm_evaluators.privacy.risks import AttackedColumn, Rate, Risk

CONDITIONS: Final = 3
_TRIES: Final = 20
"""Candidates for each predicate that is wanted."""
_BLOCK_CELLS: Final = 2**21
_EQUAL, _FROM, _TO, _MISSING = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Predicates:
    """All of K conditions: the value of a column is equal, from, or up to a number, or is missing."""

    column_QK: IntArray
    kind_QK: IntArray
    value_QK: FloatArray

    def __len__(self) -> int:
        return len(self.column_QK)

    def take(self, chosen: IntArray | npt.NDArray[np.bool_]) -> _Predicates:
        return _Predicates(
            column_QK=self.column_QK[chosen], kind_QK=self.kind_QK[chosen], value_QK=self.value_QK[chosen]
        )

    def joined(self, other: _Predicates) -> _Predicates:
        """Return these and others, each once."""
        pairs = ((self.column_QK, other.column_QK), (self.kind_QK, other.kind_QK), (self.value_QK, other.value_QK))
        columns, kinds, values = (np.concatenate(pair) for pair in pairs)
        keys = np.concatenate([columns, kinds, np.nan_to_num(values, nan=0.0)], axis=1)
        _, first = np.unique(keys, axis=0, return_index=True)
        return _Predicates(column_QK=columns, kind_QK=kinds, value_QK=values).take(np.sort(first))

    def hits(self, table_CN: FloatArray) -> IntArray:
        """Return the one row, (Q,), of which a predicate is true; -1 where there is none or more than one."""
        found = [np.zeros(0, dtype=np.int64)]
        step = max(1, _BLOCK_CELLS // max(1, table_CN.shape[1]))
        for first in range(0, len(self), step):
            part = self.take(np.arange(first, min(first + step, len(self))))
            true_QN = np.ones((len(part), table_CN.shape[1]), dtype=np.bool_)
            for place in range(part.column_QK.shape[1]):
                _fulfilled(table_CN, part, place, true_QN)
            found.append(np.where(true_QN.sum(axis=1) == 1, true_QN.argmax(axis=1), -1))
        return np.concatenate(found)


def _fulfilled(table_CN: FloatArray, part: _Predicates, place: int, true_QN: npt.NDArray[np.bool_]) -> None:
    """Leave true what the conditions at this place are true of."""
    for kind in range(4):
        chosen = np.flatnonzero(part.kind_QK[:, place] == kind)
        values_QN, value_Q1 = table_CN[part.column_QK[chosen, place]], part.value_QK[chosen, place][:, None]
        if kind == _MISSING:
            true_QN[chosen] &= np.isnan(values_QN)
        elif kind == _EQUAL:
            true_QN[chosen] &= values_QN == value_Q1
        else:
            true_QN[chosen] &= values_QN >= value_Q1 if kind == _FROM else values_QN <= value_Q1


def singling_out(
    columns: Sequence[AttackedColumn], wanted: int, max_rows: int, random: np.random.Generator
) -> tuple[Risk, int]:
    """Return the risk and how many predicates it is of: at most `wanted`, fewer where few single out.

    Of both real tables at most `max_rows` rows are looked at. The risk of no predicate is that of no attack.
    """
    synthetic_CR = np.stack([column.synthetic_R for column in columns])
    train_CN = _sample(np.stack([column.train_N for column in columns]), max_rows, random)
    test_CM = _sample(np.stack([column.test_M for column in columns]), max_rows, random)
    predicates = _single(synthetic_CR, columns, wanted // 2, random)
    for _ in range(_TRIES):
        if len(predicates) >= wanted:
            break
        drawn = _drawn(synthetic_CR, columns, wanted, random)
        predicates = predicates.joined(drawn.take(drawn.hits(synthetic_CR) >= 0))
    predicates = predicates.take(np.arange(min(wanted, len(predicates))))
    rows, ratio = train_CN.shape[1], train_CN.shape[1] / test_CM.shape[1]
    hit_Q = predicates.hits(np.concatenate([train_CN, test_CM], axis=1))
    hit_H, attacks = hit_Q[hit_Q >= 0], max(1, len(predicates))
    attack = Rate(
        value=int((hit_H < rows).sum()) / attacks, error=_error(hit_H[hit_H < rows], attacks), attacks=attacks
    )
    # By chance any row that was hit may have been one of the test split's: few of its rows say little.
    error = math.sqrt(ratio) * _error(hit_H, attacks)
    control = Rate(value=min(1.0, ratio * int((hit_H >= rows).sum()) / attacks), error=error, attacks=attacks)
    return Risk(attack=attack, control=control), len(predicates)


def _error(hit_H: IntArray, attacks: int) -> float:
    """Return the error of the rate of hits on these rows; at least that of one hit."""
    _, times = np.unique(hit_H, return_counts=True)
    return NORMAL_95 * math.sqrt(max(1, int((times**2).sum()))) / attacks


def _sample(table_CN: FloatArray, most: int, random: np.random.Generator) -> FloatArray:
    rows = table_CN.shape[1]
    return table_CN if rows <= most else table_CN[:, np.sort(random.choice(rows, size=most, replace=False))]


def _single(
    synthetic_CR: FloatArray, columns: Sequence[AttackedColumn], most: int, random: np.random.Generator
) -> _Predicates:
    """List predicates on one column that single out: its ends, and categories and texts that one row has."""
    found: list[tuple[int, int, float]] = []
    for place, (column, values_R) in enumerate(zip(columns, synthetic_CR, strict=True)):
        if np.isnan(values_R).sum() == 1:
            found.append((place, _MISSING, np.nan))
        values, counts = np.unique(values_R[~np.isnan(values_R)], return_counts=True)
        if column.numeric:
            ends = ((_TO, 0), (_FROM, -1)) if len(values) else ()
            found += [(place, kind, float(values[end])) for kind, end in ends if counts[end] == 1]
        else:
            found += [(place, _EQUAL, value) for value in values[counts == 1].tolist()]
    chosen = [found[index] for index in random.permutation(len(found))[:most]]
    wide = min(CONDITIONS, len(columns))
    parts = [np.array([one[part] for one in chosen]).reshape(-1, 1).repeat(wide, axis=1) for part in range(3)]
    return _Predicates(
        column_QK=parts[0].astype(np.int64), kind_QK=parts[1].astype(np.int64), value_QK=parts[2].astype(np.float64)
    )


def _drawn(
    synthetic_CR: FloatArray, columns: Sequence[AttackedColumn], count: int, random: np.random.Generator
) -> _Predicates:
    """Draw predicates on three columns, each from the values of one row."""
    wide = min(CONDITIONS, len(columns))
    row_Q1 = random.integers(0, synthetic_CR.shape[1], size=(count, 1))
    column_QK = np.sort(random.permuted(np.tile(np.arange(len(columns)), (count, 1)), axis=1)[:, :wide], axis=1)
    value_QK = synthetic_CR[column_QK, row_Q1]
    numeric_C = np.array([column.numeric for column in columns])
    medians = [
        np.nanmedian(values) if numeric and not np.isnan(values).all() else 0.0
        for numeric, values in zip(numeric_C, synthetic_CR, strict=True)
    ]
    ends_QK = np.where(value_QK > np.array(medians)[column_QK], _FROM, _TO)
    kind_QK = np.where(numeric_C[column_QK], ends_QK, _EQUAL)
    return _Predicates(column_QK=column_QK, kind_QK=np.where(np.isnan(value_QK), _MISSING, kind_QK), value_QK=value_QK)
