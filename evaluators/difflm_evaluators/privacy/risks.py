"""The risk of an attack beside its control, and the columns that attacks see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from difflm.telemetry import JSON
from difflm_evaluators.columns.columns import Column, Columns, FloatArray, category_codes
from difflm_evaluators.privacy.membership import NORMAL_95

MOST_CONTROL: Final = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often an attack succeeds, and half the width of its 95 % interval."""

    value: float
    error: float
    attacks: int

    @classmethod
    def of(cls, hits: float, attacks: int) -> Rate:
        """Estimate a rate as Wilson does (1927, J. Am. Stat. Assoc. 22:209-212)."""
        square = NORMAL_95**2
        scale = attacks + square
        spread = math.sqrt(max(0.0, hits * (attacks - hits) / attacks) + square / 4)
        return cls(value=(hits + square / 2) / scale, error=NORMAL_95 / scale * spread, attacks=attacks)

    @classmethod
    def of_rows(cls, shares_A: FloatArray, tries: int) -> Rate:
        """Estimate a rate from the share of hits of every row, each of so many tries that depend on each other."""
        rows = len(shares_A)
        plain = cls.of(float(shares_A.sum()) * tries, rows * tries)
        error = NORMAL_95 * float(shares_A.std(ddof=1)) / math.sqrt(rows)
        return cls(value=plain.value, error=max(error, plain.error), attacks=rows * tries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """(attack - control) / (1 - control): what an attack gains by a row having been learned from."""

    attack: Rate
    control: Rate

    @property
    def measured(self) -> bool:
        """Whether the control leaves enough to be found; else a few rows more or less make any risk of it."""
        return self.control.value <= MOST_CONTROL

    @property
    def value(self) -> float:
        """The risk, cut to [0, 1]."""
        return _cut(self._excess)

    @property
    def error(self) -> float:
        """Half the width of the 95 % interval, before it is cut."""
        left = self._left
        return math.hypot(self.attack.error / left, self.control.error * (self.attack.value - 1) / left**2)

    def interval(self, width: float = 1.0) -> tuple[float, float]:
        """Return the 95 % confidence interval, `width` times as wide, cut to [0, 1]."""
        return _cut(self._excess - width * self.error), _cut(self._excess + width * self.error)

    @property
    def _left(self) -> float:
        return max(1 - self.control.value, 1e-9)

    @property
    def _excess(self) -> float:
        return (self.attack.value - self.control.value) / self._left

    def to_json(self) -> dict[str, JSON]:
        """Return the rates behind the risk."""
        rates: dict[str, JSON] = {"attack": self.attack.value, "control": self.control.value}
        return {**rates, "attacks": self.attack.attacks, "risk": self.value, "interval": list[JSON](self.interval())}


def _cut(value: float) -> float:
    return min(1.0, max(0.0, value))


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackedColumn:
    """A column in all three tables: numbers, NaN where missing, or codes of categories and texts, missing one of them.

    Texts have no distance.
    """

    name: str
    numeric: bool
    distance: bool
    synthetic_R: FloatArray
    train_N: FloatArray
    test_M: FloatArray

    @property
    def width(self) -> float:
        """How far apart the middle 95 % of the synthetic numbers are, 0 where there are none."""
        present = self.synthetic_R[~np.isnan(self.synthetic_R)]
        low, high = np.quantile(present, [0.025, 0.975]) if len(present) else (0.0, 0.0)
        return float(high - low)


def attacked_columns(synthetic: Columns, train: Columns, test: Columns) -> list[AttackedColumn]:
    """Read all columns but those that are the same in every training row, which tell nothing."""
    found = []
    for name, column in train.items():
        numbers_R, numbers_N, numbers_M = _numbers([synthetic[name], column, test[name]])
        present = numbers_N[~np.isnan(numbers_N)]
        if len(present) and not (present == present[0]).all():
            found.append(
                AttackedColumn(
                    name=name,
                    numeric=column.kind == "numeric",
                    distance=column.kind != "text",
                    synthetic_R=numbers_R,
                    train_N=numbers_N,
                    test_M=numbers_M,
                )
            )
    return found


def _numbers(columns: Sequence[Column]) -> list[FloatArray]:
    if columns[1].kind == "numeric":
        return [column.numbers_N for column in columns]
    return [code_N.astype(np.float64) for code_N in category_codes(*columns)[1]]
