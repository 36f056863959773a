"""`difflm protocol` from outside: what is refused, the protocol's splits and configuration, scores of two files."""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from difflm_jobs.cli.main import main
from difflm_jobs.inputs.places import refuse_others
from difflm_jobs.loading import load_experiment
from difflm_jobs.studies import protocol as study

SHOPPERS = (
    "Administrative,Administrative_Duration,Informational,Informational_Duration,ProductRelated,"
    "ProductRelated_Duration,BounceRates,ExitRates,PageValues,SpecialDay,Month,OperatingSystems,Browser,Region,"
    "TrafficType,VisitorType,Weekend,Revenue"
)


def data_folder(folder: Path, rows: int = 60) -> Path:
    """A small table with the columns of Shoppers where its preset looks for it."""
    random = np.random.default_rng(0)
    lines = [SHOPPERS]
    for _ in range(rows):
        numbers = [*random.integers(0, 50, 6), *random.random(4).round(3)]
        codes = ["May" if random.random() < 0.5 else "Nov", *random.integers(1, 3, 4), "New_Visitor"]
        truth = ["TRUE" if random.random() < 0.5 else "FALSE" for _ in range(2)]
        lines.append(",".join(str(cell) for cell in (*numbers, *codes, *truth)))
    (folder / "shoppers").mkdir(parents=True)
    file = folder / "shoppers" / "online_shoppers_intention.csv.gz"
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["difflm", "protocol", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["adlt", "--synthetic", "x.csv"], "did you mean 'adult'?"),
        (["adult"], "either --synthetic FILE or --run RUN"),
        (["adult", "--synthetic", "x.csv", "--run", "y"], "either --synthetic FILE or --run RUN"),
        (["--synthetic", "x.csv"], "by its name, or --train and --test"),
        (["--synthetic", "x.csv", "--train", "y.csv"], "--train and --test go together"),
        (["adult", "--synthetic", "x.csv", "--target", "sex"], "adult: its target and kinds are the protocol's"),
        (["--prepare", "there"], "give the table by its name"),
        (["adult", "--run", "nowhere"], "nowhere: no such run"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    told = capsys.readouterr().err.strip()
    assert message in told
    assert told.startswith("error: ")
    assert "\n" not in told


def test_the_splits_and_a_configuration_with_the_protocols_kinds_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIFFLM_DATA", str(data_folder(tmp_path / "data")))
    assert run(monkeypatch, "shoppers", "--prepare", tmp_path / "out") == 0
    told = capsys.readouterr()
    assert "54 and 6 rows" in told.err
    path = tmp_path / "out" / "shoppers.yaml"
    assert f"train with difflm run {path}" in told.out
    experiment = load_experiment(str(path))
    assert experiment.data.target == "Revenue"
    coded = ["OperatingSystems", "Browser", "Region", "TrafficType"]
    assert experiment.schema_.kinds == dict.fromkeys(coded, "categorical")
    train, test = (study.read_rows(tmp_path / "out" / f"shoppers_{role}.csv") for role in ("train", "test"))
    assert (train.num_rows, test.num_rows) == (54, 6)
    rows = [tuple(row.values()) for part in (train, test) for row in part.to_pylist()]
    whole = gzip.decompress((tmp_path / "data/shoppers/online_shoppers_intention.csv.gz").read_bytes()).decode()
    assert sorted(",".join(row) for row in rows) == sorted(whole.splitlines()[1:])
    assert run(monkeypatch, "shoppers", "--prepare", tmp_path / "out") == 0
    path.write_text("name: mine")  # such as `difflm init shoppers.csv` wrote
    assert run(monkeypatch, "shoppers", "--prepare", tmp_path / "out") == 2
    assert "shoppers.yaml: is there already, with something else in it" in capsys.readouterr().err
    assert path.read_text() == "name: mine"


def test_two_files_are_scored_and_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    for name, rows in (("train", 80), ("test", 40), ("made", 80)):
        columns = (random.normal(size=rows), random.integers(0, 3, rows), random.choice(["a", "b"], rows))
        lines = ["x,code,y", *(",".join(map(str, row)) for row in zip(*columns, strict=True))]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    files = ["--train", tmp_path / "train.csv", "--test", tmp_path / "test.csv", "--synthetic", tmp_path / "made.csv"]
    kinds = ["--target", "y", "--categorical", "code"]
    assert run(monkeypatch, *files, *kinds, "--out", tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert "C2ST, XGBoost" in told
    assert "default XGBClassifier" in told
    assert "TabSyn" not in told  # nobody printed figures of this table
    refuse_others(tmp_path / "out", "protocol")  # and it may be given again
    report = json.loads((tmp_path / "out" / "protocol.json").read_bytes())
    assert report["kinds"] == {"x": "numeric", "code": "category", "y": "category"}
    assert report["about"]["synthetic rows"] == str(tmp_path / "made.csv")
    missing = [*files[:4], "--synthetic", tmp_path / "none.csv"]
    assert run(monkeypatch, *missing, "--out", tmp_path / "out") == 2
    assert "none.csv" in capsys.readouterr().err


def test_a_runs_own_splits_are_its_training_and_validation_rows_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from difflm_jobs.inputs import given_tables

    for name, rows in (("train", 8), ("validation", 1), ("test", 3)):
        pq.write_table(pa.table({"x": list(range(rows))}), tmp_path / f"{name}.parquet")
    monkeypatch.setattr(given_tables, "_prepared", lambda _: tmp_path)
    real = study.run_tables(tmp_path)
    assert real is not None
    assert (real.train.num_rows, real.test.num_rows) == (9, 3)
    monkeypatch.undo()
    assert study.run_tables(tmp_path / "a bundle") is None


def test_as_many_rows_are_drawn_from_a_run_as_it_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)

    def table(rows: int) -> pa.Table:
        return pa.table({"x": random.normal(size=rows), "y": random.choice(["a", "b"], rows).tolist()})

    for name, rows in (("train", 80), ("validation", 10), ("test", 40)):
        pq.write_table(table(rows), tmp_path / f"{name}.parquet")
    asked: list[int] = []

    def draw(bundle: Path, rows: int, *, out: Path, **_: object) -> Path:
        assert bundle == tmp_path
        asked.append(rows)
        pq.write_table(table(rows), tmp_path / "made.parquet")
        return tmp_path / "made.parquet"

    monkeypatch.setattr("difflm_jobs.inputs.given_tables._prepared", lambda _: tmp_path)
    monkeypatch.setattr("difflm_jobs.experiment.find_experiment", lambda *_: tmp_path)
    monkeypatch.setattr(study, "sample_rows", draw)
    assert run(monkeypatch, "--run", "mine", "--target", "y", "--out", tmp_path / "out") == 0
    assert asked == [90]
    report = json.loads((tmp_path / "out" / "protocol.json").read_bytes())
    assert report["rows"] == {"synthetic": 90, "real training": 90, "real test": 40}
    assert "its training and validation rows" in report["about"]["real tables"]
