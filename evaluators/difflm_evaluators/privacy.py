"""Privacy: exact copies of training rows (`copies`) and how near the other rows are to them (`distances`)."""

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt

from difflm.records.schema import RecordSchema
from difflm_evaluators.base import Evaluation
from difflm_evaluators.columns import Columns, take_rows
from difflm_evaluators.copies import StreamingCopies
from difflm_evaluators.distances import StreamingDistances


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
            train, test, seed=config.seed, threads=config.threads, most_test_rows=config.max_queries
        )
        return cls(StreamingCopies.fit(train, test, schema), distances)

    @property
    def rows(self) -> int:
        """Synthetic rows seen."""
        return self._copies.rows

    def fresh(self) -> "StreamingPrivacy":
        """The same without the rows seen."""
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
    """DCR, DCR share, exact copies and NNDR of the synthetic table, beside the real test split's own."""
    streaming = StreamingPrivacy.fit(train, test, schema, config)
    rows = len(next(iter(synthetic.values())))
    sample = synthetic
    if rows > config.max_queries:
        random = np.random.default_rng((config.seed, 1))  # not the draws of the test split
        sample = take_rows(synthetic, np.sort(random.choice(rows, size=config.max_queries, replace=False)))
    streaming.update_parts(synthetic, sample)
    return streaming.result()
