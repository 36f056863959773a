"""Large tables are read as small ones are: the same values, notices and form."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from difflm.errors import DataError
from difflm.records.files.reading import ReadConfig, read_table
from difflm.records.files.source import SourceForm
from difflm.records.large import delimited, reading
from difflm.records.large.encoded import decoded, has_encoded
from difflm.records.notices import Notice

ROWS = 3_000


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LARGE", 0)
    monkeypatch.setattr(reading, "LARGE_CELLS", 0)
    monkeypatch.setattr(delimited, "_BLOCK", 2**12)
    monkeypatch.setattr(delimited, "_PIECE", 2**13)


def table() -> pa.Table:
    random = np.random.default_rng(0)
    words = [" red", "red ", "NA", "?", "blue", "DE", "x\ty"]
    return pa.table(
        {
            "whole": random.integers(-5, 300, ROWS),
            "decimal": np.round(random.lognormal(3, 1, ROWS), 2),
            "word": [words[place] for place in random.integers(0, len(words), ROWS)],
            "country": [("NA", "DE", "FR")[place] for place in random.integers(0, 3, ROWS)],
            "own": [f"row {place}" for place in range(ROWS)],
            "gap": [None if place % 3 else place % 7 for place in range(ROWS)],
            "": [str(place % 2) for place in range(ROWS)],
            "word ": ["1.50" if place % 2 else "2.25" for place in range(ROWS)],
            "flag": [place % 2 == 0 for place in range(ROWS)],
        }
    )


def write_csv(path: Path, made: pa.Table) -> Path:
    pa.csv.write_csv(made, path, pa.csv.WriteOptions(quoting_style="none"))
    return path


def same(path: Path, config: ReadConfig | None = None, *, encoded: bool = True) -> None:
    """Compare both ways of reading."""
    plain_notices: list[Notice] = []
    notices: list[Notice] = []
    plain = read_table(path, config, report=plain_notices.append)
    large = reading.read_large_table(path, config, report=notices.append)
    assert has_encoded(large) == encoded
    for name in plain.column_names:
        assert decoded(large.column(name)).equals(plain.column(name)), name
        assert decoded(large.column(name)).type == plain.column(name).type
    assert large.column_names == plain.column_names
    assert [notice.model_dump() for notice in notices] == [notice.model_dump() for notice in plain_notices]
    assert SourceForm.of(large) == SourceForm.of(plain)


@pytest.mark.parametrize(
    "config",
    [
        None,
        ReadConfig(missing=("red", "1.50"), strip_suffix={"own": "0"}),
        ReadConfig(drop=("gap",), rename={"word": "colour"}, trim=False),
        ReadConfig(missing_in={"country": ("NA",)}),
    ],
)
def test_a_large_csv_is_read_like_a_small_one(tmp_path: Path, config: ReadConfig | None) -> None:
    same(write_csv(tmp_path / "t.csv", table()), config)


@pytest.mark.parametrize("most", [2, 100])
def test_columns_of_many_values_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(delimited, "MAX_VALUES", most)
    same(write_csv(tmp_path / "t.csv", table()))


def test_a_large_parquet_file_is_read_like_a_small_one(tmp_path: Path) -> None:
    typed = table().append_column("small", pa.array([0.1, None, float("inf"), float("nan"), -0.0] * 600, pa.float32()))
    pq.write_table(typed, tmp_path / "t.parquet", row_group_size=700)
    same(tmp_path / "t.parquet")
    same(tmp_path / "t.parquet", ReadConfig(missing=("NA", "?"), rename={"whole": "number"}))


def changed(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(change(path.read_bytes())) and None


@pytest.mark.parametrize(
    ("change", "encoded"),
    [
        (changed(lambda data: data + data[: data.index(b"\n") + 1]), False),  # the header once more
        (changed(lambda data: data + b",,,,,,,,\n"), False),  # an empty row
        (changed(lambda data: b"\xef\xbb\xbf" + data), False),
        (changed(lambda data: data.replace(b"blue", b"bl\xfce")), False),  # cp1252
        (changed(lambda data: data.replace(b"decimal", b"d\xe9cimal", 1)), False),  # of the header alone
        (changed(lambda data: data.replace(b"\n", b"\r").replace(b"blue", b'"bl\nue"')), False),
        (changed(lambda data: data.replace(b"blue", b'"bl,\n""ue"')), True),
        (changed(lambda data: data.replace(b"blue", "bl\u00fce".encode())), True),
        (changed(lambda data: data.replace(b"\n", b"\r\n")), True),
        (changed(lambda data: data.rstrip(b"\n")), True),  # no line end
        (changed(lambda data: data.replace(b",", b";")), True),
        (changed(lambda data: b"a title\n\n" + data.replace(b'"word "', b'"more"')), True),
    ],
)
def test_an_odd_file_is_read_the_same(tmp_path: Path, change: Callable[[Path], None], *, encoded: bool) -> None:
    path = write_csv(tmp_path / "t.csv", table())
    change(path)
    same(path, encoded=encoded)


@pytest.mark.parametrize("row", [b"1,2\n", b'"open,1,1,1,1,1,1,1,1\n', b"1\x00,1,1,1,1,1,1,1,1\n"])
def test_a_broken_file_is_refused_in_the_same_words(tmp_path: Path, row: bytes) -> None:
    path = write_csv(tmp_path / "t.csv", table())
    path.write_bytes(path.read_bytes() + row)
    with pytest.raises(DataError) as small:
        read_table(path)
    with pytest.raises(DataError) as large:
        reading.read_large_table(path)
    assert str(large.value) == str(small.value)
