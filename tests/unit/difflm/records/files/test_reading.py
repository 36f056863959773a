"""Reading: every kind of file, odd headers, missing values, and errors that name the row."""

import gzip
import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from difflm.errors import ConfigError, DataError
from difflm.records.files.reading import ReadConfig, read_table
from difflm.records.notices import Notice
from difflm.testing.tables import odd_tables


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "a,b\n1,x\n,y\n"),
        ("t.csv.gz", "a,b\r\n1,x\r\n?,y\r\n"),
        ("t.csv", "\ufeffa,b\n 1 ,x\nNA,y"),
        ("t.tsv", "a\tb\n1\tx\nnull\ty\n"),
        ("t.csv", "\n\na;b\n1;x\n;y\n\n"),
        ("t.txt", "a|b\n1|x\n|y\n"),
        ("t.txt", '"a","b"\n"1","x"\n"","y"\n'),
        ("t.jsonl", '{"a": "1", "b": "x"}\n\n{"b": "y"}\n'),
        ("t.json", '[{"a": "1", "b": "x"}, {"a": null, "b": "y"}]'),
        ("t.json.gz", '{"a": ["1", null], "b": ["x", "y"]}'),
    ],
)
def test_every_kind_of_text_file(tmp_path: Path, name: str, content: str) -> None:
    table = read_table(write(tmp_path / name, content))
    assert table.to_pydict() == {"a": ["1", None], "b": ["x", "y"]}


def test_values_keep_their_spelling(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "t.csv", 'zip,text\n007,"two\nlines, ""quoted"""\n1e5,🙂\n'))
    assert table.to_pydict() == {"zip": ["007", "1e5"], "text": ['two\nlines, "quoted"', "🙂"]}


def test_names_become_unique_and_are_reported(tmp_path: Path) -> None:
    notices: list[Notice] = []
    path = write(tmp_path / "t.csv", 'a,a,,a_2," b ","two\nlines",\n1,2,3,4,5,6,7\n')
    table = read_table(path, report=notices.append)
    assert table.column_names == ["a", "a_3", "column_3", "a_2", "b", "two lines", "column_7"]
    assert table.to_pylist() == [dict(zip(table.column_names, "1234567", strict=True))]
    assert {notice.column for notice in notices if notice.code == "renamed"} == {
        "a_3",
        "column_3",
        "b",
        "two lines",
        "column_7",
    }


def test_one_column_keeps_its_empty_cells(tmp_path: Path) -> None:
    assert read_table(write(tmp_path / "t.csv", "a\n1\n\n3\n")).to_pydict() == {"a": ["1", None, "3"]}


def test_configuration(tmp_path: Path) -> None:
    path = write(tmp_path / "t.data", "39; <=50K.; x; unknown\n40; >50K.; y; z\n")
    config = ReadConfig(
        header=("age", "income", "id", "job"),
        delimiter=";",
        drop=("id",),
        rename={"job": "work"},
        strip_suffix={"income": "."},
        missing=("unknown",),
    )
    notices: list[Notice] = []
    table = read_table(path, config, report=notices.append)
    assert table.to_pydict() == {"age": ["39", "40"], "income": ["<=50K", ">50K"], "work": [None, "z"]}
    assert {notice.code for notice in notices} == {"dropped", "trimmed"}
    chosen = read_table(path, config.model_copy(update={"columns": ("job", "income")}))
    assert chosen.column_names == ["work", "income"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ReadConfig(drop=("z",)), "drop: .*no column 'z'; it has 'a', 'b'"),
        (ReadConfig(rename={"a": "b"}), "rename: .*two columns of the same name"),
        (ReadConfig(strip_suffix={"z": "."}), "strip_suffix: .*no column 'z'"),
        (ReadConfig(encoding="klingon"), "encoding: 'klingon' is not known"),
    ],
)
def test_configuration_errors_name_the_key(tmp_path: Path, config: ReadConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_table(write(tmp_path / "t.csv", "a,b\n1,2\n"), config)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "the file is empty"),
        ("t.csv", b"a,b\n", "0 rows"),
        ("t.csv", b"a,b\n1,2\n1,2,3\n", "row 3: expected 2 columns, got 3"),
        ("t.csv", b"a,b\n1,2\n\xff,2\n", "line 3: byte 0xff is not utf-8; mend it, or set read: {encoding: cp1252}"),
        ("t.csv", b"a,b\n1,\x00\n", "line 2: a zero byte"),
        ("t.jsonl", b'{"a": 1}\n{"a": \n', "line 2: not JSON"),
        ("t.jsonl", b'{"a": 1}\n[2]\n', "line 2: .* is not an object"),
        ("t.jsonl", b"\n", "no rows"),
        ("t.jsonl", b'{"a": "\\ud83d\\ude00"}\n{"a": "\\ud83d"}\n', "line 2: .*ud83d is half of a surrogate pair"),
        ("t.json", b'[{"a": "\\ud83d"}]', "half of a surrogate pair"),
        ("t.json", b'{"a": 1}', "expected a list of objects, got dict"),
        ("t.json", b"[1]", "row 0 is 1, not an object"),
        ("t.json", b'{"a": [1], "b": []}', "different lengths"),
        ("t.json", b'{"a": 1}\n{"a": 2}\n', "Then call it .jsonl"),
        ("t.parquet", b"no", "not a Parquet file"),
        ("t.xlsx", b"x", "not a workbook"),
        ("t.docx", b"x", "unknown kind of file '.docx'; known are .arrow"),
    ],
)
def test_errors_name_file_and_row(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_table(write(tmp_path / name, content))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_broken_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n" * 1000)[:50])
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "t.csv.gz")
    with pytest.raises(DataError, match="is a folder; give a file"):
        read_table(write_folder(tmp_path))


def write_folder(directory: Path) -> Path:
    folder = directory / "folder.csv"
    folder.mkdir()
    return folder


def test_other_encodings(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "name\nJosé\n".encode("latin-1"))
    assert read_table(path, ReadConfig(encoding="latin-1")).to_pydict() == {"name": ["José"]}
    path = write(tmp_path / "u.csv", "name\nŁódź\n".encode("utf-16"))
    assert read_table(path, ReadConfig(encoding="utf-16")).to_pydict() == {"name": ["Łódź"]}


def test_json_types(tmp_path: Path) -> None:
    rows = [
        {"i": 1, "f": 1, "b": True, "m": 1, "n": {"x": [1]}, "big": 2**70},
        {"i": None, "f": 2.5, "b": None, "m": "é", "n": None, "big": 1},
    ]
    notices: list[Notice] = []
    table = read_table(write(tmp_path / "t.json", json.dumps(rows)), report=notices.append)
    assert table.to_pydict() == {
        "i": [1, None],
        "f": [1.0, 2.5],
        "b": [True, None],
        "m": ["1", "é"],
        "n": ['{"x": [1]}', None],
        "big": [str(2**70), "1"],
    }
    assert {(notice.column, notice.code) for notice in notices} == {("m", "mixed"), ("n", "nested")}


def test_parquet_types(tmp_path: Path) -> None:
    table = odd_tables()["typed"].append_column("list", pa.array([[1, 2], None, []] * 10))
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    read = read_table(tmp_path / "t.parquet")
    kinds = {field.name: str(field.type) for field in read.schema}
    assert kinds == {
        "int8": "int64", "float32": "double", "nan": "double", "dictionary": "string", "large": "string",
        "decimal": "string", "list": "string",
    }  # fmt: skip
    assert read.column("float32")[0].as_py() == 0.1
    assert read.column("nan").null_count == 20
    assert read.column("list").to_pylist()[:3] == ["[1, 2]", None, "[]"]


def test_tables_of_many_columns_are_read_in_time_with_their_number_and_endless_ones_refused(tmp_path: Path) -> None:
    def wide(columns: int) -> Path:
        path = tmp_path / f"{columns}.csv"
        names = ",".join(f"c{place}" for place in range(columns))
        path.write_text(f"{names}\n" + "\n".join([",".join(["1"] * columns), ",".join(["2"] * columns)]) + "\n")
        return path

    started = time.process_time()
    assert read_table(wide(8000)).num_columns == 8000
    assert time.process_time() - started < 5  # it was thirty, and four times as many for twice the columns
    with pytest.raises(DataError, match=r"20001\.csv: 20,001 columns; at most 20,000 are read"):
        read_table(wide(20_001))
