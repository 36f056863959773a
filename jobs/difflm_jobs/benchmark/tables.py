"""The table of a benchmark: the rows that every method learns, those that none sees, and what columns hold."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from difflm.artifacts import hash_file
from difflm.artifacts.atomic import atomic_directory, make_private
from difflm.errors import ConfigError, DataError
from difflm.records.kinds.columns import conform_table
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import DecimalField, IntegerField, RecordSchema, SchemaConfig
from difflm_evaluators.protocol import DATASETS, ProtocolSpec, infer_spec, named_spec
from difflm_jobs.loading import load_experiment, refuse_missing
from difflm_jobs.stages.prepare import SPLITS
from difflm_jobs.studies.protocol import data_set_tables

if TYPE_CHECKING:
    import pyarrow as pa

    from difflm_jobs.config import ExperimentConfig

TRAIN_CSV, TRAIN_PARQUET, TEST_CSV, SCHEMA = "train.csv", "train.parquet", "test.csv", "schema.json"
_OF_A_TABLE = re.compile(r"train\.csv|train\.parquet|test\.csv|schema\.json|real-\d+\.csv")
LEFT_OUT = ("text", "json", "datetime")
"""Kinds of columns that not every method takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkTable:
    """Real rows in the schema's columns and types; `config` is the section `schema` of a `difflm run` on them."""

    name: str
    train: pa.Table
    test: pa.Table
    schema: RecordSchema
    spec: ProtocolSpec
    config: dict[str, Any]
    about: str
    left_out: tuple[str, ...]

    def columns(self) -> list[dict[str, Any]]:
        """Describe the columns for adapters: numbers (whole, or with decimals) and categories."""
        return [
            {
                "name": field.name,
                "kind": "number" if isinstance(field, IntegerField | DecimalField) else "category",
                "whole": isinstance(field, IntegerField),
                "decimals": field.decimals - field.exponent if isinstance(field, DecimalField) else None,
            }
            for field in self.schema.fields
        ]

    def write(self, folder: Path) -> dict[str, str]:
        """Write what methods read, into a folder that is new: in one that is there, links of somebody else's might lead
        anywhere. Return the hashes of what rows depend on.

        Raises:
            ConfigError: the folder there is none that a benchmark wrote.
        """
        import pyarrow.csv
        import pyarrow.parquet

        _refuse_anybodys(folder)
        with atomic_directory(folder) as new:
            pyarrow.csv.write_csv(self.train, new / TRAIN_CSV)
            pyarrow.csv.write_csv(self.test, new / TEST_CSV)
            pyarrow.parquet.write_table(self.train, new / TRAIN_PARQUET)
            (new / SCHEMA).write_text(self.schema.to_json(), encoding="utf-8")
            make_private(new)
        return {name: hash_file(folder / name) for name in (TRAIN_CSV, SCHEMA)}

    def experiment(self, folder: Path) -> dict[str, Any]:
        """Return the settings of a `difflm run` on these rows, as they were written to a folder."""
        data = {
            "train": str(folder / TRAIN_CSV),
            "test": str(folder / TEST_CSV),
            "target": self.spec.target,
            "validation": 0.1,
        }
        return {"data": data, "schema": self.config}


def _refuse_anybodys(folder: Path) -> None:
    """Refuse to replace a folder that holds something else than the table of a benchmark.

    Raises:
        ConfigError: names it.
    """
    there = {path.name for path in folder.iterdir()} if folder.is_dir() and not folder.is_symlink() else set()
    if there and (SCHEMA not in there or not all(map(_OF_A_TABLE.fullmatch, there))):
        raise ConfigError(f"{folder}: is none of a benchmark, and would be replaced; give another --out")


def read_benchmark_table(given: str, *, target: str | None, train_rows: int | None) -> BenchmarkTable:
    """Read a table: a data set of the published protocol with its splits, or a table, file or preset with its own.

    `train_rows` of the training rows are drawn, the same for every method and every seed.

    Raises:
        ConfigError: it is no table of rows, or has no such file.
        DataError: a file cannot be read, or has too few rows.
    """
    if given in DATASETS and target is None:
        spec = named_spec(given)
        real = data_set_tables(spec)
        name, settings, train, test, about = given, None, real.train, real.test, real.about
    else:
        refuse_missing(given)
        experiment = load_experiment(given, target=target)
        name, settings = experiment.name, experiment.schema_
        train, test, about = _prepared(experiment)
        spec = infer_spec(train, target=experiment.data.target)
    if train_rows is not None and train_rows < train.num_rows:
        import pyarrow as pa

        drawn = np.sort(np.random.default_rng(0).choice(train.num_rows, size=train_rows, replace=False))
        train = train.take(pa.array(drawn))
        about += f"; {train_rows:,} of the training rows, drawn with seed 0"
    if min(train.num_rows, test.num_rows) < 4:
        raise DataError(f"{given}: {train.num_rows} training and {test.num_rows} test rows; give at least four of each")
    return _table(name, train, test, spec, settings, about)


def _prepared(experiment: ExperimentConfig) -> tuple[pa.Table, pa.Table, str]:
    """Split a table as `difflm run` does; rows for validation are learned: not every method sets some apart."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from difflm_jobs.pipeline.stage import StageContext
    from difflm_jobs.stages.prepare import Prepare
    from difflm_jobs.stages.stages import this_process

    if not experiment.data.record_kind.tabular:
        raise ConfigError(f"{experiment.name}: a benchmark needs rows of a table, not {experiment.data.kind}")
    stage = Prepare(data=experiment.data, schema=experiment.schema_, seed=experiment.seed)
    with tempfile.TemporaryDirectory(prefix="difflm-benchmark-") as temporary, this_process() as compute:
        folder = Path(temporary)
        stage.run(
            StageContext(
                inputs={},
                output=folder,
                work=folder / "work",
                report=lambda done, total, text: None,
                runtime=experiment.runtime,
                start_cluster=lambda: compute,
            )
        )
        train, validation, test = (pq.read_table(folder / f"{part}.parquet") for part in SPLITS)
    about = "the splits of difflm run; rows for validation are among those that are learned"
    return pa.concat_tables([train, validation]), test, about


def _table(
    name: str, train: pa.Table, test: pa.Table, spec: ProtocolSpec, settings: SchemaConfig | None, about: str
) -> BenchmarkTable:
    """Leave out what not every method takes, and read the rest by the schema of the training rows."""
    whole = spec.schema(train) if settings is None else infer_schema(train, target=spec.target, config=settings)
    left_out = tuple(field.name for field in whole.fields if field.kind in LEFT_OUT)
    if spec.target in left_out:
        raise DataError(f"{name}: the target {spec.target!r} is free text or a date; give another one with --target")
    kept = [column for column in whole.names if column not in left_out]
    if not kept:
        raise DataError(f"{name}: every column is free text or a date; not every method takes such")
    train, test = train.select(kept), test.select(kept)
    config: dict[str, Any] = {"task": whole.task}
    if settings is not None:
        config = settings.model_dump(mode="json", exclude_unset=True) | config
        config["kinds"] = {column: kind for column, kind in settings.kinds.items() if column in kept}
    elif coded := spec.coded(train):
        config["kinds"] = dict.fromkeys(coded, "categorical")
    schema = infer_schema(train, target=spec.target, config=SchemaConfig.model_validate(config))
    as_read = partial(conform_table, schema=schema)
    spec = replace(
        spec,
        categorical=tuple(column for column in spec.categorical if column in kept),
        numeric=tuple(column for column in spec.numeric if column in kept),
    )
    return BenchmarkTable(
        name=name,
        train=as_read(train),
        test=as_read(test),
        schema=schema,
        spec=spec,
        config=config,
        about=about,
        left_out=left_out,
    )
