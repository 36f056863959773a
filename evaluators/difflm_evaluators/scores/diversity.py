"""Diversity: does the synthetic table hold as many different things as the real one?

- category coverage (%): of each column's training categories, the share that occurs; mean over categorical columns
  (CategoryCoverage of SDMetrics).
- range coverage (%): 1 less what is missing of the training range at either end, as shares of it, not below 0; mean
  over numeric columns that vary (RangeCoverage of SDMetrics).
- entropy ratio: Shannon entropy of each column over that of the training column, categories as they are (unknown
  ones together as one, missing as one), numbers in 10 equal-width bins of the training range; mean over columns that
  vary in training. Below 1 the generator prefers what is common, down to 0 where it says one thing only.
- distinct rows (%): how many different rows there are among all. More rows repeat each other more often, so the real
  figure beside it is what a random sample of as many training rows has in expectation (rarefaction, Hurlbert 1971);
  where there are more synthetic rows than training rows, that of all training rows.

Free text takes part in distinct rows only. Streaming is exact but for distinct rows beyond a million (`distinct_rows`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from difflm.records.schema import RecordSchema
from difflm.telemetry import JSON
from difflm_evaluators.base import TEST_LABEL, Evaluation, Score
from difflm_evaluators.columns.coding import CategoryCoder, Coder, fit_coder
from difflm_evaluators.columns.columns import Column, Columns, IntArray
from difflm_evaluators.columns.row_keys import row_hashes
from difflm_evaluators.columns.streaming import NO_ROWS, fingerprint, require_same
from difflm_evaluators.columns.value_counts import DistinctRows


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """How a score is shown, and why it can be undefined."""

    title: str
    meaning: str
    unit: str
    undefined_because: str = ""


ABOUT: Mapping[str, About] = {
    "category_coverage": About(
        title="Categories covered",
        meaning="Share of a column's training categories that occur at all, averaged over categorical columns.",
        unit="%",
        undefined_because="no categorical column has a category in the real table",
    ),
    "range_coverage": About(
        title="Ranges covered",
        meaning="Share of a column's training range from the smallest to the largest number, averaged over columns.",
        unit="%",
        undefined_because="no numeric column varies in the real table",
    ),
    "entropy_ratio": About(
        title="Entropy ratio",
        meaning="Entropy of a column over that of the training column, averaged; below 1 the common is preferred.",
        unit="",
        undefined_because="no column but free text varies in the real table",
    ),
    "distinct_row_share": About(
        title="Distinct rows",
        meaning="Share of different rows among all rows; as many real rows repeat each other as often as shown.",
        unit="%",
    ),
}


@dataclass(slots=True, kw_only=True)
class Spread:
    """Running counts per code of one column, and its smallest and largest number."""

    counts: IntArray
    low: float = np.inf
    high: float = -np.inf

    def update(self, column: Column, coder: Coder) -> None:
        """Add rows."""
        self.counts += np.bincount(coder.code(column), minlength=coder.size)
        if column.kind == "numeric":
            self.low = min(self.low, float(np.min(column.present, initial=np.inf)))
            self.high = max(self.high, float(np.max(column.present, initial=-np.inf)))

    def merge(self, other: "Spread") -> None:
        """Take over the counts of `other`."""
        self.counts += other.counts
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def entropy(self) -> float:
        """Compute the Shannon entropy in nats."""
        shares = self.counts[self.counts > 0] / self.counts.sum()
        return float(-(shares * np.log(shares)).sum())


@dataclass(slots=True, kw_only=True)
class Variety:
    """Running spreads of the columns of one table, and its distinct rows."""

    spreads: Mapping[str, Spread]
    distinct: DistinctRows = field(default_factory=DistinctRows.empty)
    rows: int = 0

    @classmethod
    def empty(cls, coders: Mapping[str, Coder]) -> "Variety":
        """Start with nothing seen."""
        spreads = {name: Spread(counts=np.zeros(coder.size, dtype=np.int64)) for name, coder in coders.items()}
        return cls(spreads=spreads)

    def update(self, table: Columns, coders: Mapping[str, Coder], schema: RecordSchema) -> None:
        """Add rows."""
        for name, spread in self.spreads.items():
            spread.update(table[name], coders[name])
        self.distinct.update(row_hashes(table, schema))
        self.rows += len(next(iter(table.values())))

    def merge(self, other: "Variety") -> None:
        """Take over what `other` has seen."""
        for name, spread in self.spreads.items():
            spread.merge(other.spreads[name])
        self.distinct.merge(other.distinct)
        self.rows += other.rows


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDiversity:
    """Figures of one column; None where they are not defined for it."""

    name: str
    coverage: float | None
    entropy_ratio: float | None


def column_diversity(name: str, coder: Coder, real: Spread, other: Spread) -> ColumnDiversity:
    """Compute what `other` covers of `real`; `other` has rows."""
    if isinstance(coder, CategoryCoder):
        real_C, other_C = real.counts[: coder.missing], other.counts[: coder.missing]
        coverage = float((other_C > 0).mean()) if len(real_C) else None
    else:
        coverage = _range_coverage(real, other)
    entropy = real.entropy()
    ratio = other.entropy() / entropy if entropy > 0 else None
    return ColumnDiversity(name=name, coverage=coverage, entropy_ratio=ratio)


def _range_coverage(real: Spread, other: Spread) -> float | None:
    if not real.high > real.low:
        return None
    if other.high < other.low:
        return 0.0  # no number at all
    span = real.high / 4 - real.low / 4  # a quarter, lest it overflow
    below = max(0.0, (other.low / 4 - real.low / 4) / span)
    above = max(0.0, (real.high / 4 - other.high / 4) / span)
    return max(0.0, 1.0 - below - above)


def rarefied(distinct: DistinctRows, *, of: int, rows: int) -> float:
    """Compute the expected distinct rows in a random sample of `rows` of the `of` rows counted, without replacement."""
    from scipy.special import gammaln  # slow to import

    sizes, how_many = np.unique(distinct.counts_K, return_counts=True)
    left = of - sizes
    possible = left >= rows  # else every sample holds at least one of them
    never = np.zeros(len(sizes))
    never[possible] = np.exp(
        gammaln(left[possible] + 1) - gammaln(left[possible] - rows + 1) - gammaln(of + 1) + gammaln(of - rows + 1)
    )
    return float((how_many * (1 - never)).sum()) * distinct.distinct / len(distinct.counts_K)


class StreamingDiversity:
    """The diversity of batches."""

    def __init__(
        self, schema: RecordSchema, coders: Mapping[str, Coder], real: Variety, test: tuple[ColumnDiversity, ...] | None
    ) -> None:
        self._schema = schema
        self._coders = coders
        self._real = real
        self._test = test
        self._seen = Variety.empty(coders)

    @classmethod
    def fit(cls, train: Columns, test: Columns | None, schema: RecordSchema) -> "StreamingDiversity":
        """Count the real tables; both have rows."""
        coders = {name: fit_coder(column) for name, column in train.items() if column.kind != "text"}
        real = Variety.empty(coders)
        real.update(train, coders, schema)
        bare = cls(schema, coders, real, None)
        if test is None:
            return bare
        bare.update(test)
        return cls(schema, coders, real, bare.columns())

    @property
    def rows(self) -> int:
        """Synthetic rows seen."""
        return self._seen.rows

    def fresh(self) -> "StreamingDiversity":
        """Make the same evaluator without the rows seen."""
        return StreamingDiversity(self._schema, self._coders, self._real, self._test)

    def update(self, batch: Columns) -> None:
        """Count a batch."""
        self._seen.update(batch, self._coders, self._schema)

    def merge(self, other: "StreamingDiversity") -> None:
        """Take over what `other` has counted."""
        real = [one._real.distinct for one in (self, other)]
        require_same("diversity", *(fingerprint(one.hashes_K, one.counts_K) for one in real))
        self._seen.merge(other._seen)

    def columns(self) -> tuple[ColumnDiversity, ...]:
        """Compute the figures of every column; there are rows."""
        return tuple(
            column_diversity(name, coder, self._real.spreads[name], self._seen.spreads[name])
            for name, coder in self._coders.items()
        )

    def result(self) -> Evaluation:
        """Score coverage, entropy and distinct rows of what was seen."""
        columns = self.columns() if self.rows else ()
        scores = (
            self._score("category_coverage", columns),
            self._score("range_coverage", columns),
            self._score("entropy_ratio", columns),
            self._distinct_score(),
        )
        details: dict[str, JSON] = {
            "columns": [
                {"name": column.name, "coverage": column.coverage, "entropy_ratio": column.entropy_ratio}
                for column in columns
            ],
            "distinct_rows": self._seen.distinct.distinct,
            "distinct_rows_relative_error": self._seen.distinct.relative_error,
        }
        return Evaluation(name="diversity", scores=scores, details=details)

    def _score(self, name: str, columns: tuple[ColumnDiversity, ...]) -> Score:
        about = ABOUT[name]
        value, baseline = (self._mean(name, figures) for figures in (columns, self._test or ()))
        reason = about.undefined_because if self.rows else NO_ROWS
        share = about.unit == "%"
        return Score(
            name=name,
            title=about.title,
            meaning=about.meaning,
            value=value,
            undefined_because=None if value is not None else reason,
            unit=about.unit,
            direction="higher" if share else "target",
            bounds=(0.0, 100.0 if share else None),
            ideal=100.0 if share else 1.0,
            baseline=baseline,
            baseline_label=TEST_LABEL if baseline is not None else None,
        )

    def _mean(self, name: str, columns: tuple[ColumnDiversity, ...]) -> float | None:
        """Compute the mean over the columns that the score is defined for."""
        if name == "entropy_ratio":
            return _mean_of([column.entropy_ratio for column in columns])
        category = {key for key, coder in self._coders.items() if isinstance(coder, CategoryCoder)}
        wanted = category if name == "category_coverage" else set(self._coders) - category
        share = _mean_of([column.coverage for column in columns if column.name in wanted])
        return None if share is None else 100 * share

    def _distinct_score(self) -> Score:
        """Score distinct rows, beside what a random sample of as many training rows has in expectation."""
        seen, real = self._seen, self._real
        as_many = min(self.rows or real.rows, real.rows)
        baseline = min(100.0, 100 * rarefied(real.distinct, of=real.rows, rows=as_many) / as_many)
        about = ABOUT["distinct_row_share"]
        value = min(100.0, 100 * seen.distinct.distinct / seen.rows) if seen.rows else None
        return Score(
            name="distinct_row_share",
            title=about.title,
            meaning=about.meaning,
            value=value,
            undefined_because=NO_ROWS if value is None else None,
            unit=about.unit,
            direction="target",
            bounds=(0.0, 100.0),
            ideal=baseline,
            standard_error=seen.distinct.relative_error * value if value and not seen.distinct.complete else None,
            baseline=baseline,
            baseline_label=f"{as_many:,} real training rows",
        )


def _mean_of(figures: list[float | None]) -> float | None:
    defined = [figure for figure in figures if figure is not None]
    return float(np.mean(defined)) if defined else None


def evaluate_diversity(synthetic: Columns, train: Columns, test: Columns | None, schema: RecordSchema) -> Evaluation:
    """Score coverage, entropy and distinct rows of the synthetic table, beside real ones."""
    streaming = StreamingDiversity.fit(train, test, schema)
    streaming.update(synthetic)
    return streaming.result()
