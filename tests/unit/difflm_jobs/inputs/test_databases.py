"""Tables of databases as what a run reads, and rows back into them; no password is written anywhere."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import difflm
from difflm.errors import ConfigError, DataError
from difflm.records.databases.tables import read_database
from difflm.records.databases.urls import DatabaseUrl
from difflm.records.databases.writing import write_database
from difflm_jobs.cli.inspection import inspected
from difflm_jobs.cli.main import main
from difflm_jobs.cli.submit import submit_job
from difflm_jobs.inputs import databases
from difflm_jobs.inputs.databases import Delivery, from_database, table_or_file
from difflm_jobs.inputs.sources import FileSource
from difflm_jobs.loading import read_settings
from difflm_jobs.rows import database_rows
from difflm_jobs.rows.database_rows import deliver_rows
from difflm_jobs.stages.evaluate import evaluate_files

PEOPLE = pa.table({"age": pa.array([31, 45, None], pa.int64()), "city": ["Rome", "Oslo", "Lima"]})
WITH_PASSWORD = "postgresql://ann:s3cret-w0rd@host/sales?table=people"


@pytest.fixture
def people(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'a.db'}?table=people"
    write_database(PEOPLE, DatabaseUrl.parse(url))
    return url


def test_a_table_is_laid_down_beside_its_run_and_its_origin(tmp_path: Path, people: str) -> None:
    given, asked = from_database(people, {"name": None, "target": "age"}, tmp_path / "runs")
    path = Path(given)
    assert path.parent == tmp_path / "runs" / "people" / "input"
    assert asked == {"name": "people", "target": "age"}
    assert pq.read_table(path).equals(PEOPLE)
    about = json.loads(path.with_suffix(".json").read_text())
    assert (about["from"], about["rows"]) == (people, 3)
    again, named = from_database(people, {"name": "other"}, tmp_path / "runs")
    assert (Path(again).name, Path(again).parent.parent.name, named["name"]) == (path.name, "other", "other")
    assert read_settings(given, **asked).merged["data"]["train"] == given


def test_other_rows_are_another_file(tmp_path: Path, people: str) -> None:
    first = table_or_file(people, tmp_path / "run")
    difflm.write_table(PEOPLE, f"{people}&if_exists=append")
    assert table_or_file(people, tmp_path / "run") != first
    assert table_or_file("people.csv", tmp_path / "run") == "people.csv"


def test_what_is_no_database_stays_as_it_was(tmp_path: Path) -> None:
    assert from_database("people.csv", {"name": None}, tmp_path) == ("people.csv", {"name": None})


@pytest.mark.parametrize(
    "refused",
    [
        lambda: read_settings(WITH_PASSWORD),
        lambda: FileSource(path=WITH_PASSWORD),
        lambda: read_settings("adult", overrides=[f"data.train={WITH_PASSWORD}"]).experiment(),
        lambda: submit_job(["run", WITH_PASSWORD], {}, address="http://x", wait=True),
        lambda: submit_job(["synthesize", "b", f"--out={WITH_PASSWORD}"], {}, address="http://x", wait=True),
        lambda: difflm.load(WITH_PASSWORD),
    ],
)
def test_where_it_would_be_written_down_a_url_is_refused_without_its_password(refused: Any) -> None:
    with pytest.raises(ConfigError, match=r"postgresql://\.\.\. is a database") as caught:
        refused()
    assert "s3cret" not in str(caught.value)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What `deliver_rows` looks at of a request."""

    out: str
    format: str | None = None
    real: object = None


@dataclass(frozen=True, kw_only=True)
class Written:
    """What it looks at of the result."""

    where: str


@pytest.fixture
def delivery(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Rows without a bundle: they are there at once; returns the files that were asked for."""
    asked: list[Path] = []

    def write_rows(wanted: Wanted, **_: Any) -> Written:
        asked.append(Path(wanted.out))
        with pa.ipc.new_file(wanted.out, PEOPLE.schema) as file:
            file.write_table(PEOPLE)
        return Written(where=wanted.out)

    monkeypatch.setattr(database_rows, "write_rows", write_rows)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    return asked


def deliver(wanted: Wanted) -> Any:
    return deliver_rows(wanted, overrides=(), audience=None)  # type: ignore[arg-type]


def test_rows_go_into_a_table_by_way_of_one_file(tmp_path: Path, delivery: list[Path]) -> None:
    out = f"sqlite:///{tmp_path / 'b.db'}?table=synthetic"
    assert deliver(Wanted(out=out)).where == out
    assert read_database(DatabaseUrl.parse(out)).equals(PEOPLE)
    (file,) = delivery
    assert not file.exists()
    assert file.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(ConfigError, match="there is such a table"):
        deliver(Wanted(out=out))
    assert len(delivery) == 1  # refused before anything was drawn
    deliver(Wanted(out=f"{out}&if_exists=append"))
    assert read_database(DatabaseUrl.parse(out)).num_rows == 6


def test_what_does_not_go_with_a_database_is_refused(tmp_path: Path, delivery: list[Path]) -> None:
    out = f"sqlite:///{tmp_path / 'b.db'}?table=synthetic"
    with pytest.raises(ConfigError, match=r"--format csv: .* is a database, whose tables have no format"):
        deliver(Wanted(out=out, format="csv"))
    with pytest.raises(ConfigError, match="--evaluate and a database do not go together"):
        deliver(Wanted(out=out, real=object()))
    with pytest.raises(ConfigError, match=r"rows are written to a table; give \?table=NAME"):
        deliver(Wanted(out=f"sqlite:///{tmp_path / 'b.db'}?query=SELECT 1"))
    assert delivery == []


def test_rows_that_a_database_refuses_are_kept(
    tmp_path: Path, delivery: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise DataError("the disk of the server is full")

    monkeypatch.setattr("difflm.records.databases.writing.write_database", refuse)
    with pytest.raises(DataError, match=r"server is full; the rows are kept in /.*rows-\w+\.arrow"):
        deliver(Wanted(out=f"sqlite:///{tmp_path / 'b.db'}?table=synthetic"))
    (file,) = delivery
    assert file.exists()


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 12345)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ConfigError, match="belongs to another user"):
        Delivery.to(f"sqlite:///{tmp_path / 'b.db'}?table=a", asked_by="x", format_=None)


def test_a_link_is_not_used_and_an_open_folder_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    url = f"sqlite:///{tmp_path / 'b.db'}?table=a"
    folder = tmp_path / f"difflm-rows-{os.getuid()}"
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is no folder"):
        Delivery.to(url, asked_by="x", format_=None)
    folder.unlink()
    folder.mkdir(mode=0o755)
    assert Delivery.to(url, asked_by="x", format_=None).file.parent == folder
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_frame_is_written_from_python(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'c.db'}?table=rows"
    difflm.write_table(PEOPLE.to_pandas(), url)
    assert read_database(DatabaseUrl.parse(url))["city"].to_pylist() == ["Rome", "Oslo", "Lima"]
    with pytest.raises(ConfigError, match=r"'rows\.csv' is no URL of a database"):
        difflm.write_table(PEOPLE, "rows.csv")
    assert databases.write_table is difflm.write_table


ONLY_SHAPE = dict.fromkeys(("detection", "fidelity", "utility", "privacy", "membership", "projection"))


@pytest.fixture
def longer(tmp_path: Path) -> str:
    """A table of 60 rows in a database, and the same as a file, a.parquet."""
    table = pa.table({"age": list(range(60)), "city": ["Rome", "Oslo", "Lima"] * 20})
    pq.write_table(table, tmp_path / "a.parquet")
    url = f"sqlite:///{tmp_path / 'longer.db'}?table=people"
    write_database(table, DatabaseUrl.parse(url))
    return url


def test_what_is_inspected_may_be_in_a_database(
    tmp_path: Path, longer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of_file = inspected(tmp_path / "a.parquet", target=None, overrides=())
    assert inspected(longer, target=None, overrides=()).lines == of_file.lines
    monkeypatch.setattr("sys.argv", ["difflm", "inspect", longer, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["table"] == longer


def test_what_is_evaluated_may_be_in_a_database(tmp_path: Path, longer: str) -> None:
    whole = longer.replace("table=people", "query=SELECT * FROM people WHERE age < 50")
    from_python = difflm.evaluate(whole, train=tmp_path / "a.parquet", test=longer, config=ONLY_SHAPE)
    switched_off = [f"evaluation.{name}=null" for name in ONLY_SHAPE]
    report = evaluate_files(whole, train=longer, test=longer, target=None, out=tmp_path / "out", overrides=switched_off)
    assert report.score("shape_error").value == from_python.score("shape_error").value
    assert from_python.title == f"{DatabaseUrl.parse(whole)} against {tmp_path / 'a.parquet'}"
    assert "query=..." in (tmp_path / "out" / "report.json").read_text()
    with pytest.raises(ConfigError, match=r"--kind tools: sqlite:///.*longer\.db\?table=people is a database"):
        evaluate_files(longer, train=longer, test=None, target=None, out=tmp_path, overrides=(), kind="tools")


def test_errors_about_a_database_name_it_without_its_password(tmp_path: Path, longer: str) -> None:
    absent = longer.replace("table=people", "table=peopel")
    for ask in (lambda: inspected(absent, target=None, overrides=()), lambda: difflm.evaluate(PEOPLE, train=absent)):
        with pytest.raises(DataError, match=r"table=peopel: there is no table 'peopel'; did you mean 'people'"):
            ask()
    unreachable = "postgresql://ann:s3cret-w0rd@127.0.0.1:1/sales?table=people"
    with pytest.raises(DataError, match=r"postgresql://ann@127\.0\.0\.1:1/sales\?table=people: ") as caught:
        difflm.evaluate(PEOPLE, train=unreachable)
    assert "s3cret" not in str(caught.value)


URLS = [
    WITH_PASSWORD,
    "postgre://ann:s3cret@w0rd@host/sales?table=people",
    "postgresql+psycopg2-binary://ann:s3cret/w0rd@host/sales?table=people",
    "https://ann:s3cret@host/people.csv",
    "s3://KEY:s3cret@bucket/people.csv",
    "jdbc:postgresql://host/sales?user=ann&password=s3cret",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(
    "verb",
    [["show"], ["run"], ["inspect"], ["synthesize", "--rows=1", "--out=rows.csv"], ["impute", "--out=a.csv", "b"]],
)
def test_a_url_where_a_path_is_meant_is_shown_without_its_password(
    verb: list[str], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["difflm", *verb, url])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("error: ")
    assert "s3cret" not in said
