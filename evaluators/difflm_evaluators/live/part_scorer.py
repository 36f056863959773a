"""The scorer of a dataset's parts: streaming evaluators that read committed parts from wherever they were written.

Every row counts in every score, but for distances, which cost a thousand times more per row: they are looked up for a
sample whose rows are chosen by the part alone. So scores depend on the parts and their order, and on nothing else.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from difflm.artifacts.dataset import Dataset, Range
from difflm.records.kinds.columns import arrow_schema, conform_table
from difflm.records.schema import read_schema
from difflm_evaluators.columns.columns import read_columns
from difflm_evaluators.columns.real_tables import read_real
from difflm_evaluators.columns.streaming import StreamingSuite
from difflm_evaluators.live.live import Scored
from difflm_evaluators.privacy.distances import StreamingDistances
from difflm_evaluators.privacy.privacy import StreamingCopies
from difflm_evaluators.scores.diversity import StreamingDiversity
from difflm_evaluators.scores.marginals import StreamingMarginals
from difflm_evaluators.scores.pairs import StreamingPairs
from difflm_evaluators.scores.validity import StreamingValidity

Suites = tuple[StreamingSuite, StreamingSuite]
"""What sees every row, and what sees a sample."""


class PartScorer:
    """Reads parts and scores them beside the real tables in the folder `real` (as `write_real` left it).

    `share` is that of the rows whose distances are looked up; about so many are drawn of each part, with `seed`.
    """

    def __init__(self, dataset: Dataset, real: Path, *, share: float, seed: int) -> None:
        self._dataset = dataset
        self._schema = schema = read_schema(real)
        self._share, self._seed = share, seed
        real_train, real_holdout = read_real(real)
        train = read_columns(real_train, schema, "real training")
        holdout = read_columns(real_holdout, schema, "holdout") if real_holdout is not None else None
        self._all = StreamingSuite(
            schema,
            [
                StreamingValidity.fit(schema, holdout),
                StreamingMarginals.fit(train, holdout),
                StreamingPairs.fit(train, holdout),
                StreamingDiversity.fit(train, holdout, schema),
                StreamingCopies.fit(train, holdout, schema),
            ],
        )
        most = real_holdout.num_rows if real_holdout is not None else 1
        distances = StreamingDistances.fit(train, holdout, seed=seed, threads=1, max_test_rows=min(most, 10_000))
        self._sampled = StreamingSuite(schema, [distances])

    def take(self, parts: Sequence[Range]) -> int:
        """Read these parts, in this order; the rows seen so far.

        Raises:
            StorageError: a part cannot be read.
        """
        for start, stop in parts:
            rows = self._dataset.read_part(start, stop, arrow_schema(self._schema))
            table = conform_table(rows, self._schema)
            self._all.update(table)
            chosen_N = np.random.default_rng((self._seed, start)).random(table.num_rows) < self._share
            self._sampled.update(table.filter(chosen_N))
        return self._all.rows

    def seen(self) -> Suites:
        """Return what was counted so far, for another scorer of the same real tables."""
        return self._all, self._sampled

    def score(self, *others: Suites) -> Scored:
        """Score all rows seen here and by others."""
        merged, sampled = (suite.fresh() for suite in self.seen())
        for rows, sample in (self.seen(), *others):
            merged.merge(rows)
            sampled.merge(sample)
        return Scored(rows=merged.rows, evaluations=(*merged.results(), *sampled.results()))
