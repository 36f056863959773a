"""Trend error: how far the relation of each pair of columns is from the real one.

trend error (%) = 100 * mean over column pairs of

- numeric pair: |r_real - r_synthetic| / 2 with Pearson's r over the rows where both values are present
  (1 - CorrelationSimilarity of SDMetrics with its threshold at 0);
- otherwise: the total variation distance of the two contingency tables, numeric columns cut into 10 equal-width bins
  of the real range, the outer bins open, missing values a bin of their own (1 - ContingencySimilarity, threshold 0).

Free text takes no part. A numeric pair whose r is undefined in the real table (a constant column) is left out and
named. One whose r is undefined only in the synthetic table counts by its contingency tables instead: a generator that
collapses to a constant must not be spared by its own collapse. (SDMetrics raises an error there.)

Streaming is exact for contingency tables, and for r up to rounding (see `moments`). Numbers are taken from the median
of the real column on, which changes no r, so that dates and other large numbers lose nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from difflm.telemetry import JSON
from difflm_evaluators.base import TEST_LABEL, Evaluation, Score
from difflm_evaluators.columns.coding import CategoryCoder, Coder, fit_coder
from difflm_evaluators.columns.columns import Columns, FloatArray, IntArray
from difflm_evaluators.columns.contingency import CellCounts, JointCounts, Pair
from difflm_evaluators.columns.moments import PairMoments
from difflm_evaluators.columns.streaming import NO_ROWS, fingerprint, require_same

NO_CORRELATION = "the real columns have no correlation: one is constant, or they share under two rows"
LARGEST_ORIGIN = 1e300


@dataclass(frozen=True, slots=True, kw_only=True)
class PairError:
    """The error of one pair, a share in [0, 1], or None with the reason."""

    first: str
    second: str
    error: float | None
    method: str
    undefined_because: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RealPairs:
    """The real table: its coders, numeric columns and relations, and the errors of the real test split."""

    coders: Mapping[str, Coder]
    numeric: Mapping[str, float]
    """Where each numeric column is measured from."""
    cells: Mapping[Pair, CellCounts]
    moments: PairMoments
    left_out: tuple[str, ...]
    test: tuple[PairError, ...] | None
    fitted_to: str


@dataclass(slots=True, kw_only=True)
class Relations:
    """Running relations of the columns of one table: its contingency tables and its moments."""

    cells: Mapping[Pair, CellCounts]
    joint: JointCounts
    """Rows of the pairs with few cells that are not in `cells`, where only merged ones are."""
    moments: PairMoments
    rows: int = 0

    def update(self, columns: Columns, coders: Mapping[str, Coder], numeric: Mapping[str, float]) -> None:
        """Add the rows of `columns`."""
        codes: dict[str, IntArray] = {name: coder.code(columns[name]) for name, coder in coders.items()}
        self.joint.update(codes)
        for (first, second), cells in self.cells.items():
            if cells.kept_C is not None:
                cells.update(codes[first] * coders[second].size + codes[second])
        self.moments.merge(PairMoments.of(_numbers(columns, numeric)))
        self.rows += len(next(iter(columns.values())))

    def merge(self, other: "Relations") -> None:
        """Take over the rows of `other`, which may be read-only: it is when it came from another process."""
        for pair, cells in self.cells.items():
            cells.merge(other.cells[pair])
        for pair, rows_C in other.joint.totals():
            self.cells[pair].rows_C += rows_C
        self.moments.merge(other.moments)
        self.rows += other.rows

    def tables(self) -> dict[Pair, CellCounts]:
        """Count all rows by pair."""
        joint = dict(self.joint.totals())
        return {
            pair: replace(cells, rows_C=cells.rows_C + joint[pair]) if pair in joint else cells
            for pair, cells in self.cells.items()
        }


def _numbers(columns: Columns, numeric: Mapping[str, float]) -> FloatArray:
    parts = [columns[name].numbers_N - origin for name, origin in numeric.items()]
    return np.stack(parts).T if parts else np.zeros((0, 0))  # one column after the other in memory


def _errors(real: RealPairs, other: Relations) -> tuple[PairError, ...]:
    """Compute the error of every pair; `other` has rows."""
    errors = []
    for pair, cells in other.tables().items():
        method, error = "contingency", None
        if pair[0] in real.numeric and pair[1] in real.numeric:
            names = list(real.numeric)
            places = names.index(pair[0]), names.index(pair[1])
            r_real, r_other = (moments.correlation(*places) for moments in (real.moments, other.moments))
            if r_real is None:
                errors.append(_undefined(pair))
                continue
            method = "correlation" if r_other is not None else "contingency, for want of a synthetic correlation"
            error = abs(r_real - r_other) / 2 if r_other is not None else None
        if error is None:
            error = real.cells[pair].distance(cells)
        errors.append(PairError(first=pair[0], second=pair[1], error=error, method=method))
    return tuple(errors)


def _undefined(pair: Pair) -> PairError:
    reason = NO_CORRELATION
    return PairError(first=pair[0], second=pair[1], error=None, method="correlation", undefined_because=reason)


class StreamingPairs:
    """The trend error of batches, in memory of at most one number per real row and pair."""

    def __init__(self, real: RealPairs) -> None:
        self._real = real
        self._seen = _empty(real)

    @classmethod
    def fit(cls, train: Columns, test: Columns | None) -> "StreamingPairs":
        """Relate the columns of the real tables; both have rows."""
        left_out = tuple(name for name, column in train.items() if column.kind == "text")
        coders = {name: fit_coder(column) for name, column in train.items() if name not in left_out}
        numeric = {name: _origin(train[name].present) for name in coders if train[name].kind == "numeric"}
        codes = {name: coder.code(train[name]) for name, coder in coders.items()}
        cells = {
            (first, second): CellCounts.fit(
                codes[first] * coders[second].size + codes[second], size=coders[first].size * coders[second].size
            )
            for first, second in combinations(coders, 2)
        }
        moments = PairMoments.of(_numbers(train, numeric))
        fitted_to = _fingerprint(coders, cells, moments)
        bare = RealPairs(
            coders=coders,
            numeric=numeric,
            cells=cells,
            moments=moments,
            left_out=left_out,
            test=None,
            fitted_to=fitted_to,
        )
        if test is None:
            return cls(bare)
        relations = _empty(bare)
        relations.update(test, coders, numeric)
        return cls(replace(bare, test=_errors(bare, relations)))

    @property
    def rows(self) -> int:
        """Synthetic rows seen."""
        return self._seen.rows

    def fresh(self) -> "StreamingPairs":
        """Make the same evaluator without the rows seen."""
        return StreamingPairs(self._real)

    def update(self, batch: Columns) -> None:
        """Count a batch."""
        self._seen.update(batch, self._real.coders, self._real.numeric)

    def merge(self, other: "StreamingPairs") -> None:
        """Take over what `other` has counted."""
        require_same("pairs", self._real.fitted_to, other._real.fitted_to)
        self._seen.merge(other._seen)

    def errors(self) -> tuple[PairError, ...]:
        """Compute the error of every pair; there are rows."""
        return _errors(self._real, self._seen)

    def result(self) -> Evaluation:
        """Score the trend error of the rows seen, beside the real test split's own."""
        errors, test = self.errors() if self.rows else (), self._real.test
        value = mean_error(errors)
        reason = "no pair of columns has a defined relation in the real table" if self.rows else NO_ROWS
        baseline = mean_error(test) if test is not None else None
        score = Score(
            name="trend_error",
            title="Trend error",
            meaning="How far the relations between two columns are from the real ones, averaged over pairs.",
            value=value,
            unit="%",
            direction="lower",
            bounds=(0.0, 100.0),
            ideal=0.0,
            baseline=baseline,
            baseline_label=TEST_LABEL if baseline is not None else None,
            undefined_because=None if value is not None else reason,
        )
        pairs: list[JSON] = [
            {
                "first": pair.first,
                "second": pair.second,
                "error": pair.error,
                "baseline": test[index].error if test is not None else None,
                "method": pair.method,
                "undefined_because": pair.undefined_because,
            }
            for index, pair in enumerate(errors)
        ]
        undefined = sum(pair.error is None for pair in errors)
        left_out: list[JSON] = list(self._real.left_out)
        details: dict[str, JSON] = {"pairs": pairs, "undefined_pairs": undefined, "columns_left_out": left_out}
        return Evaluation(name="pairs", scores=(score,), details=details)


def _origin(present: FloatArray) -> float:
    """Compute the middle value; 0 where there is none, or where numbers are so large that differences overflow."""
    middle = float(np.sort(present)[len(present) // 2]) if len(present) else 0.0
    return middle if abs(middle) < LARGEST_ORIGIN else 0.0


def mean_error(errors: tuple[PairError, ...]) -> float | None:
    """Return the trend error in percent, None without a defined pair."""
    defined = [pair.error for pair in errors if pair.error is not None]
    return 100 * float(np.mean(defined)) if defined else None


def _empty(real: RealPairs) -> Relations:
    cells = {pair: counts.empty() for pair, counts in real.cells.items()}
    joint = JointCounts(
        sizes={name: coder.size for name, coder in real.coders.items()},
        pairs=frozenset(pair for pair, counts in cells.items() if counts.kept_C is None),
    )
    return Relations(cells=cells, joint=joint, moments=PairMoments.empty(len(real.numeric)))


def _fingerprint(coders: Mapping[str, Coder], cells: Mapping[Pair, CellCounts], moments: PairMoments) -> str:
    parts: list[str | FloatArray | IntArray] = [moments.count_MM, moments.mean_MM, moments.squares_MM]
    for name, coder in coders.items():
        parts += [name, "\0".join(coder.labels) if isinstance(coder, CategoryCoder) else coder.edges]
    parts += [counts.rows_C for counts in cells.values()]
    return fingerprint(*parts)


def evaluate_pairs(synthetic: Columns, train: Columns, test: Columns | None) -> Evaluation:
    """Score the trend error of the synthetic table against the training split, beside the real test split's own."""
    streaming = StreamingPairs.fit(train, test)
    streaming.update(synthetic)
    return streaming.result()
