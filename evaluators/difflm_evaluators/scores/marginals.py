"""Shape error rho: how far each column's own distribution is from the real one.

rho (%) = 100 * mean over columns of the column's error:

- numeric (integers, decimals, date and time as seconds, length of free text): the two-sample Kolmogorov-Smirnov
  statistic of the values that are not missing, or the difference of the missing shares where that is larger. With no
  missing values, or equally many, this is 1 - KSComplement of SDMetrics, which ignores missing values.
- categorical, boolean, constant: the total variation distance, with "missing" as one more category (1 - TVComplement of
  SDMetrics on a column whose missing cells are spelled as a value of their own).

Lower is better; 0 means equal distributions. A column missing from one side altogether scores by its missing shares.
Streaming is exact (see `column_counts`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from difflm.telemetry import JSON
from difflm_evaluators.base import TEST_LABEL, Evaluation, Score
from difflm_evaluators.columns.column_counts import CategoryRuler, ColumnCounts, Ruler, count_column, fit_ruler
from difflm_evaluators.columns.columns import Columns, Kind
from difflm_evaluators.columns.streaming import NO_ROWS, fingerprint, require_same


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnError:
    """The error of one column, a share in [0, 1], and what it was measured by."""

    name: str
    error: float
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RealColumn:
    """One real column: how others are counted against it, its own counts, and the error of the real test split."""

    name: str
    kind: Kind
    ruler: Ruler
    counts: ColumnCounts
    test: ColumnError | None

    def error(self, other: ColumnCounts) -> ColumnError:
        """Compute the error as the module defines it; both sides have rows."""
        return _error(self.name, self.kind, self.ruler, self.counts, other)


def _error(name: str, kind: Kind, ruler: Ruler, real: ColumnCounts, other: ColumnCounts) -> ColumnError:
    distance = ruler.distance(real, other)
    if isinstance(ruler, CategoryRuler):
        return ColumnError(name=name, error=distance, method="total variation")
    difference = abs(real.missing_share - other.missing_share)
    method = "Kolmogorov-Smirnov" if kind == "numeric" else "Kolmogorov-Smirnov of text length"
    if difference > distance:
        method = "difference of missing shares"
    return ColumnError(name=name, error=max(distance, difference), method=method)


class StreamingMarginals:
    """The shape error of batches; exact, in memory proportional to the distinct values of the real columns."""

    def __init__(self, real: Mapping[str, RealColumn], fitted_to: str) -> None:
        self._real = real
        self._fitted_to = fitted_to
        self._counts = {name: column.ruler.empty() for name, column in real.items()}

    @classmethod
    def fit(cls, train: Columns, test: Columns | None) -> "StreamingMarginals":
        """Count the real tables; both have rows."""
        columns = {}
        for name, column in train.items():
            ruler = fit_ruler(column)
            counts = count_column(ruler, column)
            against = None
            if test is not None:
                against = _error(name, column.kind, ruler, counts, count_column(ruler, test[name]))
            columns[name] = RealColumn(name=name, kind=column.kind, ruler=ruler, counts=counts, test=against)
        return cls(columns, _fingerprint(columns))

    @property
    def rows(self) -> int:
        """Synthetic rows seen."""
        return next(iter(self._counts.values())).rows

    def fresh(self) -> "StreamingMarginals":
        """Make the same evaluator without the rows seen."""
        return StreamingMarginals(self._real, self._fitted_to)

    def update(self, batch: Columns) -> None:
        """Count a batch."""
        for name, column in self._real.items():
            column.ruler.update(batch[name], self._counts[name])

    def merge(self, other: "StreamingMarginals") -> None:
        """Take over the counts of `other`."""
        require_same("marginals", self._fitted_to, other._fitted_to)
        for name, counts in self._counts.items():
            counts.merge(other._counts[name])

    def errors(self) -> list[ColumnError]:
        """Compute the error of every column; there are rows."""
        return [column.error(self._counts[name]) for name, column in self._real.items()]

    def result(self) -> Evaluation:
        """Score the shape error of the rows seen, beside the real test split's own."""
        errors = self.errors() if self.rows else []
        test = [column.test.error for column in self._real.values() if column.test is not None]
        score = Score(
            name="shape_error",
            title="Shape error ρ",
            meaning="How far the distribution of each single column is from the real one, averaged over columns.",
            value=_rho([column.error for column in errors]) if errors else None,
            undefined_because=None if errors else NO_ROWS,
            unit="%",
            direction="lower",
            bounds=(0.0, 100.0),
            ideal=0.0,
            baseline=_rho(test) if test else None,
            baseline_label=TEST_LABEL if test else None,
        )
        columns: list[JSON] = [self._column_details(column) for column in errors]
        return Evaluation(name="marginals", scores=(score,), details={"columns": columns})

    def _column_details(self, column: ColumnError) -> dict[str, JSON]:
        real, counts = self._real[column.name], self._counts[column.name]
        return {
            "name": column.name,
            "kind": real.kind,
            "error": column.error,
            "baseline": real.test.error if real.test is not None else None,
            "method": column.method,
            "missing_real": real.counts.missing_share,
            "missing_synthetic": counts.missing_share,
            "picture": real.ruler.picture(real.counts, counts),
        }


def _rho(errors: list[float]) -> float:
    return 100 * float(np.mean(errors))


def _fingerprint(columns: Mapping[str, RealColumn]) -> str:
    parts = []
    for name, column in columns.items():
        ruler = column.ruler
        values = "\0".join(ruler.coder.labels) if isinstance(ruler, CategoryRuler) else ruler.values_K
        parts += [name, column.kind, values, column.counts.cells]
    return fingerprint(*parts)


def shape_error(real: Columns, other: Columns) -> tuple[float, list[ColumnError]]:
    """Compute rho in percent and the error of every column, of whole tables with rows."""
    streaming = StreamingMarginals.fit(real, None)
    streaming.update(other)
    errors = streaming.errors()
    return _rho([column.error for column in errors]), errors


def evaluate_marginals(synthetic: Columns, train: Columns, test: Columns | None) -> Evaluation:
    """Score the shape error of the synthetic table against the training split, beside the real test split's own."""
    streaming = StreamingMarginals.fit(train, test)
    streaming.update(synthetic)
    return streaming.result()
