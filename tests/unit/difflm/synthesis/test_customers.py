"""An export of customers from a German Excel comes back as one that a strict import script reads."""

from __future__ import annotations

import csv
import datetime as dt
import io
import random
import re
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from difflm.artifacts.formats import encode_table
from difflm.records.files.reading import read_table
from difflm.records.files.source import SourceForm
from difflm.records.kinds.inference import infer_schema
from difflm.records.relations.mining import mine_relations
from difflm.records.schema import SchemaConfig
from difflm.synthesis.open_bundle import OpenBundle
from difflm.synthesis.synthesizer import SamplingConfig
from difflm.testing.bundles import untrained_stages

HEADER = (
    "Kunden-Nr.;Anrede;Nachname;E-Mail;Telefon;IBAN;PLZ;Ort;Geburtsdatum;Kunde seit;Newsletter;Umsatz;Rabatt;Limit;"
    "Bestellungen;Bemerkung"
)
PLACES = (("01067", "Dresden"), ("80331", "München"), ("50667", "Köln"), ("07743", "Jena"), ("28195", "Bremen"))


def amount(value: float) -> str:
    return f"{value:,.2f}".replace(",", "_").replace(".", ",").replace("_", ".")


def customers(rows: int) -> list[list[str]]:
    draw = random.Random(3)
    found = []
    for row in range(rows):
        name = draw.choice(["Müller", "Schäfer", "Weiß", "Ço\u0161kun", "O'Hara", "von der Leyen", "Groß"])
        name += draw.choice(["", "-Öztürk", "-Lang", " jun."])
        zip_code, place = draw.choice(PLACES)
        born = dt.date(1950, 1, 1) + dt.timedelta(draw.randrange(18_000))
        since = dt.date(2015, 1, 1) + dt.timedelta(draw.randrange(3_000))
        note = draw.choice(["", "", "ruft an; dann Post", 'sagt "gern"', "zahlt bar – immer", "€-Konto"])
        found.append([
            f"{10_000 + row * 7:08d}", draw.choice(["Frau", "Herr", "Firma"]), name,
            f"{draw.choice('abcdef')}.{row}@{draw.choice(['web.de', 'gmx.net', 'firma.example'])}",
            f"+49 {draw.randrange(100, 999)} {draw.randrange(10**6, 10**7)}",
            " ".join(re.findall(".{1,4}", f"DE{draw.randrange(10, 98)}{draw.randrange(10**18):018d}")),
            zip_code, place, f"{born:%d.%m.%Y}", f"{since:%d.%m.%Y}" if row % 9 else "",
            draw.choice(["ja", "nein"]), f"{amount(draw.lognormvariate(6, 1.5))} €",
            f"{draw.randrange(0, 301) / 10:.1f} %".replace(".", ","),
            f"{draw.randrange(1, 40) * 500:,}".replace(",", "."),
            str(draw.randrange(1, 90)), note,
        ])  # fmt: skip
    return found


def quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if '"' in cell or ";" in cell else cell


def export(rows: int) -> bytes:
    lines = [HEADER, *(";".join(map(quoted, row)) for row in customers(rows))]
    return ("\r\n".join(lines) + "\r\n").encode("cp1252")


def day(text: str) -> dt.date:
    if not re.fullmatch(r"\d\d\.\d\d\.\d{4}", text):
        raise ValueError(f"{text!r} is no day")
    return dt.datetime.strptime(text, "%d.%m.%Y").date()


def euros(text: str) -> Decimal:
    if not re.fullmatch(r"\d{1,3}(\.\d{3})*,\d\d €", text):
        raise ValueError(f"{text!r} is no amount")
    return Decimal(text[:-2].replace(".", "").replace(",", "."))


FORMS = {
    "Kunden-Nr.": r"\d{8}", "Anrede": r"Frau|Herr|Firma", "Nachname": r".+", "E-Mail": r"[a-z]\.\d+@[a-z.]+",
    "PLZ": r"\d{5}",
    "Telefon": r"\+49 \d{3} \d{7}", "IBAN": r"DE\d\d( \d{4}){4} \d\d", "Newsletter": r"ja|nein", "Rabatt": r"\d+,\d %",
    "Limit": r"\d{1,3}(\.\d{3})*", "Bestellungen": r"\d+",
}  # fmt: skip


def import_script(content: bytes) -> list[dict[str, object]]:
    """Read an export as the shop's own script does: anything that is not as agreed is an error."""
    text = content.decode("cp1252")
    assert not text.startswith(("\ufeff", "ï»¿", "sep="))
    assert text.endswith("\r\n")
    assert "\n" not in text.replace("\r\n", "")
    assert text.partition("\r\n")[0] == HEADER
    found: list[dict[str, object]] = []
    for row in csv.DictReader(io.StringIO(text, newline=""), delimiter=";", strict=True):
        assert None not in row
        for name, form in FORMS.items():
            assert re.fullmatch(form, row[name]), (name, row[name])
        assert (row["PLZ"], row["Ort"]) in PLACES
        since = day(row["Kunde seit"]) if row["Kunde seit"] else None
        made = {"born": day(row["Geburtsdatum"]), "since": since, "spent": euros(row["Umsatz"])}
        found.append({"id": row["Kunden-Nr."], **made})
    assert len({row["id"] for row in found}) == len(found)
    return found


def made_rows(folder: Path, table: pa.Table, rows: int) -> pa.Table:
    """Draw rows from a bundle of untrained models: what they say is nonsense, how they say it is the grammar's work."""
    relations = mine_relations(table, table.slice(0, 40), infer_schema(table)).relations
    codes = [name for name in table.column_names if name == "E-Mail"]  # free text takes training
    config = SchemaConfig(kinds=dict.fromkeys(codes, "code"))
    bundle = untrained_stages(folder / "stages", table, relations=relations, inference=config).bundle
    synthesizer = OpenBundle(bundle, SamplingConfig()).synthesizer()
    drawn, _ = synthesizer.draw_valid(range(rows), seed=1)
    assert len(drawn) == rows
    return synthesizer.bundle.codec.table_of(record for _, record in drawn)


def test_the_import_script_reads_what_was_made(tmp_path: Path) -> None:
    path = tmp_path / "Kunden.csv"
    path.write_bytes(export(240))
    given = import_script(path.read_bytes())
    table = read_table(path)
    form = SourceForm.of(table)
    assert form is not None
    rows = import_script(encode_table(made_rows(tmp_path, table, 40), "csv", form=form))
    assert len(rows) == 40
    assert not {row["id"] for row in rows} & {row["id"] for row in given}
    assert all(dt.date(1950, 1, 1) <= row["born"] <= dt.date(1999, 12, 31) for row in rows)  # type: ignore[operator]


WORKBOOK_HEADER = ("PLZ", "Datum", "Umsatz", "Stück", "aktiv", "Ort", "Zuletzt", "Rabatt", "Menge", 2024)
LOOKS = ("@", "DD.MM.YYYY", '#,##0.00 "€"', "0", "General", "General", "DD.MM.YYYY hh:mm", "0.0%", "General", "0")


def workbook(path: Path, rows: int) -> None:
    """Write an export with a line above, an empty column at the left, amounts beside words, and a text that begins
    with =.
    """
    openpyxl = pytest.importorskip("openpyxl")
    pytest.importorskip("python_calamine")
    book, draw = openpyxl.Workbook(), random.Random(4)
    book.active.title = "Kunden"
    book.active["B2"] = "Stand 31.12.2024"
    made = [WORKBOOK_HEADER]
    for row in range(rows):
        zip_code, place = draw.choice(PLACES)
        day = dt.date(2020, 1, 1) + dt.timedelta(draw.randrange(900))
        last = dt.datetime(2023, 1, 1, draw.randrange(24), 30) + dt.timedelta(draw.randrange(300))
        made.append(
            (zip_code, day, round(draw.lognormvariate(4, 1), 2), row % 7, row % 3 == 0, f"={place}", last,
             draw.randrange(0, 51) / 1000, draw.choice([5, 7.5, "n/d"]), draw.randrange(400))
        )  # fmt: skip
    for number, cells in enumerate(made, 4):
        for place_, (cell, look) in enumerate(zip(cells, LOOKS, strict=True), 2):
            made_cell = book.active.cell(number, place_, cell)
            made_cell.data_type = "s" if isinstance(cell, str) else made_cell.data_type
            made_cell.number_format = look if number > 4 else "General"
    book.save(path)


def cells_of(path: Path) -> tuple[str, list[object], list[set[tuple[str, str]]]]:
    """The name of the sheet, its header, and by column the types and number formats of the cells below."""
    import openpyxl

    sheet = openpyxl.load_workbook(path).active
    (header, *below) = sheet.iter_rows(min_row=4, min_col=2)
    looks = [{(cell.data_type, cell.number_format) for cell in cells} for cells in zip(*below, strict=True)]
    return sheet.title, [cell.value for cell in header], looks


def test_a_workbook_comes_back_as_a_workbook_that_is_read_unchanged(tmp_path: Path) -> None:
    import pandas as pd

    source, made = tmp_path / "Kunden.xlsx", tmp_path / "made.xlsx"
    workbook(source, 120)
    table = read_table(source)
    form = SourceForm.of(table)
    assert form is not None
    made.write_bytes(encode_table(made_rows(tmp_path, table, 40), "xlsx", form=form))
    assert cells_of(made) == cells_of(source)
    before, after = (pd.read_excel(path, sheet_name="Kunden", header=3) for path in (source, made))
    assert list(before.columns) == list(after.columns)
    assert before.dtypes.equals(after.dtypes)
    assert set(zip(after.PLZ.map("{:05d}".format), after.Ort.str[1:], strict=True)) <= set(PLACES)
    again = read_table(made)
    assert again.schema.equals(table.schema)
    assert SourceForm.of(again) == form


def test_a_workbook_becomes_a_csv_that_is_read_as_its_cells(tmp_path: Path) -> None:
    workbook(tmp_path / "Kunden.xlsx", 120)
    table = read_table(tmp_path / "Kunden.xlsx")
    form = SourceForm.of(table)
    made = encode_table(made_rows(tmp_path, table, 30), "csv", form=form).decode()
    rows = list(csv.DictReader(io.StringIO(made)))
    assert list(rows[0]) == list(map(str, WORKBOOK_HEADER))
    for made_row in rows:
        assert (made_row["PLZ"], made_row["Ort"][1:]) in PLACES
        dt.date.fromisoformat(made_row["Datum"])
        assert re.fullmatch(r"\d+\.\d{1,2}", made_row["Umsatz"])
        assert re.fullmatch(r"[0-6]", made_row["Stück"])
        assert made_row["aktiv"] in ("true", "false")
