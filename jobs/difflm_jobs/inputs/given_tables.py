"""Tables given beside a bundle, read, checked and laid down for the workers: records to vary, real ones to compare."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from difflm.artifacts import Artifact, ArtifactStore
from difflm.artifacts.hashing import hash_folder
from difflm.errors import ConfigError, DataError
from difflm.privacy.budget import is_private
from difflm.records.files.source import SourceForm
from difflm.records.notices import Notice
from difflm.records.relations.given import broken_given
from difflm.records.schema import RecordSchema, read_schema
from difflm.synthesis.plans.request import Between, GivenRecords, Impute, Use, nearest_table, table_with_gaps

if TYPE_CHECKING:
    import pyarrow as pa

    from difflm.records.files.reading import ReadConfig

PRIVATE_ROWS = "rows"
"""Among the inputs of a prepared table with differential privacy: the artifact that holds the real rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealFiles:
    """Tables on disk: the rows that were trained on, and if there are some, rows that were not. Of a run's own splits a
    cell that its column cannot hold counts as missing, as in the run's report; in other tables it is an error.
    """

    train: Path
    holdout: Path | None
    own: bool = False


def real_files(bundle: Path, *, of_run: bool, train: Path | None, holdout: Path | None) -> RealFiles | None:
    """Find what --evaluate, --evaluate-against and --holdout ask for; None where nothing is to be evaluated.

    `bundle` is what was given on the command line: a run has the splits that its bundle was made from.

    Raises:
        ConfigError: a holdout without a training table, both of the first two, or a bundle without a run around it.
    """
    if train is None and holdout is not None:
        raise ConfigError(
            f"--holdout {holdout}: goes with --evaluate-against TABLE; a run's own test split needs neither"
        )
    if train is not None and of_run:
        raise ConfigError("--evaluate and --evaluate-against: give one of them")
    if train is not None:
        return RealFiles(train=train, holdout=holdout)
    if not of_run:
        return None
    prepared = _prepared(bundle)
    return RealFiles(train=prepared / "train.parquet", holdout=prepared / "test.parquet", own=True)


def _prepared(given: Path) -> Path:
    """Find the folder of splits that the bundle of a run was made from."""
    finished = ArtifactStore(given).finished() if (given / "artifacts").is_dir() else []
    bundles = [artifact for artifact in finished if artifact.kind == "bundle"]
    tables: dict[str, Artifact] = {artifact.identity: artifact for artifact in finished if artifact.kind == "table"}
    table = tables.get(bundles[-1].manifest.inputs.get("prepare", "")) if bundles else None
    if table is None:
        raise ConfigError(
            f"--evaluate: {given} is no run with the splits of its bundle; give the training table with "
            "--evaluate-against, and rows that were not trained on with --holdout"
        )
    return real_splits(finished, table).path


def real_splits(finished: Iterable[Artifact], prepared: Artifact) -> Artifact:
    """Return the artifact of the real rows: with differential privacy `prepare` holds none."""
    rows = prepared.manifest.inputs.get(PRIVATE_ROWS)
    return next((artifact for artifact in finished if artifact.identity == rows), prepared)


@contextmanager
def laid_down_real(files: RealFiles, bundle: Path, read: ReadConfig) -> Iterator[Path]:
    """Lay the tables down in a temporary folder, in the columns and types of a bundle (see `write_real`), with nothing
    in them that it does not tell.

    Raises:
        DataError: a file is missing, has no rows, lacks a column, or holds what its column's kind cannot hold.
    """
    from difflm_evaluators.columns.real_tables import write_real

    schema, private = read_schema(bundle), is_private(bundle)
    train, holdout = (
        _checked(path, schema, read, own=files.own, private=private) if path is not None else None
        for path in (files.train, files.holdout)
    )
    assert train is not None
    with tempfile.TemporaryDirectory(prefix="difflm-real-") as folder:
        write_real(Path(folder), train, holdout, schema)
        yield Path(folder)


def _checked(path: Path, schema: RecordSchema, read: ReadConfig, *, own: bool, private: bool) -> pa.Table:
    from difflm.records.files.reading import read_table
    from difflm.records.kinds.columns import conform_table
    from difflm.records.protection.masking import masked
    from difflm_evaluators.columns.columns import read_columns

    def refuse(notice: Notice) -> None:
        if not own:
            raise DataError(f"{path}: column {notice.column!r}: {notice.message}; give a table like the bundle's own")

    table = read_table(path, read)
    absent = [name for name in schema.names if name not in table.column_names]
    if absent:
        raise DataError(f"{path}: no column {absent[0]!r}; the bundle has {', '.join(map(repr, schema.names))}")
    if table.num_rows == 0:
        raise DataError(f"{path}: has no rows; give some to evaluate against")
    conformed = conform_table(table, schema, report=refuse)
    shown = masked(conformed, schema, private=private)
    # What only the evaluators would stumble over: dates of another form.
    read_columns(shown if own else conformed, schema, str(path))
    return shown


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenFile:
    """A table on disk and what is to be made of its records."""

    path: Path
    use: Use


@dataclass(frozen=True, slots=True, kw_only=True)
class LaidDown:
    """The folder with the checked table, how many records it has, and the job's request for them.

    ``form`` is that of the file where its own rows come back completed, else None.
    """

    folder: Path
    count: int
    request: GivenRecords
    form: SourceForm | None = None


def given_file(like: Path | None, between: Path | None, strength: float, rows: int) -> GivenFile | None:
    """Combine what --like, --between and --strength ask for.

    Raises:
        ConfigError: both files are given, or a strength that is no share.
    """
    from difflm.synthesis.plans.request import Vary

    if like is not None and between is not None:
        raise ConfigError("--like and --between: give one of them")
    if not 0.0 <= strength <= 1.0:
        raise ConfigError(f"--strength {strength:g}: give a number from 0 (the record itself) to 1 (any record)")
    if like is not None:
        return GivenFile(path=like, use=Vary(strength=strength))
    return None if between is None else GivenFile(path=between, use=Between(count=rows))


@contextmanager
def laid_down(
    given: GivenFile, schema: RecordSchema, read: ReadConfig, tell: Callable[[str], None]
) -> Iterator[LaidDown]:
    """Lay the given records down in a temporary folder, in the bundle's types; ``tell`` gets what had to change.

    Raises:
        DataError: the file is missing, or has not the columns or values of the bundle.
    """
    import pyarrow.parquet as pq

    from difflm.records.files.reading import read_table
    from difflm.synthesis.plans.kept_cells import kept_cells
    from difflm.synthesis.workers import GIVEN_TABLE, KEPT_TABLE

    read_rows = read_table(given.path, read)
    table = _given_rows_checked(given, read_rows, schema, tell)
    with tempfile.TemporaryDirectory(prefix="difflm-given-") as folder:
        pq.write_table(table, Path(folder) / GIVEN_TABLE)
        if isinstance(given.use, Impute):
            pq.write_table(kept_cells(read_rows, schema), Path(folder) / KEPT_TABLE)
        request = GivenRecords(use=given.use, sha256=hash_folder(Path(folder)))
        form = SourceForm.of(read_rows) if isinstance(given.use, Impute) else None
        yield LaidDown(folder=Path(folder), count=len(table), request=request, form=form)


def _given_rows_checked(
    given: GivenFile, table: pa.Table, schema: RecordSchema, tell: Callable[[str], None]
) -> pa.Table:
    if isinstance(given.use, Between) and len(table) != 2:
        raise DataError(f"{given.path}: a way leads from one record to another; it has {len(table)} rows, give 2")
    if isinstance(given.use, Impute):
        gaps = table_with_gaps(table, schema, name=str(given.path))
        for notice in broken_given(gaps, schema, name=str(given.path)):
            tell(notice.message)
        return gaps
    nearest = nearest_table(table, schema, name=str(given.path))
    for notice in nearest.notices:
        tell(f"{given.path}: column {notice.column!r}: {notice.message}")
    return nearest.table
