"""The tables of `difflm protocol`: a known data set, the splits of a run, or files; and the protocol's own splits."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from difflm.artifacts import write_bytes_atomic
from difflm.errors import ConfigError
from difflm_jobs.inputs.record_files import read_records

if TYPE_CHECKING:
    import pyarrow as pa

    from difflm_evaluators.protocol import ProtocolSpec
    from difflm_jobs.rows.bundle_rows import Audience

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealTables:
    """The rows that the generator was trained on, rows that it never saw, and where both come from."""

    train: pa.Table
    test: pa.Table
    about: str


def data_set_tables(spec: ProtocolSpec) -> RealTables:
    """Read a data set from its preset's location, and split it as the protocol does; Adult has a test file of its own.

    Raises:
        ConfigError: DIFFLM_DATA is not set. DataError: a file is missing or cannot be read.
    """
    import pyarrow.compute as pc

    from difflm.records.files.reading import read_table
    from difflm_evaluators.protocol import protocol_split
    from difflm_jobs.inputs.sources import locate
    from difflm_jobs.loading import load_experiment

    assert spec.name is not None
    assert spec.target is not None
    data = load_experiment(spec.name).data
    table = read_table(locate(data.train, "data.train"), data.read)
    table = table.filter(pc.is_valid(table.column(spec.target)))
    if data.test is not None:
        test = read_table(locate(data.test, "data.test"), data.read)
        return RealTables(train=table, test=test, about="the data set's own files for training and testing")
    train, test, seed = protocol_split(table, spec)
    about = f"the protocol's split: 90 % for training, 10 % for testing, numpy's shuffle with seed {seed}"
    return RealTables(train=train, test=test, about=about)


def run_tables(folder: Path) -> RealTables | None:
    """Return the splits that a run's bundle was made from, training and validation rows together; None without any.

    A bundle by itself has no splits.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from difflm_jobs.inputs.given_tables import real_files

    try:
        files = real_files(folder, of_run=True, train=None, holdout=None)
    except ConfigError:
        return None
    assert files is not None
    assert files.holdout is not None
    parts = [pq.read_table(files.train.with_name(f"{name}.parquet")) for name in ("train", "validation")]
    return RealTables(
        train=pa.concat_tables(parts),
        test=pq.read_table(files.holdout),
        about="the run's own splits: its training and validation rows, against its test rows",
    )


def file_tables(train: Path, test: Path) -> RealTables:
    """Read two files of any known kind."""
    return RealTables(train=read_rows(train), test=read_rows(test), about=f"{train} and {test}")


def read_rows(path: Path) -> pa.Table:
    """Read the rows of a table: a file, or a dataset of many parts."""
    from difflm.records.files.reading import ReadConfig
    from difflm.records.notices import ignore

    return read_records(path, "table", ReadConfig(), ignore)


def sample_rows(bundle: Path, rows: int, *, seed: int, out: Path, audience: Audience) -> Path:
    """Draw `rows` rows from a bundle, or from a run that has one, into a file under `out`."""
    from difflm.synthesis.plans.request import PlanRequest
    from difflm_jobs.rows.bundle_rows import DatasetRequest, write_rows

    file = out / "synthetic.parquet"
    wanted = DatasetRequest(
        bundle=bundle,
        rows=rows,
        seed=seed,
        out=str(file),
        format=None,
        resume="if-possible",
        plan=PlanRequest(),
    )
    out.mkdir(parents=True, exist_ok=True)
    write_rows(wanted, overrides=(), audience=audience)
    return file


def prepare_protocol(spec: ProtocolSpec, folder: Path, tell: Tell) -> Path:
    """Write the protocol's training and test rows and a configuration to train on them; return the configuration.

    Its column kinds are the protocol's: whole numbers that are codes are categories.

    Raises:
        ConfigError: one of them is there already, with something else in it.
    """
    real = data_set_tables(spec)
    tell(f"{spec.name}: {real.about}; {real.train.num_rows:,} and {real.test.num_rows:,} rows")
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    roles = {"train": real.train, "test": real.test}
    files = {role: folder / f"{spec.name}_{role}.csv" for role in roles}
    schema: dict[str, Any] = {"task": spec.task}
    if coded := spec.coded(real.train):
        schema["kinds"] = dict.fromkeys(coded, "categorical")
    config: dict[str, Any] = {
        "name": f"{spec.name}-protocol",
        "data": {"train": str(files["train"]), "test": str(files["test"]), "target": spec.target, "validation": 0.1},
        "schema": schema,
        "protect": "off",
    }
    if spec.regression_transform != "none":
        config["evaluation"] = {"utility": {"regression_transform": spec.regression_transform}}
    heading = (
        f"# {spec.name} under the protocol of TabSyn, TabDiff and TabPC. The rows are\n"
        f"# {real.about}.\n"
        "# A tenth of the training rows is for validation, which those methods do without, and rare values are\n"
        "# learned as they learn them.\n"
    )
    path = folder / f"{spec.name}.yaml"
    written = {files[role]: _csv(table) for role, table in roles.items()}
    written[path] = (heading + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)).encode()
    for there in written:
        if there.exists() and there.read_bytes() != written[there]:
            raise ConfigError(f"{there}: is there already, with something else in it; give another folder")
    for there, content in written.items():
        write_bytes_atomic(there, content)
    return path


def _csv(table: pa.Table) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    columns: Sequence[list[Any]] = [column.to_pylist() for column in table.columns]
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue().encode()
