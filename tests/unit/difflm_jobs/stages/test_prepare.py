"""Preparing splits the table, and fits the schema to the training split alone."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from difflm.artifacts import Artifact, ArtifactStore
from difflm.config import validate
from difflm.errors import ConfigError, DataError
from difflm.records.schema import SchemaConfig, read_schema
from difflm_jobs.config import RuntimeConfig
from difflm_jobs.inputs.sources import DataConfig, FileSource
from difflm_jobs.pipeline.pipeline import execute, resolve
from difflm_jobs.pipeline.progress import LineReporter
from difflm_jobs.stages.prepare import Prepare


def no_cluster() -> None:
    raise AssertionError("preparing needs no cluster")


def prepare(tmp_path: Path, data: DataConfig) -> Artifact:
    store = ArtifactStore(tmp_path / "run")
    steps = resolve([Prepare(data=data, schema=SchemaConfig(), seed=0)], store)
    reporter = LineReporter(Console(quiet=True))
    ((_, artifact),) = execute(steps, store, runtime=RuntimeConfig(), reporter=reporter, cluster=no_cluster)  # type: ignore[arg-type]
    return artifact


def source(path: Path, rows: int, *, offset: int = 0) -> FileSource:
    lines = [f"{n + offset},{'xyz'[n % 3]},{n % 2}" for n in range(rows)]
    path.write_text("\n".join(["n,letter,label", *lines]) + "\n", encoding="utf-8")
    return FileSource(path=str(path))


def test_one_table_is_split_in_three(tmp_path: Path) -> None:
    artifact = prepare(tmp_path, DataConfig(train=source(tmp_path / "a.csv", 100), target="label"))
    rows = {name: pq.read_table(artifact.path / f"{name}.parquet") for name in ("train", "validation", "test")}
    assert {name: table.num_rows for name, table in rows.items()} == {"train": 80, "validation": 10, "test": 10}
    seen = [value for table in rows.values() for value in table.column("n").to_pylist()]
    assert sorted(map(int, seen)) == list(range(100))
    said, notice = artifact.manifest.facts["notices"]
    assert said.startswith("protection is off")
    assert "'n': every value is different: made anew for each row" in notice
    assert {key: value for key, value in artifact.manifest.facts.items() if key != "notices"} == {
        "train rows": 80, "validation rows": 10, "test rows": 10, "columns": 3
    }  # fmt: skip


def test_a_given_test_table_is_not_split(tmp_path: Path) -> None:
    data = DataConfig(train=source(tmp_path / "a.csv", 50), test=source(tmp_path / "b.csv", 20, offset=1000))
    artifact = prepare(tmp_path, data)
    assert pq.read_table(artifact.path / "test.parquet").num_rows == 20
    assert pq.read_table(artifact.path / "train.parquet").num_rows == 45
    field = read_schema(artifact.path).field("label")
    assert field.kind == "integer"
    assert (field.minimum, field.maximum) == (0, 1)


def test_the_identity_follows_the_content_not_the_path(tmp_path: Path) -> None:
    first = prepare(tmp_path, DataConfig(train=source(tmp_path / "a.csv", 50)))
    moved = prepare(tmp_path, DataConfig(train=source(tmp_path / "b.csv", 50)))
    other = prepare(tmp_path, DataConfig(train=source(tmp_path / "c.csv", 51)))
    assert first.identity == moved.identity != other.identity


def test_the_same_bytes_under_another_ending_are_another_table(tmp_path: Path) -> None:
    first = prepare(tmp_path, DataConfig(train=source(tmp_path / "a.csv", 50)))
    assert read_schema(first.path).names == ("n", "letter", "label")
    rows = "".join(f"{n},{n % 2}\t{n % 3},z\n" for n in range(50))
    for name in ("a.tsv", "b.csv"):
        (tmp_path / name).write_text("n,m\tl,label\n" + rows, encoding="utf-8")
    tabs = prepare(tmp_path, DataConfig(train=FileSource(path=str(tmp_path / "a.tsv"))))
    commas = prepare(tmp_path, DataConfig(train=FileSource(path=str(tmp_path / "b.csv"))))
    assert tabs.identity != commas.identity
    assert len(read_schema(tabs.path).names) == 2
    assert len(read_schema(commas.path).names) == 3


def test_the_report_holds_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    source(path, 30)
    path.write_text(path.read_text(encoding="utf-8").replace("0,x,0\n", "0,x,\n", 1), encoding="utf-8")
    artifact = prepare(tmp_path, DataConfig(train=FileSource(path=str(path)), target="label"))
    report = json.loads((artifact.path / "report.json").read_text(encoding="utf-8"))
    assert report["rows_read"] == 30
    assert [notice["code"] for notice in report["notices"]].count("no_target") == 1


def test_an_arff_file_is_read(tmp_path: Path) -> None:
    rows = "\n".join(f"{n},'{'ab'[n % 2]}'" for n in range(20))
    path = tmp_path / "t.arff"
    path.write_text(f"@relation t\n@attribute n numeric\n@attribute c {{a,b}}\n@data\n{rows}\n", encoding="utf-8")
    artifact = prepare(tmp_path, DataConfig(train=FileSource(path=str(path))))
    assert read_schema(artifact.path).names == ("n", "c")
    assert not any(artifact.path.glob("*.csv"))


def test_no_such_target_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    data = DataConfig(train=source(tmp_path / "a.csv", 50), target="lable")
    with pytest.raises(DataError, match=r"a\.csv: .*'lable'.*give another name with --target"):
        prepare(tmp_path, data)


def test_a_broken_arff_file_is_called_by_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "t.arff"
    path.write_text("@relation t\n@attribute n numeric\n@data\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"^{path}: 0 rows"):
        prepare(tmp_path, DataConfig(train=FileSource(path=str(path))))
    assert not list((tmp_path / "run").rglob("*.csv"))


def test_a_column_without_a_value_names_the_file_and_the_key(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n,gone\n" + "".join(f"{n},\n" for n in range(30)), encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.csv: column 'gone' .*--set schema\.drop_all_missing=true"):
        prepare(tmp_path, DataConfig(train=FileSource(path=str(path))))


def test_shares_that_leave_nothing_to_train_on_are_refused(tmp_path: Path) -> None:
    data = {"train": {"kind": "file", "path": "a.csv"}, "validation": 0.6, "test_share": 0.4}
    with pytest.raises(ConfigError, match=r"validation 0\.6 and test_share 0\.4 leave nothing to train on"):
        validate(DataConfig, data, "mine.yaml")
    given = {**data, "validation": 0.95, "test": {"kind": "file", "path": "b.csv"}}
    assert validate(DataConfig, given, "mine.yaml").validation == 0.95
