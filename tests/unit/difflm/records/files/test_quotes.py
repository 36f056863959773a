"""Quotes, ends and odd beginnings of delimited files: they come back as they were, or are told in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from difflm.artifacts.formats import encode_table
from difflm.errors import DataError
from difflm.records.files.reading import read_table
from difflm.records.files.source import SourceForm
from difflm.records.kinds.columns import conform_table
from difflm.records.kinds.inference import infer_schema
from difflm.records.notices import Notice
from difflm.records.schema import SchemaConfig

ROWS = 20


def there_and_back(path: Path) -> bytes:
    """Read a file and write its rows as made ones are; parts of a data set are read again."""
    table = read_table(path)
    schema = infer_schema(table, config=SchemaConfig(drop_all_missing=True))
    read = SourceForm.of(table)
    assert read is not None
    form = read.kept(schema, list[Notice]().append, columns=table.column_names)
    assert SourceForm.parsed_json(form.dumped(), "form") == form
    rows = conform_table(table, schema)
    written = encode_table(rows, "csv", form=form)
    parts = form.parsed(written, "csv", rows.schema)
    assert parts is not None
    assert conform_table(parts, schema).equals(rows)
    return written


def notices_of(path: Path) -> list[Notice]:
    notices: list[Notice] = []
    read_table(path, report=notices.append)
    return notices


@pytest.mark.parametrize(
    "text",
    [
        "a,b,c\n" + '"",1,x\n"k",2,y\n' * ROWS,
        '"a","b"\n' + '"","1"\n"k","2"\n' * ROWS,
        "a,b,c\n" + '1,"",x\n2,"",y\n' * ROWS,
        '"a","b"\n' + '"NA",1\n"k",2\n' * ROWS,
        '"a","b"\n' + 'NA,1\n"k",2\n' * ROWS,
        "a,b\n" + 'NULL,1\n"k",2\n' * ROWS,
        "a,b\n" + '"NULL",1\n"k",2\n' * ROWS,
        "a,b\n" + '\\N,1\n"k",2\n' * ROWS,
        "a,b\n" + "1,2,\n3,4,\n" * ROWS,
        "a,b,\n" + "1,2,\n3,4,\n" * ROWS,
        "a,b\n" + '"x \\" y",1\n"k\\\\l",2\n' * ROWS,
        "a,b\n" + '"C:\\x\\",1\n"k, l",2\n' * ROWS,
        "a,b\n" + "\\N,x\n1,y\n2,z\n" * ROWS,
    ],
)
def test_quotes_and_ends_come_back(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text, newline="")
    assert there_and_back(tmp_path / "t.csv").decode() == text


def test_quotes_behind_a_backslash_are_quotes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + '"x \\"y\\" z",1\n' * ROWS)
    assert read_table(tmp_path / "t.csv").column("a")[0].as_py() == 'x "y" z'


def test_quotes_that_close_early_are_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + '"x" y,1\nk,2\n' * ROWS)
    (notice,) = notices_of(tmp_path / "t.csv")
    assert notice.code == "quotes"
    assert '"x" y' in notice.message
    (tmp_path / "t.csv").write_text("a,b\n" + '"x ""y""",1\nsay "k",2\n"l\nm",3\n"o,""p"" q",4\n,5\n"",6\n' * ROWS)
    assert notices_of(tmp_path / "t.csv") == []


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_end_of_a_cut_file_is_no_note(tmp_path: Path, end: str) -> None:
    (tmp_path / "t.csv").write_text(end.join(["a,b,c", *["1,x,2.5"] * 40, "1"]), newline="")
    with pytest.raises(DataError, match=r"row 42: .*it is the last one: is the file complete\?"):
        read_table(tmp_path / "t.csv")


def test_a_second_file_behind_the_first_repeats_header_and_mark(tmp_path: Path) -> None:
    one = "\ufeffid,name\n" + "1,x\n2,y\n" * ROWS
    (tmp_path / "t.csv").write_text(one + one)
    assert read_table(tmp_path / "t.csv").num_rows == 4 * ROWS
    assert [notice.code for notice in notices_of(tmp_path / "t.csv")] == ["repeated_header"]


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("user:shell\n" + "root:sh\nme:zsh\n" * ROWS, "--set data.read.delimiter="),
        ("a   b   c\n" + "1   x   3\n22  yy  4\n" * ROWS + "5  ", "--set data.read.delimiter="),
    ],
)
def test_lines_that_nothing_known_divides_are_told(tmp_path: Path, text: str, remedy: str) -> None:
    (tmp_path / "t.txt").write_text(text)
    notices = [notice for notice in notices_of(tmp_path / "t.txt") if notice.code == "delimiter"]
    assert len(notices) == 1
    assert remedy in notices[0].message


def test_one_column_is_nothing_to_tell(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("remark\n" + "opens at 12:30\ncloses: never\n" * ROWS)
    assert notices_of(tmp_path / "t.txt") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"a": 1}]', r"is JSON, not what its name says; let the name end in \.json or \.jsonl"),
        (b'{"a": 1}\n{"a": 2}\n', r"is JSON, not what its name says; let the name end in \.jsonl or \.json"),
        (b"%PDF-1.7 ...", r"is a PDF document, not what its name says; save the table"),
        (b"a,b", r"one line without an end; give a header line and at least one row"),
    ],
)
def test_what_is_no_table_of_text_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "t.csv")
