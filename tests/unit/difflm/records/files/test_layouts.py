"""Layouts: what divides cells, what stands above and below a table, and what is no column is recognised or named."""

from __future__ import annotations

from pathlib import Path

import openpyxl
import pytest

from difflm.artifacts.formats import encode_table
from difflm.errors import DataError
from difflm.records.files.reading import ReadConfig, read_table
from difflm.records.files.source import SourceForm
from difflm.records.notices import Notice

ROWS = {"id": ["1", "2", "3"], "grp": ["x", "y", "z"], "val": ["9", "11", "7"]}


def written(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("sep=;\nid;grp;val\n1;x;9\n2;y;11\n3;z;7\n", None),
        ('"sep=,"\r\nid,grp,val\r\n1,x,9\r\n2,y,11\r\n3,z,7\r\n', None),
        ("id;grp;val\n1;x;9\n2;y;11\n3;z;7\n", "delimiter"),
        ("id\tgrp\tval\n1\tx\t9\n2\ty\t11\n3\tz\t7\n", "delimiter"),
        ("id|grp|val\n1|x|9\n2|y|11\n3|z|7\n", "delimiter"),
        ("id grp val\n1 x 9\n2 y 11\n3 z 7\n", "delimiter"),
        ("id   grp  val\n 1   x     9\n 2   y    11\n 3   z     7\n", "delimiter"),
        ("Report of sales\nprinted on 3 May\n\nid,grp,val\n1,x,9\n2,y,11\n3,z,7\n", "preamble"),
        ("Sales, Europe\n\nid;grp;val\n1;x;9\n2;y;11\n3;z;7\n", "preamble"),
        ("Report of sales;;\n;;\nid;grp;val\n1;x;9\n2;y;11\n3;z;7\n", "preamble"),
        ("\n\nid,grp,val\n\n1,x,9\n2,y,11\n3,z,7\n\n", None),
        ("id,grp,val,\n1,x,9,\n2,y,11,\n3,z,7,\n", None),
        ("id,grp,val\n1,x,9,\n2,y,11,\n3,z,7,\n", "delimiter"),
        ("id,grp,val\n1,x,9\n2,y,11\n3,z,7\n,,\n,,\n", "blank_rows"),
        ("id,grp,val\n1,x,9\nid,grp,val\n2,y,11\n3,z,7\n", "repeated_header"),
        ("'id','grp','val'\n'1','x','9'\n'2','y','11'\n'3','z','7'\n", None),
        ('"id", "grp", "val"\n"1", "x", "9"\n"2", "y", "11"\n"3", "z", "7"\n', None),
        ("id,grp,val\r1,x,9\r2,y,11\r3,z,7\r", None),
    ],
)
def test_a_layout_is_recognised(tmp_path: Path, text: str, code: str | None) -> None:
    notices: list[Notice] = []
    assert read_table(written(tmp_path, text), report=notices.append).to_pydict() == ROWS
    assert code is None or code in {notice.code for notice in notices}


@pytest.mark.parametrize("text", ["Report 2024,\n,\ngrp,val\nx,9\ny,11\n", "Report 2024\n\ngrp,val\nx,9\ny,11\n"])
def test_a_title_above_two_columns_is_no_header(tmp_path: Path, text: str) -> None:
    table = read_table(written(tmp_path, text))
    assert table.to_pydict() == {"grp": ["x", "y"], "val": ["9", "11"]}


def test_a_title_above_two_columns_of_a_sheet_is_no_header(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in (["Report 2024"], [], ["grp", "val"], ["x", 9], ["y", 11]):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    assert read_table(tmp_path / "t.xlsx").to_pydict() == {"grp": ["x", "y"], "val": [9, 11]}


def test_names_of_rows_have_a_column(tmp_path: Path) -> None:
    """As R's write.table leaves them."""
    text = '"grp" "val"\n"1" "x" 9\n"2" "y y" 11\n"3" "z" 7\n'
    table = read_table(written(tmp_path, text, "t.txt"))
    assert table.to_pydict() == {"column_1": ["1", "2", "3"], "grp": ["x", "y y", "z"], "val": ["9", "11", "7"]}


def test_columns_of_a_fixed_width_may_hold_blanks_and_nothing(tmp_path: Path) -> None:
    text = (
        "name        city         age\n"
        "Ann         New York      31\n"
        "Bob Jones   Rome           5\n"
        "Cy                        77\n"
        "Di          Lima          40\n"
    )
    table = read_table(written(tmp_path, text, "t.txt"))
    assert table.column("city").to_pylist() == ["New York", "Rome", None, "Lima"]
    assert table.column("age").to_pylist() == ["31", "5", "77", "40"]


def test_texts_of_as_many_words_are_one_column(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "full name\nJohn Smith\nJane Doe\nAnn Lee\n"))
    assert table.to_pydict() == {"full name": ["John Smith", "Jane Doe", "Ann Lee"]}


def test_decimal_commas_do_not_divide(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "a;b\n1,5;2,5\n3,0;4,5\n"))
    assert table.to_pydict() == {"a": ["1,5", "3,0"], "b": ["2,5", "4,5"]}


def test_lines_can_be_skipped(tmp_path: Path) -> None:
    path = written(tmp_path, "a,b\nc,d\n1,2\n")
    assert read_table(path, ReadConfig(skip=1)).to_pydict() == {"c": ["1"], "d": ["2"]}
    path = written(tmp_path, "title\n1,2\n3,4\n")
    assert read_table(path, ReadConfig(skip=1, header=("x", "y"))).to_pydict() == {"x": ["1", "3"], "y": ["2", "4"]}


def test_a_first_row_of_values_is_named(tmp_path: Path) -> None:
    notices: list[Notice] = []
    read_table(written(tmp_path, "1,2.5,x\n3,4.5,y\n5,6.5,z\n"), report=notices.append)
    (message,) = [notice.message for notice in notices if notice.code == "header"]
    assert "read: {header: [name1, name2, name3]}" in message
    assert "--set data.read.header=" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\nx,1,2\ny,3,4\n", r"row 1: has 2 cells \('a, b'\) and the rows below have 3 .*skip: 1"),
        ("a,b\n1,2\n1,2\n1\n", r"row 4: expected 2 columns, got 1 \('1'\); it is the last one: is the file complete"),
        ("a,b\n1,2\n3,4\n5,6,7\n8,9\n", r"row 4: expected 2 columns, got 3 \('5,6,7'\); put cells that hold"),
        ('a,b\n1,"x\n2,y\n3,z\n', r"row 2, column 2: the quote that opens its cell is never closed"),
        ('"a,b\n1,2\n3,4\n', r"row 1 or below: a quote is never closed"),
    ],
)
def test_what_is_wrong_is_named_with_its_row(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_table(written(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert "t.csv" in str(caught.value)


def test_a_header_of_one_endless_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 1: a column name of 300,001 characters"):
        read_table(written(tmp_path, f"a,b{'x' * 300_000}\n1,2\n"))


def test_ten_megabytes_in_a_cell_are_read(tmp_path: Path) -> None:
    long = "y" * 10_000_000
    table = read_table(written(tmp_path, f"a,b\n1,{long}\n2,z\n"))
    assert table.column("b").to_pylist() == [long, "z"]


def test_a_header_that_could_be_a_row_is_told(tmp_path: Path) -> None:
    rows = [
        f"{number},{('Rome', 'Oslo')[number % 2]},2024-05-{number % 9 + 10},x{number}" for number in range(1000, 1040)
    ]
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    notices: list[Notice] = []
    assert read_table(tmp_path / "t.csv", report=notices.append).num_rows == 39
    (told,) = [notice.message for notice in notices if notice.code == "header"]
    assert "the first row (1000, Rome, 2024-05-11, x1000) is taken as the header, though it looks like values" in told
    assert "read: {header: [name1, name2, name3]}" in told
    for head in ("id,city,day,name", "country,2019,2020,2021"):
        (tmp_path / "t.csv").write_text("\n".join([head, *rows]) + "\n")
        notices.clear()
        read_table(tmp_path / "t.csv", report=notices.append)
        assert ("header" in {notice.code for notice in notices}) == head.startswith("country")


@pytest.mark.parametrize("delimiter", ["\x01", "~", "^"])
def test_rare_delimiters_are_recognised_where_no_other_divides(tmp_path: Path, delimiter: str) -> None:
    text = "".join(delimiter.join(row) + "\n" for row in [("a", "b"), *((str(n), "xyz"[: n % 4]) for n in range(40))])
    (tmp_path / "t.csv").write_text(text)
    table = read_table(tmp_path / "t.csv")
    assert table.column_names == ["a", "b"]
    form = SourceForm.of(table)
    assert form is not None
    assert encode_table(table, "csv", form=form).decode() == text


@pytest.mark.parametrize("name", ["t.csv", "t.xls"])
def test_a_page_of_html_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("<!DOCTYPE html><table><tr><td>1</td></tr></table>")
    with pytest.raises(DataError, match=r"t\.\w+: is a page of HTML, .*; open it in Excel and save it as \.xlsx"):
        read_table(tmp_path / name)


def test_notes_below_the_rows_are_left_out_and_a_cut_row_is_not(tmp_path: Path) -> None:
    rows = "id,city,n\n" + "".join(f"{row},New York,{row % 7}\n" for row in range(30))
    notices: list[Notice] = []
    (tmp_path / "t.csv").write_text(rows + "\n* preliminary figures\nSource: our office\n")
    assert read_table(tmp_path / "t.csv", report=notices.append).num_rows == 30
    (told,) = [notice.message for notice in notices if notice.code == "footer"]
    assert (
        told == "2 lines below the rows are left out ('* preliminary figures', 'Source: our office'), as notes on them"
    )
    for end in ("New Yo", "* a note\n30,Oslo,2\n", "\n30,Oslo\n"):
        (tmp_path / "t.csv").write_text(rows + end)
        with pytest.raises(DataError, match="expected 3 columns"):
            read_table(tmp_path / "t.csv")
