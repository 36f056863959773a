"""Tables as matrices: features and targets for boosted trees, and rows as points of a Euclidean space.

Features and targets for the boosted trees: tables as float32 matrices, encoded by what the real training split
holds.

Numbers stay as they are, missing ones NaN (which XGBoost handles). Categories with up to 64 values in the real
training split become one-hot columns, missing being a category when it occurs there; larger ones become one column of
codes that XGBoost treats as categorical. A category unknown to the real training split is all zeros, or NaN. Free
text takes no part.

Rows as points of a Euclidean space, for scores that ask what lies within a ball.

- A number is scaled by the training range to [0, 1], cut far outside of it; a missing one is put at the training mean,
  and where any table has missing numbers a further dimension is 1 for them and 0 for the others.
- A category is a one-hot vector, missing being a category: two different ones are at distance sqrt(2). The 63 most
  frequent categories of the training split have a dimension of their own, all others share one.
- Free text takes no part.

Shapes: N rows, D dimensions.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from difflm_evaluators.columns.columns import Column, Columns, FloatArray, category_codes
from difflm_evaluators.columns.labels import Labels
from difflm_evaluators.columns.mixed_rows import OUTERMOST

Float32Array = npt.NDArray[np.float32]
MAX_ONE_HOT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureEncoder:
    """Column order and known categories; `feature_types` are XGBoost's: "q" for numbers, "c" for category codes.

    `sources` names the column that each feature comes from.
    """

    numeric: tuple[str, ...]
    categories: dict[str, tuple[str | None, ...]]
    feature_types: tuple[str, ...]
    sources: tuple[str, ...]

    @classmethod
    def fit(cls, train: Columns, *, leave_out: str | None = None) -> "FeatureEncoder":
        """Read the categories of the real training split; `leave_out` is the target, None keeps every column."""
        numeric = tuple(name for name, column in train.items() if column.kind == "numeric" and name != leave_out)
        categories = {
            name: tuple(category_codes(column)[0])
            for name, column in train.items()
            if column.kind == "category" and name != leave_out
        }
        types, sources = ["q"] * len(numeric), list(numeric)
        for name, known in categories.items():
            one_hot = len(known) <= MAX_ONE_HOT
            types += ["q"] * len(known) if one_hot else ["c"]
            sources += [name] * (len(known) if one_hot else 1)
        return cls(numeric=numeric, categories=categories, feature_types=tuple(types), sources=tuple(sources))

    def matrix(self, table: Columns) -> Float32Array:
        """Return the features, (rows, features) float32."""
        largest = np.finfo(np.float32).max
        parts = [np.clip(table[name].numbers_N, -largest, largest).astype(np.float32)[:, None] for name in self.numeric]
        parts += [self._encode(table[name], known) for name, known in self.categories.items()]
        return np.concatenate(parts, axis=1)

    @staticmethod
    def _encode(column: Column, known: Sequence[str | None]) -> Float32Array:
        numbering = {label: code for code, label in enumerate(known)}
        code_N = Labels.of(column.labels_N).lookup(lambda label: numbering.get(label, -1))
        if len(known) > MAX_ONE_HOT:
            return np.where(code_N < 0, np.nan, code_N).astype(np.float32)[:, None]
        one_hot = np.zeros((len(code_N), len(known)), dtype=np.float32)
        rows_N = np.flatnonzero(code_N >= 0)
        one_hot[rows_N, code_N[rows_N]] = 1
        return one_hot


def target_labels(column: Column) -> list[str | None]:
    """Return the classes as text, None where missing; a numeric target's classes are its distinct numbers."""
    if column.kind == "category":
        return list(column.labels_N)
    return [None if np.isnan(value) else repr(value) for value in column.numbers_N.tolist()]


MAX_OWN_DIMENSIONS = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberScale:
    """`low` and `high` of the training split, the scaled mean `centre`, and whether missing numbers need a place."""

    low: float
    high: float
    centre: float
    has_missing: bool

    @classmethod
    def fit(cls, train: Column, has_missing: bool) -> "NumberScale":
        """Read the range of a training column; that of one without numbers is [0, 1]."""
        present = train.present if len(train.present) else np.array([0.0, 1.0])
        unit = cls(low=float(present.min()), high=float(present.max()), centre=0.0, has_missing=has_missing)
        return cls(low=unit.low, high=unit.high, centre=float(unit.scaled(present).mean()), has_missing=has_missing)

    def scaled(self, numbers_N: FloatArray) -> FloatArray:
        """Return numbers in units of the training range, NaN where missing."""
        shrink = 1.0 if np.isfinite(self.high - self.low) else 0.25  # lest the range overflow
        span = (self.high * shrink - self.low * shrink) or 1.0
        with np.errstate(over="ignore"):  # what overflows is cut at OUTERMOST
            return np.clip((numbers_N * shrink - self.low * shrink) / span, -OUTERMOST, OUTERMOST)

    def points(self, numbers_N: FloatArray) -> Float32Array:
        """Return points, (N, 1) float32, or (N, 2) where missing numbers need a place."""
        values_N = self.scaled(numbers_N)
        if not self.has_missing:
            return values_N[:, None].astype(np.float32)
        missing_N = np.isnan(values_N)
        return np.stack([np.where(missing_N, self.centre, values_N), missing_N], axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """The scale of every number, and the dimension of every category that has its own."""

    numbers: Mapping[str, NumberScale]
    categories: Mapping[str, Mapping[str | None, int]]

    @classmethod
    def fit(cls, train: Columns, others: Sequence[Columns]) -> "Embedding":
        """Read ranges and categories of `train`; `others` are read for missing numbers only."""
        numbers, categories = {}, {}
        for name, column in train.items():
            if column.kind == "numeric":
                missing = any(bool(table[name].missing_N.any()) for table in (train, *others))
                numbers[name] = NumberScale.fit(column, missing)
            elif column.kind == "category":
                frequent = Counter(column.labels_N).most_common(MAX_OWN_DIMENSIONS)
                categories[name] = {label: place for place, (label, _) in enumerate(frequent)}
        return cls(numbers=numbers, categories=categories)

    @property
    def width(self) -> int:
        """Dimensions D."""
        numbers = sum(2 if scale.has_missing else 1 for scale in self.numbers.values())
        return numbers + sum(len(places) + 1 for places in self.categories.values())

    def points(self, table: Columns) -> Float32Array:
        """Return points, (N, D) float32; ValueError without a dimension."""
        parts = [scale.points(table[name].numbers_N) for name, scale in self.numbers.items()]
        for name, places in self.categories.items():
            place_N = np.array([places.get(label, len(places)) for label in table[name].labels_N], dtype=np.int64)
            parts.append(np.eye(len(places) + 1, dtype=np.float32)[place_N])
        return np.concatenate(parts, axis=1)
