"""CSV that somebody opens in a spreadsheet: no text of a model becomes a formula, and numbers stay numbers."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import time
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from difflm.artifacts.formats import FORMATS, decode_table, encode_table, harmless
from difflm.errors import DataError, SchemaError
from difflm.records.files.dialects import Dialect
from difflm.records.files.reading import read_table
from difflm.records.files.sheets import WorkbookForm
from difflm.records.files.source import SourceForm
from difflm.records.workbook_process import formats_of
from difflm_jobs.pipeline.mapping import export

PAGE = Path(__file__).resolve().parents[2] / "platform" / "difflm" / "serving" / "page"
FORMULAS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =1+1",
    '=HYPERLINK("http://x","y")',
    "\uff1d1+1",
    "\u200b=1",
]
LATER = {
    "a,=1": "a,'=1",
    "a, @b": "a, '@b",
    "x;=1+1": "x;'=1+1",
    "x\t=1": "x\t'=1",
    "a; @b;c": "a; '@b;c",
    "=1;+2": "'=1;'+2",
    "x\n\uff0d2": "x\n'\uff0d2",
}
MANY = b"<number:text%s/>" % b"".join(b" a%d=''" % place for place in range(20_000))
NUMBERS = ["-5", "+3", "-1.5e-3", "-.5", "0"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_gets_an_apostrophe(text: str) -> None:
    table = pa.table(
        {"=name": [text], "number": [-5], "share": [-0.5], "flag": [True], "none": pa.nulls(1, pa.string())}
    )
    content = encode_table(table, "csv", safe_csv=True).decode()
    names, cells = csv.reader(io.StringIO(content, newline=""))
    assert names == ["'=name", "number", "share", "flag", "none"]
    assert cells[0][0] == "'"
    assert cells[0].replace("'", "") == text.replace("'", "")
    assert cells[1:] == ["-5", "-0.5", "true", ""]
    (_, plain) = csv.reader(io.StringIO(encode_table(table, "csv").decode(), newline=""))
    assert plain[0] == text, "what programs read again is as it was, unless asked for"


@pytest.mark.parametrize("text", LATER)
def test_a_formula_behind_what_may_divide_cells_gets_one_too(text: str) -> None:
    """A spreadsheet of most of Europe divides at semicolons, where no quotes are."""
    assert harmless(text) == LATER[text]


def test_what_stands_for_missing_is_no_formula_either(tmp_path: Path) -> None:
    """It is of the source's form, which a bundle brings along."""
    table = pa.table({name: pa.array([None, "x"], pa.string()) for name in "abc"} | {"n": pa.array([None, 1])})
    form = SourceForm(dialect=Dialect(delimiter=";", missing={"a": "=1+1", "b": "-", "c": "@;x", "n": "=2\n=3"}))
    content = encode_table(table, "csv", safe_csv=True, form=form)
    (_, row, _) = csv.reader(io.StringIO(content.decode(), newline=""), delimiter=";")
    assert row == ["'=1+1", "-", "'@;x", "'=2\n'=3"]
    read = form.parsed(content, "csv", table.schema)
    assert read is not None
    assert read.slice(0, 1).to_pylist() == [dict.fromkeys("abc") | {"n": "'=2\n'=3"}]
    plain = form.parsed(encode_table(table, "csv", form=form), "csv", table.schema)
    assert plain is not None
    assert plain.slice(0, 1).to_pylist() == [dict.fromkeys("abcn")]


def test_numbers_and_ordinary_texts_stay_as_they_are() -> None:
    for text in [*NUMBERS, "", "a=b", "Oslo", "'quoted", "1-2", "x@y"]:
        assert harmless(text) == text


@given(st.text(max_size=30))
def test_no_text_begins_like_a_formula(text: str) -> None:
    made = harmless(text)
    assert made.replace("'", "") == text.replace("'", "")
    assert all(not cell.lstrip(" ").startswith(("=", "@")) for cell in re.split("[;\t\r\n]", made))


def test_the_other_formats_do_not_change() -> None:
    table = pa.table({"text": FORMULAS})
    for format_ in set(FORMATS) - {"csv"}:
        content = encode_table(table, format_, safe_csv=True)
        assert decode_table(content, format_, table.schema).to_pylist() == table.to_pylist()


def test_a_single_file_can_be_written_so(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["=1"]}), tmp_path / "part-0.parquet")
    export(tmp_path, tmp_path / "safe.csv", safe_csv=True)
    export(tmp_path, tmp_path / "plain.csv")
    assert (tmp_path / "safe.csv").read_text() == "text\n'=1\n"
    assert (tmp_path / "plain.csv").read_text() == "text\n=1\n"


def test_the_playgrounds_download_does_the_same() -> None:
    """The page has no test of its own language here; its patterns are compared with those of the writer."""
    script = (PAGE / "rows.js").read_text(encoding="utf-8")
    assert "const text = harmless(value);" in script
    number, runs = re.findall(r"/(\^.*?)/\.test\(text\)", script)[:2]
    (later,) = re.findall(r"const later = /(.*?)/g;", script)
    for text in [*FORMULAS, *LATER, *NUMBERS, "", "a=b", "Oslo", "'quoted"]:
        guarded = re.search(runs, text) or re.search(later, text)
        guarded = guarded and not re.search(number.replace("$", r"\Z"), text)
        assert bool(guarded) is (harmless(text) != text), text


@pytest.mark.parametrize("encoding", ["utf-7", "cp037", "utf-16-be", "unicode_escape", "punycode"])
def test_an_encoding_that_spells_letters_as_signs_is_not_made_safe(encoding: str) -> None:
    """A cell that begins with `é` begins with `+` in UTF-7, and any text of EBCDIC is a formula in ASCII."""
    form = SourceForm(dialect=Dialect(encoding=encoding))
    table = pa.table({"a": ["écmd|'/c calc'!A0", b"=cmd|x!A0".decode("cp037")]})
    with pytest.raises(DataError, match=f"--safe-csv: the source is in {encoding}.*--dialect plain"):
        encode_table(table, "csv", safe_csv=True, form=form)
    assert encode_table(table, "csv", form=form)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "latin-1", "shift_jis", "gb18030", "cp1251"])
def test_usual_encodings_are_made_safe(encoding: str) -> None:
    form = SourceForm(dialect=Dialect(encoding=encoding))
    assert b"'=1" in encode_table(pa.table({"a": ["=1+é"]}), "csv", safe_csv=True, form=form)
    marked = SourceForm(dialect=Dialect(encoding="utf-16-le", mark=True))
    assert "'=1".encode("utf-16-le") in encode_table(pa.table({"a": ["=1"]}), "csv", safe_csv=True, form=marked)


@pytest.mark.parametrize(
    "form",
    [
        {"dialect": {"encoding": "idna"}},
        {"typed": {"arrow": "xx"}},
        {"typed": {"arrow": "é"}},
        {"typed": {"arrow": "/////wAAAAA="}},
        {"workbook": {"title": "S", "heads": {"a": 10**400}}},
        {"workbook": {"title": "S", "formats": {"a": "0\0"}}},
        {"workbook": {"title": "S", "formats": {"a": -1}}},
    ],
)
def test_a_form_that_rows_cannot_be_written_in_is_refused_when_it_is_read(form: dict[str, object]) -> None:
    with pytest.raises(SchemaError, match=r"source\.json: .*--dialect plain"):
        SourceForm.parsed_json(json.dumps({"format_version": 1, **form}), "source.json")


def test_a_reference_of_any_number_of_letters_ends(tmp_path: Path) -> None:
    """A number of so many digits was made of it, letter by letter."""
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(encode_table(pa.table({"a": [1, 2]}), "xlsx"))) as whole:
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in whole.namelist():
                cell = f'</sheetData><c r="{"A" * 300_000}1"><v>1</v></c>'.encode()
                archive.writestr(name, whole.read(name).replace(b"</sheetData>", cell))
    (tmp_path / "x.xlsx").write_bytes(sink.getvalue())
    began = time.process_time()
    assert read_table(tmp_path / "x.xlsx")["a"].to_pylist() == [1, 2]
    assert time.process_time() - began < 5.0
    styles = b"<styleSheet>" + b"<a/>" * 3_000_000 + b"<cellXfs><xf/></cellXfs></styleSheet>"
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/styles.xml", styles)
    assert formats_of(sink.getvalue(), "Sheet1") == {}


def document(content: bytes) -> bytes:
    """A workbook of OpenDocument with this content."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("content.xml", content)
    return sink.getvalue()


def test_looks_of_a_document_are_read_whatever_it_says() -> None:
    """They are found, or there are none; nothing is raised, and nothing takes long."""
    table = pa.table({"a": [1.5, 2.5], "b": ["x", "y"]})
    form = SourceForm(workbook=WorkbookForm(title="S", kind="ods", formats={"a": '0.00 "€"'}))
    with zipfile.ZipFile(io.BytesIO(encode_table(table, "ods", form=form))) as archive:
        content = archive.read("content.xml")
    assert formats_of(document(content), "S") == {"A": "0.00 [$€]"}
    draw = random.Random(5)
    for _ in range(400):
        changed = bytearray(content)
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(len(changed))
            changed[place : place + draw.randint(0, 9)] = draw.randbytes(draw.randint(0, 3))
        found = formats_of(document(bytes(changed)), "S")
        assert all(isinstance(code, str) and len(code) <= 255 for code in found.values())
    for wrong in (b"9" * 5000, b"-7", b"x", b"1e9", b"999999999999"):
        many = content.replace(b"<table:table-cell ", b'<table:table-cell table:number-columns-repeated="%s" ' % wrong)
        began = time.monotonic()
        formats_of(document(many), "S")
        assert time.monotonic() - began < 10


def test_cells_that_count_back_and_forth_are_no_work_without_end() -> None:
    """Columns of less than none, in a name that readers of cells do not look at, were walked to and from again."""
    content = encode_table(pa.table({"a": [1.5, 2.5], "b": ["x", "y"]}), "ods")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        whole = archive.read("content.xml")
    back = b'<table:table-cell x:number-columns-repeated="-30000000"/>'
    forth = b'<table:table-cell table:style-name="ce0" office:value-type="float" x:number-columns-repeated="30000000"/>'
    row = b"<table:table-row>" + (back + forth) * 3 + b"</table:table-row></table:table>"
    named = whole.replace(b"<office:document-content", b'<office:document-content xmlns:x="urn:x"', 1)
    began = time.process_time()
    formats_of(document(named.replace(b"</table:table>", row)), "Sheet1")
    assert time.process_time() - began < 5.0


@pytest.mark.parametrize("part", [b"<number:text/>", b"<number:text>%s</number:text>" % (b" " * 10_000), MANY])
def test_a_style_of_any_length_is_not_read_for_every_column(part: bytes) -> None:
    style = b"<number:number-style style:name='%s'>%s</number:number-style>"
    apply = b"<style:map style:condition='value()&gt;=0' style:apply-style-name='L'/>"
    styles = style % (b"L", part * (1_000_000 // len(part))) + style % (b"N", b"<number:number/>" + apply)
    cells = b"<style:style style:name='c' style:family='table-cell' style:data-style-name='%s'/>"
    filled = b"<table:table-cell table:style-name='c' office:value-type='float' table:number-columns-repeated='16384'/>"
    spaces = b"".join(
        b' xmlns:%s="urn:oasis:names:tc:opendocument:xmlns:%s:1.0"' % pair
        for pair in ((b"office", b"office"), (b"style", b"style"), (b"table", b"table"), (b"number", b"datastyle"))
    )
    for used in (b"L", b"N"):
        sheet = b"<table:table table:name='S'><table:table-row>%s</table:table-row></table:table>" % filled
        began = time.process_time()
        formats_of(document(b"<a%s>%s%s%s</a>" % (spaces, styles, cells % used, sheet)), "S")
        assert time.process_time() - began < 10.0
