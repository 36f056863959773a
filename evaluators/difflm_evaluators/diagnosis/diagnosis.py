"""A diagnosis: tables that parts of a generator made, each against real rows, beside held-out rows in their place.

Shape and trend errors, equal columns and atoms are measured against all training rows. The detector gets the
`reference`: training rows that no table was made from, or it would find copies of what it knows.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from difflm.errors import DataError
from difflm.records.schema import RecordSchema
from difflm.telemetry import JSON
from difflm_evaluators.columns.columns import Columns, read_columns
from difflm_evaluators.columns.features import FeatureEncoder
from difflm_evaluators.columns.row_keys import printed_columns
from difflm_evaluators.diagnosis.detector import DetectorParts, detector_parts
from difflm_evaluators.diagnosis.exactness import Atom, EqualColumns, atoms, equal_columns
from difflm_evaluators.scores.detection import DEPTH, TREES, DetectionConfig
from difflm_evaluators.scores.marginals import StreamingMarginals
from difflm_evaluators.scores.pairs import StreamingPairs, mean_error

DIAGNOSIS_VERSION = 1
HELD_OUT, RECONSTRUCTED, DRAWS, DECODER = "held_out", "reconstructed", "draws", "decoder"
TITLES = {
    HELD_OUT: "real held-out rows",
    RECONSTRUCTED: "encoded and decoded",
    DRAWS: "draws of the prior",
    DECODER: "decoder alone",
}
MOST_PAIRS = 500

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Rows that one part of a generator made, by a name of TITLES, and what became of its draws; or why there are none.

    Raises:
        ValueError: both a table and a reason, or neither.
    """

    name: str
    table: pa.Table | None = None
    reason: str | None = None
    account: Mapping[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.table is None) == (self.reason is None):
            raise ValueError(f"source {self.name!r}: give a table or a reason why there is none")


@dataclass(frozen=True, slots=True, kw_only=True)
class RealRows:
    """The real tables: all training rows, those that no source was made from, and rows that were never learned."""

    train: pa.Table
    reference: pa.Table
    held_out: pa.Table | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnUse:
    """A column: its shape error (a share), and its share of the detector's gain, None for free text."""

    name: str
    error: float
    gain_share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairUse:
    """A pair: its trend error (a share, None where undefined), and its share of what the detector gained by pairs."""

    first: str
    second: str
    error: float | None
    gain_share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceResult:
    """What was measured of a source. Errors are percentages; `columns` are those most used by the detector first, and
    `pairs` the ones with the largest errors and those it used most. Without a table, or a detector, a text says why.
    """

    name: str
    rows: int
    unavailable: str | None = None
    shape_error: float | None = None
    trend_error: float | None = None
    detector: DetectorParts | None = None
    undetected: str | None = None
    columns: tuple[ColumnUse, ...] = ()
    pairs: tuple[PairUse, ...] = ()
    account: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What a reader calls it."""
        return TITLES[self.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All sources, held-out rows first; shares of equal columns and atoms by the names of the sources."""

    rows: Mapping[str, int]
    columns: Mapping[str, str]
    detection: DetectionConfig
    sources: tuple[SourceResult, ...]
    equal_columns: tuple[EqualColumns, ...]
    atoms: tuple[Atom, ...]
    seconds: float

    def source(self, name: str) -> SourceResult:
        """Return a source by its name."""
        return next(source for source in self.sources if source.name == name)

    @property
    def detector(self) -> str:
        """Say which detector it was: a stronger one finds more."""
        config = self.detection
        return (
            f"XGBoost, {TREES} trees of depth {DEPTH}, {config.folds}-fold cross-validation, at most "
            f"{config.max_rows:,} rows of each table, seed {', '.join(map(str, config.seeds))}"
        )

    def to_json(self) -> dict[str, JSON]:
        """Return the diagnosis as plain JSON values."""
        sources: list[JSON] = [_source_json(source) for source in self.sources]
        return {
            "diagnosis_version": DIAGNOSIS_VERSION,
            "rows": dict(self.rows),
            "columns": dict(self.columns),
            "detector": self.detector,
            "detection": self.detection.model_dump(mode="json"),
            "sources": sources,
            "equal_columns": [asdict(found) for found in self.equal_columns],
            "atoms": [asdict(found) for found in self.atoms],
            "seconds": round(self.seconds, 3),
        }


def _source_json(source: SourceResult) -> dict[str, JSON]:
    found: dict[str, Any] = asdict(source)
    detector = source.detector
    if detector is not None:
        found["detector"] |= {
            name: None if part is None else asdict(part)
            for name, part in (("dependency", detector.dependency), ("cross", detector.cross))
        }
    return {"title": source.title, **found}


def diagnose_tables(
    sources: Sequence[Source],
    real: RealRows,
    schema: RecordSchema,
    config: DetectionConfig,
    *,
    progress: Progress = lambda _: None,
) -> Diagnosis:
    """Measure every source, and the held-out rows in their place; `progress` is told what is measured next.

    Raises:
        DataError: there are no training rows, or a table lacks a column or holds what its column cannot hold.
    """
    started = time.perf_counter()
    if real.train.num_rows == 0:
        raise DataError("real training table has no rows; there is nothing to compare with")
    train, reference = (_read(table, schema, "real training") for table in (real.train, real.reference))
    everything = [_held_out(real.held_out), *sources]
    tables = {
        source.name: _read(source.table, schema, TITLES[source.name])
        for source in everything
        if source.table is not None and source.table.num_rows
    }
    ruler = _Ruler.fit(train, reference, config)
    results = []
    for source in everything:
        table = tables.get(source.name)
        if table is None:
            reason = source.reason or "no draw of it was valid"
            results.append(SourceResult(name=source.name, rows=0, unavailable=reason, account=source.account))
            continue
        progress(TITLES[source.name])
        results.append(ruler.measure(source, table))
    progress("relations")
    return Diagnosis(
        rows={
            "train": real.train.num_rows,
            "reference": real.reference.num_rows,
            **{source.name: source.rows for source in results},
        },
        columns={column.name: column.kind for column in schema.fields},
        detection=config,
        sources=tuple(results),
        equal_columns=equal_columns(train, tables, seed=config.seeds[0]),
        atoms=atoms(train, tables),
        seconds=time.perf_counter() - started,
    )


def _held_out(table: pa.Table | None) -> Source:
    if table is None or table.num_rows == 0:
        return Source(name=HELD_OUT, reason="there are no real rows that were not learned")
    return Source(name=HELD_OUT, table=table)


def _read(table: pa.Table, schema: RecordSchema, role: str) -> Columns:
    return printed_columns(read_columns(table, schema, role), schema)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ruler:
    """What every source is measured by, fitted to the training rows once."""

    marginals: StreamingMarginals
    pairs: StreamingPairs
    encoder: FeatureEncoder
    reference: Columns
    config: DetectionConfig

    @classmethod
    def fit(cls, train: Columns, reference: Columns, config: DetectionConfig) -> "_Ruler":
        return cls(
            marginals=StreamingMarginals.fit(train, None),
            pairs=StreamingPairs.fit(train, None),
            encoder=FeatureEncoder.fit(train),
            reference=reference,
            config=config,
        )

    def measure(self, source: Source, table: Columns) -> SourceResult:
        marginals, pairs = self.marginals.fresh(), self.pairs.fresh()
        marginals.update(table)
        pairs.update(table)
        errors, pair_errors = marginals.errors(), pairs.errors()
        found = detector_parts(table, self.reference, self.encoder, self.config)
        detector = found if isinstance(found, DetectorParts) else None
        gains = {} if detector is None else detector.gain_shares
        columns = [ColumnUse(name=one.name, error=one.error, gain_share=gains.get(one.name)) for one in errors]
        together = {} if detector is None else {frozenset((i.first, i.second)): i.share for i in detector.interactions}
        uses = [
            PairUse(
                first=one.first,
                second=one.second,
                error=one.error,
                gain_share=together.get(frozenset((one.first, one.second))),
            )
            for one in pair_errors
        ]
        return SourceResult(
            name=source.name,
            rows=marginals.rows,
            shape_error=100 * float(np.mean([one.error for one in errors])),
            trend_error=mean_error(pair_errors),
            detector=detector,
            undetected=None if isinstance(found, DetectorParts) else found,
            columns=tuple(sorted(columns, key=lambda one: (-(one.gain_share or 0.0), -one.error))),
            pairs=_most(uses),
            account=source.account,
        )


def _most(pairs: Sequence[PairUse]) -> tuple[PairUse, ...]:
    """Select the pairs with the largest errors, and those that the detector used, by falling error."""
    by_error = sorted(pairs, key=lambda pair: -(pair.error or 0.0))
    kept = [pair for place, pair in enumerate(by_error) if place < MOST_PAIRS or pair.gain_share is not None]
    return tuple(kept)
