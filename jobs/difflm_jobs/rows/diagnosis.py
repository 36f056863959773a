"""A diagnosis of a run: rows of its parts, drawn in this process, each compared with the rows that it learned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from difflm.artifacts import Artifact, ArtifactStore
from difflm.config import load_yaml, validate
from difflm.errors import ConfigError, DataError, ModelError
from difflm.records.files.reading import ReadConfig
from difflm.records.schema import read_schema
from difflm.seeding import random_state_kept
from difflm.synthesis.plans.request import nearest_table
from difflm.synthesis.saved_sampling import read_sampling
from difflm.telemetry import JSON
from difflm_jobs.inputs.given_tables import RealFiles, laid_down_real, real_splits
from difflm_jobs.inputs.models import find_bundle
from difflm_jobs.pipeline.runlog import CONFIG_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from difflm.synthesis.open_bundle import OpenBundle
    from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
    from difflm_evaluators.diagnosis.diagnosis import Diagnosis, Source
    from difflm_jobs.pipeline.stage import Report

MIN_ROWS = 10
"""Of each table: the detector's folds of two."""
BATCH_ROWS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """A bundle, the rows it learned, and how it is drawn from."""

    bundle: Path
    real: RealFiles
    sampling: SamplingConfig


def locate(given: Path, *, train: Path | None, test: Path | None) -> Learned:
    """Find what a diagnosis needs behind a run's folder, or a bundle; `train` and `test` replace a run's own splits.

    Raises:
        BundleError: there is no bundle yet, or it is of another version.
        ConfigError: the bundle is without its run and no training table is given, or a test table alone is given.
    """
    from difflm.synthesis.synthesizer import SamplingConfig

    if train is None and test is not None:
        raise ConfigError(f"--test {test}: goes with --train TABLE; a run's own test split needs neither")
    folder = find_bundle(given).resolve()
    root = folder.parent.parent
    known = {one.identity: one for one in ArtifactStore(root).finished()} if folder.parent.name == "artifacts" else {}
    prepared: Artifact | None = None
    for artifact in known.values():
        if artifact.path == folder:
            prepared = known.get(artifact.manifest.inputs.get("prepare", ""))
    if train is None and prepared is None:
        raise ConfigError(
            f"{given}: a bundle holds no rows, and its run's are not beside it; give the run's folder, or the rows "
            "that it learned with --train, and rows that it did not learn with --test"
        )
    if train is not None:
        real = RealFiles(train=train, holdout=test)
    else:
        assert prepared is not None
        prepared = real_splits(known.values(), prepared)
        real = RealFiles(train=prepared.path / "train.parquet", holdout=prepared.path / "test.parquet", own=True)
    return Learned(
        bundle=folder,
        real=real,
        sampling=_run_sampling(root / CONFIG_NAME) if known else read_sampling(folder) or SamplingConfig(),
    )


def _run_sampling(config: Path) -> SamplingConfig:
    """Read how a run draws rows; the rest of its configuration does not matter."""
    from difflm.synthesis.synthesizer import SamplingConfig

    given = load_yaml(config).get("sampling", {}) if config.is_file() else {}
    return validate(SamplingConfig, given, f"{config}: sampling")


def diagnose_learned(learned: Learned, *, rows: int, seed: int, report: Report) -> Diagnosis:
    """Draw at most `rows` rows of every part of a bundle, and compare each with real rows.

    Half of the training rows, if there are no more than twice `rows`, is encoded and decoded; the other half is what
    the detector gets. So nothing is compared with a copy of itself.

    Raises:
        DataError: there are fewer than twice MIN_ROWS training rows, or a table does not fit the bundle.
        ConfigError: `rows` is below MIN_ROWS.
    """
    from difflm_evaluators.columns.real_tables import read_real
    from difflm_evaluators.diagnosis.diagnosis import RealRows, diagnose_tables
    from difflm_evaluators.scores.detection import DetectionConfig

    if rows < MIN_ROWS:
        raise ConfigError(f"--rows {rows}: the detector needs {MIN_ROWS} or more rows of each table")
    with laid_down_real(learned.real, learned.bundle, ReadConfig()) as folder:
        train, held_out = read_real(folder)
    if train.num_rows < 2 * MIN_ROWS:
        raise DataError(
            f"{learned.real.train}: has {train.num_rows} rows, of which one half is compared with the other; a "
            f"diagnosis takes {2 * MIN_ROWS} or more"
        )
    count = min(rows, train.num_rows // 2)
    order_N = np.random.default_rng(seed).permutation(train.num_rows)
    encoded, reference = (train.take(np.sort(part)) for part in (order_N[:count], order_N[count : 2 * count]))
    with random_state_kept():
        sources = _sources(learned, encoded, seed=seed, report=report)
    return diagnose_tables(
        sources,
        RealRows(train=train, reference=reference, held_out=held_out),
        read_schema(learned.bundle),
        DetectionConfig(seeds=(seed,), max_rows=count),
        progress=lambda part: report(0, None, f"measuring {part}"),
    )


def _sources(learned: Learned, encoded: pa.Table, *, seed: int, report: Report) -> list[Source]:
    """Draw as many rows as are encoded from every part that there is."""
    from difflm.synthesis.open_bundle import OpenBundle
    from difflm.synthesis.probes import decoder_alone, reconstructor
    from difflm_evaluators.diagnosis.diagnosis import DECODER, DRAWS, RECONSTRUCTED, TITLES

    report(0, None, "loading the bundle")
    opened = OpenBundle(learned.bundle, learned.sampling)
    schema = opened.bundle.schema
    nearest = nearest_table(encoded, schema, name=str(learned.real.train)).table
    parts: dict[str, Callable[[OpenBundle], Synthesizer]] = {
        RECONSTRUCTED: lambda opened: reconstructor(opened, nearest),
        DRAWS: lambda opened: opened.synthesizer(),
    }
    found = []
    for name, make in parts.items():
        found.append(_drawn(name, TITLES[name], make(opened), len(encoded), seed, report))
    try:
        alone = decoder_alone(opened)
    except ModelError as error:
        return [*found, _missing(DECODER, str(error))]
    return [*found, _drawn(DECODER, TITLES[DECODER], alone, len(encoded), seed, report)]


def _missing(name: str, reason: str) -> Source:
    from difflm_evaluators.diagnosis.diagnosis import Source

    return Source(name=name, reason=reason)


def _drawn(name: str, title: str, synthesizer: Synthesizer, count: int, seed: int, report: Report) -> Source:
    """Draw rows 0 to count - 1; indices without a valid draw are left out and counted."""
    from difflm_evaluators.diagnosis.diagnosis import Source

    records: list[Any] = []
    attempts, rejections = 0, dict[str, int]()
    for start in range(0, count, BATCH_ROWS):
        report(start, count, f"drawing: {title}")
        drawn, account = synthesizer.draw_valid(range(start, min(start + BATCH_ROWS, count)), seed=seed)
        records += [record for _, record in drawn]
        attempts += account.attempts
        for reason, number in account.rejections.items():
            rejections[reason] = rejections.get(reason, 0) + number
    table = synthesizer.bundle.codec.table_of(records)
    facts: dict[str, JSON] = {
        "draws": attempts,
        "rejections": dict[str, JSON](sorted(rejections.items())),
        "given_up": count - len(records),
    }
    return Source(name=name, table=table, account=facts)
