"""Relations in the stage `prepare`: found, asked for, left out; and how a configuration says so."""

from pathlib import Path

import pyarrow.csv
import pytest
from rich.console import Console

from difflm.artifacts import Artifact, ArtifactStore
from difflm.errors import ConfigError, DataError
from difflm.records.protection.settings import UNPROTECTED, ProtectConfig
from difflm.records.relations.words import name_of
from difflm.records.schema import RecordSchema, SchemaConfig, read_schema
from difflm.testing.related import RELATIONS, related_table
from difflm_jobs.config import RuntimeConfig
from difflm_jobs.inputs.relations import RelationsConfig, with_constraints
from difflm_jobs.inputs.sources import DataConfig, FileSource
from difflm_jobs.loading import load_experiment
from difflm_jobs.pipeline.pipeline import execute, resolve
from difflm_jobs.pipeline.progress import LineReporter
from difflm_jobs.stages.prepare import Prepare


def no_cluster() -> None:
    raise AssertionError("preparing needs no cluster")


@pytest.fixture
def stays(tmp_path: Path) -> Path:
    path = tmp_path / "stays.csv"
    pyarrow.csv.write_csv(related_table(600), path)
    return path


def prepared(
    stays: Path,
    relations: RelationsConfig,
    protect: ProtectConfig = UNPROTECTED,
    schema: SchemaConfig = SchemaConfig(),  # noqa: B008 (it is frozen)
) -> tuple[RecordSchema, Artifact]:
    store = ArtifactStore(stays.parent / "run")
    data = DataConfig(train=FileSource(path=str(stays)))
    steps = resolve([Prepare(data=data, schema=schema, seed=0, relations=relations, protect=protect)], store)
    reporter = LineReporter(Console(quiet=True))
    ((_, artifact),) = execute(steps, store, runtime=RuntimeConfig(), reporter=reporter, cluster=no_cluster)  # type: ignore[arg-type]
    return read_schema(artifact.path), artifact


def names(schema: RecordSchema) -> set[str]:
    return {name_of(relation) for relation in schema.relations.kept}


def test_relations_are_found_and_said_by_default(stays: Path) -> None:
    schema, artifact = prepared(stays, "auto")
    assert names(schema) == set(RELATIONS)
    assert "kept in every synthetic row: total == n * unit" in artifact.manifest.facts["notices"]  # type: ignore[operator]


def test_they_can_be_left_out_or_chosen(stays: Path) -> None:
    assert names(prepared(stays, "off")[0]) == set()
    assert names(prepared(stays, ("low <= high", "n < 9"))[0]) == {"low <= high", "n < 9"}
    schema, _ = prepared(stays, ("auto", "low <= high + 1", "n < 9"))  # said of these columns, so nothing else is
    assert names(schema) == {*RELATIONS, "n < 9", "low <= high + 1"} - {"low <= high"}
    assert [relation.origin for relation in schema.relations.kept[:3]] == ["asked", "asked", "found"]


def test_rows_of_the_file_that_break_a_constraint_are_counted(stays: Path) -> None:
    with pytest.raises(DataError, match=r"stays\.csv: constraint 'n < 8': \d+ of 600 rows break it, the first is row"):
        prepared(stays, ("n < 8",))
    assert names(prepared(stays, ("keep: n < 8",))[0]) == {"n < 8"}


def test_errors_of_protected_tables_say_what_was_asked_for_and_no_cell(stays: Path) -> None:
    with pytest.raises(DataError, match=r"first is row \d+ \(total '…'\); .* or write 'keep: total < 20' to"):
        prepared(stays, ("total < 20",), ProtectConfig())
    with pytest.raises((ConfigError, DataError), match="the table has no column 'nope'"):
        prepared(stays, "auto", ProtectConfig(), SchemaConfig(kinds={"nope": "code"}))


def test_what_no_row_can_satisfy_is_refused_before_anything_runs(stays: Path) -> None:
    with pytest.raises(ConfigError, match="n < total and total <= n cannot both hold in any row"):
        load_experiment(str(stays), constraints=["n < total", "total <= n"])
    with pytest.raises(ConfigError, match="cannot be read"):
        load_experiment(str(stays), constraints=["n <"])
    with pytest.raises(ConfigError, match="constraints are for tables"):
        load_experiment(str(stays), overrides=["data.kind=code"], constraints=["n < 3"])


def test_constraints_of_the_command_line_are_added(stays: Path) -> None:
    assert load_experiment(str(stays)).relations == "auto"
    assert load_experiment(str(stays), constraints=["n < 9"]).relations == ("auto", "n < 9")
    off = load_experiment(str(stays), overrides=["relations=off"], constraints=["n < 9"])
    assert off.relations == ("n < 9",)
    listed = load_experiment(str(stays), overrides=["relations=['n < 9']"], constraints=["low <= high"])
    assert listed.relations == ("n < 9", "low <= high")
    assert with_constraints("off", ()) == "off"
    with pytest.raises(ConfigError, match="relations"):
        load_experiment(str(stays), overrides=["relations=maybe"])
