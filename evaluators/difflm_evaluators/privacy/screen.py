"""The privacy screen: which records are too near to a training record to be given out.

A record is held back when it equals a training record (`copies`), or when it is nearer to one than the `quantile` of
the distances that the real holdout has to the training records: nearer than nearly all fresh real rows are. Each record
is screened by itself, so that the answer does not depend on what else is drawn. Shapes: N records.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from difflm.records.kinds.columns import conform_table
from difflm.records.schema import RecordSchema, read_schema
from difflm.records.splits import prepared_file
from difflm.seeding import derive_seed
from difflm_evaluators.columns.columns import Columns, column_kind, read_columns
from difflm_evaluators.columns.mixed_rows import MixedSpace
from difflm_evaluators.columns.real_tables import read_real
from difflm_evaluators.columns.row_keys import KnownRows, row_hashes
from difflm_evaluators.privacy.neighbours import NearestRows

if TYPE_CHECKING:
    from difflm.artifacts.dataset import Shard
    from difflm.telemetry import JSON


class ScreenConfig(BaseModel):
    """What is held back; without a quantile only copies are."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    copies: bool = False
    quantile: float | None = Field(default=None, gt=0, lt=1)


class PrivacyScreen:
    """Fitted to the real tables of a folder (as `write_real` left it); called with tables of new records."""

    def __init__(self, real: Path, config: ScreenConfig) -> None:
        self._schema = read_schema(real)
        train, holdout = read_real(real)
        self._train = read_columns(train, self._schema, "real training")
        self._known = KnownRows(self._train, self._schema) if config.copies else None
        self._near: _Near | None = None
        if config.quantile is not None:
            assert holdout is not None
            fresh = read_columns(holdout, self._schema, "holdout")
            self._near = _Near(self._train, fresh, self._schema, config.quantile)

    @property
    def least_distance(self) -> float | None:
        """The distance that records must have at least; None where distances do not count."""
        return self._near.least if self._near is not None else None

    def __call__(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Mark, (N,), the records that may be given out."""
        columns = read_columns(conform_table(table, self._schema), self._schema, "synthetic")
        passed_N: npt.NDArray[np.bool_] = np.ones(table.num_rows, dtype=np.bool_)
        if self._known is not None:
            passed_N &= ~self._known.holds(columns)
        if self._near is not None:
            passed_N &= self._near.distances_N(columns) >= self._near.least
        return passed_N


class _Near:
    """Distances to the training records, and the least one that is allowed."""

    def __init__(self, train: Columns, holdout: Columns, schema: RecordSchema, quantile: float) -> None:
        gaps = any(field.nullable for field in schema.fields if column_kind(field) == "numeric")
        self._space = MixedSpace.fit(train, [train, holdout], missing=gaps)
        self._index = NearestRows(self._space.rows(train), threads=1)
        distances_N = self.distances_N(holdout)
        self.least = float(np.quantile(distances_N, quantile, method="higher"))  # one that a real row has

    def distances_N(self, columns: Columns) -> npt.NDArray[Any]:
        """Measure the distances (N,) to the nearest training record."""
        return self._index.search(self._space.rows(columns), 1)[:, 0]


class CopyScreen:
    """Holds back copies of the training rows of prepared data: as many as are more than chance.

    Real rows that were never learned equal a training row by chance, in tables of few columns often; so do rows of a
    generator that has learned the distribution and no row. A copy passes with the share of these among `allow`'s draws
    that leaves as many as chance has, and which copies pass depends on their cells alone. Rows that at least as many
    training rows are as the schema's threshold, are no one's and pass.
    """

    def __init__(self, prepared: Path) -> None:
        self._schema = read_schema(prepared)
        self._threshold = 1 if self._schema.protected is None else self._schema.protected.threshold
        train = self._read(pq.read_table(prepared_file(prepared, "train")))
        self._known = KnownRows(train, self._schema)
        number_N = self._known.number(train)
        self._rows_K = np.bincount(number_N, minlength=len(self._known))
        fresh = [pq.read_table(prepared / f"{part}.parquet") for part in ("validation", "test")]
        copies = [self._copies(self._read(part)) for part in fresh if part.num_rows]
        self.chance = float(np.concatenate(copies).mean()) if copies else 0.0
        self.passing = 0.0
        """The share of copies that pass; none as long as no draws say how many there are."""

    def allow(self, drawn: pa.Table) -> None:
        """Let as many copies pass as leave the share that chance has, of rows such as those drawn.

        Other rows are drawn in the place of those held back, so that the odds of a copy are what is brought down. One
        more copy is counted than is seen: few draws say little, and too few copies are better than too many.
        """
        if drawn.num_rows == 0:
            return
        copies = int(self._copies(self._read(drawn)).sum())
        others = drawn.num_rows - copies
        wanted, found = self.chance * (others + 1), (1 - self.chance) * (copies + 1)
        self.passing = 1.0 if wanted >= found else wanted / found

    def _read(self, table: pa.Table) -> Columns:
        return read_columns(conform_table(table, self._schema), self._schema, "real")

    def _copies(self, columns: Columns) -> npt.NDArray[np.bool_]:
        """Mark, (N,), the rows that equal a training row that few have."""
        number_N = self._known.number(columns)
        copied_N: npt.NDArray[np.bool_] = (number_N >= 0) & (self._rows_K[number_N] < self._threshold)
        return copied_N

    def __call__(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Mark, (N,), the records that may be given out."""
        columns = self._read(table)
        lucky_N = row_hashes(columns, self._schema) < np.uint64(self.passing * (2**64 - 2048))
        passed_N: npt.NDArray[np.bool_] = ~self._copies(columns) | lucky_N
        return passed_N


class ProtectedSynthesisWorker:
    """A `SynthesisWorker` whose records pass the `CopyScreen` of `prepared`, a folder of prepared data.

    `trial` is how many rows it draws, which nobody gets, to see how many of them are copies: the same on all workers,
    so that they let the same copies pass.
    """

    def __init__(self, args: dict[str, Any]) -> None:
        from difflm.synthesis.workers import SynthesisWorker

        self._worker = SynthesisWorker(args)
        screen, synthesizer = CopyScreen(Path(args["prepared"])), self._worker.synthesizer
        if screen.chance > 0:
            seed = derive_seed(self._worker.seed, "copies") >> 1
            drawn, _ = synthesizer.draw_valid(range(int(args["trial"])), seed=seed)
            screen.allow(synthesizer.bundle.codec.table_of([record for _, record in drawn]))
        synthesizer.screen = screen

    def run(self, shard: Shard) -> dict[str, JSON]:
        """Draw the records of indices shard.start to shard.stop."""
        return self._worker.run(shard)
