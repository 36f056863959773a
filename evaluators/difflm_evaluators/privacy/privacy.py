"""Privacy: exact copies of training rows (`copies`) and how near the other rows are to them (`distances`).

Exact copies: synthetic rows that equal a training row in every column, free text included, numbers as printed.

The synthetic rows nearest to training rows, side by side with them.

This puts training rows into the report, so it happens on request only (`privacy.show_nearest`). Rows at distance 0 are
counted as copies already and come last: what differs in near ones shows more.
"""

import math

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, PositiveInt

from difflm.records.schema import RecordSchema
from difflm.telemetry import JSON
from difflm_evaluators.base import TEST_LABEL, Evaluation, Score
from difflm_evaluators.columns.columns import Columns, row_count, take_rows
from difflm_evaluators.columns.mixed_rows import mixed_rows
from difflm_evaluators.columns.row_keys import KnownRows
from difflm_evaluators.columns.streaming import NO_ROWS, fingerprint, require_same
from difflm_evaluators.privacy.distances import TIE, StreamingDistances
from difflm_evaluators.privacy.neighbours import nearest
from difflm_evaluators.privacy.rare_values import evaluate_rare_values

COPIED = (
    "{share:.1f} % of the synthetic rows are copies of training rows, of the real test rows only {test:.1f} %: "
    "treat the synthetic table like the training rows themselves. Few rows are learned by heart; give more."
)


class StreamingCopies:
    """Exact counts of copies, in memory proportional to the training rows."""

    def __init__(self, train: KnownRows, test: "StreamingCopies | None") -> None:
        self._train = train
        self._test = test
        self._rows = 0
        self._copies = 0

    @classmethod
    def fit(cls, train: Columns, test: Columns | None, schema: RecordSchema) -> "StreamingCopies":
        """Learn the training rows, and count the copies in the real test split."""
        known = KnownRows(train, schema)
        if test is None:
            return cls(known, None)
        real = cls(known, None)
        real.update(test)
        return cls(known, real)

    @property
    def rows(self) -> int:
        """Synthetic rows seen."""
        return self._rows

    def fresh(self) -> "StreamingCopies":
        """Make the same evaluator without the rows seen."""
        return StreamingCopies(self._train, self._test)

    def update(self, batch: Columns) -> None:
        """Count a batch."""
        copied_N = self._train.holds(batch)
        self._rows += len(copied_N)
        self._copies += int(copied_N.sum())

    def merge(self, other: "StreamingCopies") -> None:
        """Take over the counts of `other`."""
        require_same("copies", *(fingerprint(one._train.numbering.keys_K) for one in (self, other)))
        self._rows += other._rows
        self._copies += other._copies

    def result(self) -> Evaluation:
        """Share of copies among the rows seen, beside that of the real test split; a warning where it is far above."""
        test = self._test
        baseline = 100 * test._share() if test is not None else None
        copied = test is not None and self._rows > 0 and self._significantly_more_than(test)
        score = Score(
            name="exact_copy_share",
            title="Exact copies",
            meaning="Share of synthetic rows equal to some training row; unseen real rows have a few by chance.",
            value=100 * self._share() if self._rows else None,
            undefined_because=None if self._rows else NO_ROWS,
            unit="%",
            direction="lower",
            bounds=(0.0, 100.0),
            ideal=0.0,
            baseline=baseline,
            baseline_label=TEST_LABEL if baseline is not None else None,
            warning=COPIED.format(share=100 * self._share(), test=baseline) if copied else None,
        )
        details: dict[str, JSON] = {
            "exact_copies": self._copies,
            "exact_copies_test": test._copies if test is not None else None,
        }
        return Evaluation(name="copies", scores=(score,), details=details)

    def _share(self) -> float:
        return self._copies / self._rows

    def _significantly_more_than(self, test: "StreamingCopies") -> bool:
        """Tell whether the share is above the test split's by more than three standard errors of their difference."""
        pooled = (self._copies + test._copies) / (self._rows + test._rows)
        error = math.sqrt(pooled * (1 - pooled) * (1 / self._rows + 1 / test._rows))
        return self._share() - test._share() > 3 * error


class PrivacyConfig(BaseModel):
    """`max_queries` limits the synthetic and test rows looked up, drawn with `seed`; all training rows always count.

    `show_nearest` prints the training rows that synthetic rows come nearest to in the report, which then must be
    treated like the training rows themselves.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    seed: int = 0
    threads: PositiveInt = 2
    max_queries: PositiveInt = 50_000
    show_nearest: bool = False


class StreamingPrivacy:
    """Copies and distances of batches. Every row given is looked up: `max_queries` limits the test rows only."""

    def __init__(self, copies: StreamingCopies, distances: StreamingDistances) -> None:
        self._copies = copies
        self._distances = distances

    @classmethod
    def fit(
        cls, train: Columns, test: Columns | None, schema: RecordSchema, config: PrivacyConfig
    ) -> "StreamingPrivacy":
        """Index the training rows and measure the test split."""
        distances = StreamingDistances.fit(
            train, test, seed=config.seed, threads=config.threads, max_test_rows=config.max_queries
        )
        return cls(StreamingCopies.fit(train, test, schema), distances)

    @property
    def rows(self) -> int:
        """Synthetic rows seen."""
        return self._copies.rows

    def fresh(self) -> "StreamingPrivacy":
        """Make the same evaluator without the rows seen."""
        return StreamingPrivacy(self._copies.fresh(), self._distances.fresh())

    def update(self, batch: Columns) -> None:
        """Look up a batch."""
        self.update_parts(batch, batch)

    def update_parts(self, batch: Columns, sample: Columns) -> None:
        """Look for copies among all rows of `batch`, and measure the distances of `sample` only."""
        self._copies.update(batch)
        self._distances.update(sample)

    def merge(self, other: "StreamingPrivacy") -> None:
        """Take over what `other` has found."""
        self._copies.merge(other._copies)
        self._distances.merge(other._distances)

    def result(self) -> Evaluation:
        """DCR, DCR share, exact copies and NNDR."""
        copies, distances = self._copies.result(), self._distances.result()
        median, share, ratio = distances.scores
        scores = (median, share, *copies.scores, ratio)
        return Evaluation(name="privacy", scores=scores, details={**copies.details, **distances.details})


def evaluate_privacy(
    synthetic: Columns, train: Columns, test: Columns | None, schema: RecordSchema, config: PrivacyConfig
) -> Evaluation:
    """DCR, DCR share, exact copies, NNDR and rare values of the synthetic table, beside the real test split's own."""
    streaming = StreamingPrivacy.fit(train, test, schema, config)
    rows = len(next(iter(synthetic.values())))
    sample = synthetic
    if rows > config.max_queries:
        random = np.random.default_rng((config.seed, 1))  # not the draws of the test split
        sample = take_rows(synthetic, np.sort(random.choice(rows, size=config.max_queries, replace=False)))
    streaming.update_parts(synthetic, sample)
    near, rare = streaming.result(), evaluate_rare_values(sample, train, test, schema, seed=config.seed)
    return Evaluation(name=near.name, scores=(*near.scores, *rare.scores), details={**near.details, **rare.details})


SHOWN = 5


def evaluate_nearest(
    tables: tuple[pa.Table, pa.Table], columns: tuple[Columns, Columns], config: PrivacyConfig
) -> Evaluation:
    """Find the nearest pairs of (synthetic, training) rows that are not at distance 0, the nearest first; no scores."""
    synthetic, train = columns
    names = list(train)
    rows_N = np.arange(row_count(synthetic))
    if len(rows_N) > config.max_queries:
        random = np.random.default_rng((config.seed, 1))
        rows_N = np.sort(random.choice(len(rows_N), size=config.max_queries, replace=False))
    real, queries = mixed_rows(train, [take_rows(synthetic, rows_N)])
    if real.width == 0:
        return Evaluation(name="nearest", scores=(), details={"columns": list(names), "pairs": []})
    distance_N = nearest(queries, real, 1, threads=config.threads)[:, 0]
    pairs: list[JSON] = []
    apart_N = np.where(distance_N > TIE, distance_N, np.inf)
    for place in np.argsort(apart_N, kind="stable")[:SHOWN].tolist():
        apart_R = nearest(real, queries.take(np.array([place])), 1, threads=config.threads)[:, 0]
        twin = int(apart_R.argmin())
        cells = [_cells(table, row, names) for table, row in zip(tables, (int(rows_N[place]), twin), strict=True)]
        pairs.append({"distance": float(distance_N[place]), "synthetic": cells[0], "training": cells[1]})
    return Evaluation(name="nearest", scores=(), details={"columns": list(names), "pairs": pairs})


def _cells(table: pa.Table, row: int, names: list[str]) -> list[JSON]:
    """Return the values of one row as text, None where missing."""
    values = [table.column(name)[row].as_py() for name in names]
    return [None if value is None else str(value) for value in values]
