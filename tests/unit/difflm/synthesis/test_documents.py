"""An .ods export as LibreOffice writes it comes back as one: types, looks, place and name of the sheet."""

from __future__ import annotations

import datetime as dt
import random
import zipfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pyarrow as pa
import pytest

from difflm.artifacts.formats import encode_table
from difflm.records.files.reading import read_table
from difflm.records.files.source import SourceForm
from difflm.records.kinds.inference import infer_schema
from difflm.records.relations.mining import mine_relations
from difflm.synthesis.open_bundle import OpenBundle
from difflm.synthesis.synthesizer import SamplingConfig
from difflm.testing.bundles import untrained_stages

pytest.importorskip("python_calamine")
PLACES = (("01067", "Dresden"), ("80331", "München"), ("50667", "Köln"), ("07743", "Jena"), ("28195", "Bremen"))
HEADER = ("PLZ", "Ort", "Umsatz", "Rabatt", "seit", "zuletzt", "geöffnet", "aktiv", "Stück", "Notiz")
SPACES = " ".join(
    f'xmlns:{short}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
    for short, name in (("office", "office"), ("style", "style"), ("table", "table"), ("text", "text"),
                        ("number", "datastyle"))
)  # fmt: skip
MANIFEST = "urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"
STYLES = """
<number:currency-style style:name="N1P0"><number:number number:decimal-places="2" number:min-decimal-places="2"
 number:min-integer-digits="1" number:grouping="true"/><number:text> </number:text>
<number:currency-symbol number:language="de" number:country="DE">€</number:currency-symbol></number:currency-style>
<number:currency-style style:name="N1"><number:text>-</number:text><number:number number:decimal-places="2"
 number:min-decimal-places="2" number:min-integer-digits="1" number:grouping="true"/><number:text> </number:text>
<number:currency-symbol number:language="de" number:country="DE">€</number:currency-symbol>
<style:map style:condition="value()&gt;=0" style:apply-style-name="N1P0"/></number:currency-style>
<number:percentage-style style:name="N2"><number:number number:decimal-places="1" number:min-integer-digits="1"/>
<number:text>%</number:text></number:percentage-style>
<number:date-style style:name="N3"><number:day number:style="long"/><number:text>.</number:text><number:month
 number:style="long"/><number:text>.</number:text><number:year number:style="long"/></number:date-style>
<number:time-style style:name="N4"><number:hours number:style="long"/><number:text>:</number:text><number:minutes
 number:style="long"/></number:time-style>
<style:style style:name="ce1" style:family="table-cell" style:data-style-name="N1"/>
<style:style style:name="ce2" style:family="table-cell" style:data-style-name="N2"/>
<style:style style:name="ce3" style:family="table-cell" style:data-style-name="N3"/>
<style:style style:name="ce4" style:family="table-cell" style:parent-style-name="ce5" style:data-style-name="N4"/>
<style:style style:name="ce5" style:family="table-cell" style:parent-style-name="Default"/>
"""
COLUMNS = (
    '<table:table-column table:default-cell-style-name="Default"/>'  # empty
    '<table:table-column table:number-columns-repeated="2" table:default-cell-style-name="Default"/>'
    '<table:table-column table:default-cell-style-name="ce1"/><table:table-column table:default-cell-style-name="ce2"/>'
    '<table:table-column table:default-cell-style-name="ce3"/><table:table-column/>'
    '<table:table-column table:default-cell-style-name="ce4"/>'
    '<table:table-column table:number-columns-repeated="16375"/>'
)


def cell(kind: str, value: object, text: str, style: str = "") -> str:
    looks = f' table:style-name="{style}"' if style else ""
    key = {"string": "", "currency": "value", "percentage": "value", "float": "value"}.get(kind, f"{kind}-value")
    more = f' office:{key}="{value}"' if key else ""
    more += ' office:currency="EUR"' if kind == "currency" else ""
    said = "".join(f"<text:p>{escape(line)}</text:p>" for line in text.split("\n"))
    return f'<table:table-cell{looks} office:value-type="{kind}"{more}>{said}</table:table-cell>'


def row(draw: random.Random, number: int) -> str:
    zip_code, place = draw.choice(PLACES)
    spent, off = round(draw.lognormvariate(5, 1) - 40, 2), draw.randrange(0, 51) / 1000
    since = dt.date(2018, 1, 1) + dt.timedelta(draw.randrange(1500))
    last = dt.datetime(2023, 1, 1, draw.randrange(24), 30) + dt.timedelta(draw.randrange(300))
    opened = dt.time(draw.randrange(7, 11), draw.choice([0, 30]))
    cells = [
        cell("string", "", zip_code), cell("string", "", place), cell("currency", spent, f"{spent} €"),
        cell("percentage", off, f"{off:.1%}"), cell("date", since.isoformat(), f"{since:%d.%m.%Y}"),
        cell("date", last.isoformat(), str(last)), cell("time", f"PT{opened:%HH%MM%SS}", f"{opened:%H:%M}"),
        cell("boolean", str(number % 3 == 0).lower(), "WAHR"), cell("float", number % 7, str(number % 7)),
    ]  # fmt: skip
    note = "<table:table-cell/>" if number % 4 else cell("string", "", draw.choice(["ruft an", "=1+1", "a\nb"]))
    return f"<table:table-row><table:table-cell/>{''.join(cells)}{note}</table:table-row>"


def document(path: Path, rows: int) -> None:
    """Write an export with a title above, an empty column at the left, a second sheet, and looks by column."""
    draw = random.Random(4)
    heads = "".join(cell("string", "", name) for name in HEADER)
    body = "".join(row(draw, number) for number in range(rows))
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?><office:document-content {SPACES}><office:automatic-styles>{STYLES}'
        "</office:automatic-styles><office:body><office:spreadsheet>"
        f'<table:table table:name="Kunden">{COLUMNS}<table:table-row><table:table-cell/>'
        f"{cell('string', '', 'Stand 31.12.2024')}<table:table-cell table:number-columns-repeated='16382'/>"
        '</table:table-row><table:table-row table:number-rows-repeated="2"><table:table-cell '
        'table:number-columns-repeated="16384"/></table:table-row>'
        f"<table:table-row><table:table-cell/>{heads}</table:table-row>{body}"
        '<table:table-row table:number-rows-repeated="1048000"><table:table-cell '
        'table:number-columns-repeated="16384"/></table:table-row></table:table>'
        f'<table:table table:name="Hinweise"><table:table-row>{cell("string", "", "nichts")}</table:table-row>'
        "</table:table></office:spreadsheet></office:body></office:document-content>"
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet", zipfile.ZIP_STORED)
        archive.writestr("META-INF/manifest.xml", f"<manifest:manifest xmlns:manifest='{MANIFEST}'/>")
        archive.writestr("content.xml", text)


def types_of(path: Path, columns: int) -> list[dict[str, int]]:
    """Count, by column of the first sheet, types of the cells below the header and currencies."""
    with zipfile.ZipFile(path) as archive:
        tree = ElementTree.fromstring(archive.read("content.xml"))
    rows = [element for element in tree.iter() if element.tag.endswith("}table-row")]
    found: list[Counter[str]] = [Counter() for _ in range(columns)]
    for below in rows[3 if len(rows) < 9 else 4 :]:
        for place, one in enumerate(below[1 : columns + 1]):
            given = {key.rpartition("}")[2]: value for key, value in one.attrib.items()}
            if "value-type" in given:
                found[place][f"{given['value-type']} {given.get('currency', '')}".strip()] += 1
    return [dict(one) for one in found]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An export, and rows of untrained models in its form: what they say is nonsense, how is the grammar's work."""
    folder = tmp_path_factory.mktemp("documents")
    document(folder / "Kunden.ods", 120)
    table = read_table(folder / "Kunden.ods")
    relations = mine_relations(table, table.slice(0, 40), infer_schema(table)).relations
    bundle = untrained_stages(folder / "stages", table, relations=relations).bundle
    synthesizer = OpenBundle(bundle, SamplingConfig()).synthesizer()
    drawn, _ = synthesizer.draw_valid(range(40), seed=1)
    rows = synthesizer.bundle.codec.table_of(record for _, record in drawn)
    (folder / "made.ods").write_bytes(encode_table(rows, "ods", form=SourceForm.of(table)))
    (folder / "made.xlsx").write_bytes(encode_table(rows, "xlsx", form=SourceForm.of(table)))
    return folder / "Kunden.ods", folder / "made.ods"


def test_the_form_is_that_of_the_file(made: tuple[Path, Path]) -> None:
    table = read_table(made[0])
    form = SourceForm.of(table)
    assert form is not None
    assert form.workbook is not None
    assert (form.workbook.kind, form.workbook.title, form.workbook.top, form.workbook.left) == ("ods", "Kunden", 3, 1)
    assert form.workbook.formats == {
        "Umsatz": "#,##0.00 [$€];-#,##0.00 [$€]", "Rabatt": "0.0%", "seit": "dd.mm.yyyy", "geöffnet": "hh:mm",
    }  # fmt: skip
    assert form.typed is not None
    assert [str(kind) for kind in form.typed.types().types] == [
        "string", "string", "double", "double", "date32[day]", "timestamp[us]", "time64[us]", "bool", "int64", "string",
    ]  # fmt: skip


def test_a_document_comes_back_as_one(made: tuple[Path, Path]) -> None:
    before, after = (read_table(path) for path in made)
    assert after.schema.equals(before.schema)
    forms = [SourceForm.of(table) for table in (before, after)]
    assert all(form is not None and form.workbook is not None for form in forms)
    layouts = [form.workbook.model_dump() for form in forms if form is not None and form.workbook is not None]
    looks = [layout.pop("formats") for layout in layouts]
    assert layouts[0] == layouts[1]
    assert looks[1] == looks[0] | {"zuletzt": "yyyy-mm-dd hh:mm:ss"}
    kinds = [types_of(path, len(HEADER)) for path in made]
    assert [set(one) for one in kinds[0]] == [set(one) for one in kinds[1]]
    assert set(kinds[1][2]) == {"currency EUR"}
    assert set(zip(after.column("PLZ").to_pylist(), after.column("Ort").to_pylist(), strict=True)) <= set(PLACES)


def test_pandas_reads_it_as_the_source(made: tuple[Path, Path]) -> None:
    import pandas as pd

    before, after = (pd.read_excel(path, sheet_name="Kunden", header=3, engine="calamine") for path in made)
    assert list(before.columns) == list(after.columns)
    assert before.dtypes.equals(after.dtypes)
    assert len(after) == 40


def test_it_may_be_written_as_a_workbook(made: tuple[Path, Path]) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    sheet = openpyxl.load_workbook(made[1].with_suffix(".xlsx")).active
    looks = [one.number_format for one in sheet[5]]
    assert (sheet.title, sheet["B4"].value) == ("Kunden", "PLZ")
    assert looks[3:7] == ["#,##0.00 [$€];-#,##0.00 [$€]", "0.0%", "dd.mm.yyyy", "yyyy-mm-dd h:mm:ss"]


def test_a_table_of_nothing_else_can_be_one(tmp_path: Path) -> None:
    """Rows of a CSV may be asked for as .ods, too."""
    table = pa.table({"name": ["x", None], "n": [1, 2]})
    (tmp_path / "rows.ods").write_bytes(encode_table(table, "ods"))
    assert read_table(tmp_path / "rows.ods").to_pylist() == table.to_pylist()
