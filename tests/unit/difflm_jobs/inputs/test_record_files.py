"""Files of records: parts of datasets, folders, and `evaluate` on them; errors that name the file and the record."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from difflm.artifacts.dataset import DATASET_MANIFEST, JOB_NAME, Dataset
from difflm.artifacts.formats import FORMATS, encode_table
from difflm.artifacts.storage import LocalStore
from difflm.errors import DataError
from difflm.records.files.reading import ReadConfig
from difflm.records.notices import ignore
from difflm_jobs.inputs.record_files import read_records
from difflm_jobs.stages.evaluate import evaluate_files

FEW = ("detection", "fidelity", "utility", "privacy", "membership", "projection")
TRAIN = "age,job\n" + "".join(f"{20 + n % 30},{'abc'[n % 3]}\n" for n in range(60))


def _read(path: Path) -> pa.Table:
    return read_records(path, "table", ReadConfig(), ignore)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_dataset_is_read_in_order_and_without_what_does_not_count(tmp_path: Path, format_: str) -> None:
    rows = pa.table({"x": list(range(5)), "t": ["a", "b\nc", None, "d", "e"]})
    dataset = Dataset(store=LocalStore(tmp_path), format=format_)
    dataset.write_json(JOB_NAME, {"format": format_})
    dataset.commit(2, 5, rows.slice(2), account={})
    dataset.commit(0, 2, rows.slice(0, 2), account={})
    dataset.give_up(5, 9, "none drawn", account={})
    dataset.store.write(f"data/part-000000009-000000012.{format_}", encode_table(rows, format_))  # its entry never came
    with pytest.raises(DataError, match="the dataset is not finished"):
        _read(tmp_path)
    dataset.write_json(DATASET_MANIFEST, {})
    read = _read(tmp_path)
    assert [int(value) for value in read.column("x").to_pylist()] == [0, 1, 2, 3, 4]
    assert read.column("t").to_pylist() == ["a", "b\nc", None, "d", "e"]


def test_files_of_a_folder_are_one_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a folder without records"):
        _read(tmp_path)
    (tmp_path / "b.jsonl").write_text('{"y": "z", "x": "many"}\n')
    (tmp_path / "a.jsonl").write_text('{"x": 1, "y": "w"}\n')
    (tmp_path / ".hidden").write_text("")
    assert _read(tmp_path).to_pydict() == {"x": ["1", "many"], "y": ["w", "z"]}
    (tmp_path / "c.jsonl").write_text('{"x": 1}\n')
    with pytest.raises(DataError, match=r"c\.jsonl: other columns than .*a\.jsonl has"):
        _read(tmp_path)
    (tmp_path / "d.csv").write_text("x\n1\n")
    with pytest.raises(DataError, match="files of several kinds"):
        _read(tmp_path)


def test_arff_and_damaged_arrow_files(tmp_path: Path) -> None:
    arff, arrow = tmp_path / "t.arff", tmp_path / "t.arrow"
    arff.write_text("@relation r\n@attribute x numeric\n@data\n1\n?\n")
    assert _read(arff).to_pydict() == {"x": ["1", None]}
    arrow.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"t\.arrow: is Parquet, not what its name says"):
        _read(arrow)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("made.csv", lambda text: text.replace("27,", "x,", 1), r"made\.csv: .*the first 'x' in record 8"),
        (
            "test.csv",
            lambda text: text.replace("20,", "x,"),
            r"test\.csv: .*: 2 of 60 cells .* the first 'x' in record 1;",
        ),
        ("made.csv", lambda text: text.replace("age,job", "a,j"), r"made\.csv: no column 'age', 'job', which"),
        ("train.csv", lambda text: text.replace("20,", "inf,"), r"train\.csv: real training .*'inf' in record 1;"),
        (
            "train.csv",
            lambda _: "age,job\n,b\n,c\n",
            r"train\.csv: column 'age' has no value.*--set schema\.drop_all_missing=true",
        ),
    ],
)
def test_what_cannot_be_scored_is_named_with_its_file(
    tmp_path: Path, file: str, change: Callable[[str], str], message: str
) -> None:
    made, train, test = (tmp_path / name for name in ("made.csv", "train.csv", "test.csv"))
    for path in (made, train, test):
        path.write_text(change(TRAIN) if path.name == file else TRAIN)
    with pytest.raises(DataError, match=message):
        evaluate_files(made, train=train, test=test, target=None, out=tmp_path / "out", overrides=())
    assert not (tmp_path / "out").exists()


def test_what_is_not_taken_as_it_is_gets_said(tmp_path: Path) -> None:
    made, train = tmp_path / "made.parquet", tmp_path / "train.csv"
    train.write_text(TRAIN)
    ages = [float("inf") if n == 3 else 20.0 + n for n in range(20)]
    pq.write_table(pa.table({"age": ages, "job": ["a"] * 20, "id": list(range(20))}), made)
    told: list[str] = []
    overrides = [f"evaluation.{part}=null" for part in FEW]
    out = tmp_path / "out"
    report = evaluate_files(made, train=train, test=None, target=None, out=out, overrides=overrides, tell=told.append)
    assert report.rows["synthetic"] == 20
    assert told == [
        f"{made}: column 'age': 1 infinite values count as missing",
        f"{made}: column 'id' is not in the training table, and is left out",
    ]
    page = (out / "report.html").read_text()
    assert '<td class="key">null</td>' in page  # a setting, in the words of a configuration
    assert "None" not in page
