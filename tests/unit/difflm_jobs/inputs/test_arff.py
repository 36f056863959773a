"""ARFF becomes CSV with the same values."""

import csv
import gzip
from pathlib import Path

import pytest

from difflm.errors import DataError
from difflm_jobs.inputs.arff import arff_to_csv, is_arff

HEAD = (
    "% a comment\n@relation 'd'\n"
    "@attribute 'home dest' string\n@ATTRIBUTE age numeric\n@attribute \"c\" {a,b}\n"
    "\n@data\n"
)


def convert(tmp_path: Path, text: str) -> list[list[str]]:
    source, target = tmp_path / "t.arff", tmp_path / "t.csv"
    source.write_text(text, encoding="utf-8")
    arff_to_csv(source, target)
    with target.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_quotes_escapes_and_missing_values(tmp_path: Path) -> None:
    rows = convert(tmp_path, HEAD + '"St Louis, MO",29,a\n\'O\\\'Hara "x"\', ?,b\n?,0.5,?\n"?",1,a\n')
    assert rows == [
        ["home dest", "age", "c"],
        ["St Louis, MO", "29", "a"],
        ['O\'Hara "x"', "", "b"],
        ["", "0.5", ""],
        ["?", "1", "a"],
    ]


def test_gzip(tmp_path: Path) -> None:
    source = tmp_path / "t.arff.gz"
    source.write_bytes(gzip.compress((HEAD + "x,1,a\n").encode()))
    assert is_arff(source)
    arff_to_csv(source, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()[1] == "x,1,a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "x,1\n", r"t\.arff, line 8: 2 values for 3 columns"),
        (HEAD + "{0 x, 1 2}\n", r"line 8: sparse ARFF"),
        ("a,b\n1,2\n", "is it ARFF"),
    ],
)
def test_what_is_not_dense_arff_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert(tmp_path, text)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.arff", HEAD.encode() + b"\xff,1,a\n", r"t\.arff: .*byte 0xff.*save it as UTF-8"),
        ("t.arff.gz", b"no gzip", r"t\.arff\.gz: cannot be read"),
        ("t.arff.gz", gzip.compress(HEAD.encode())[:-4], r"t\.arff\.gz: cannot be read"),
    ],
)
def test_what_cannot_be_decoded_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        arff_to_csv(tmp_path / name, tmp_path / "t.csv")
