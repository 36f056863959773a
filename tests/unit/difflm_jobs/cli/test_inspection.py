"""`difflm inspect`: a line per column, before anything is trained."""

import io
import json
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

from difflm.errors import ConfigError, DataError
from difflm_jobs.cli.inspection import inspected, print_inspected, setting
from difflm_jobs.cli.main import main


def table(folder: Path) -> Path:
    path = folder / "odd.csv"
    rows = [f'"${row * 700 % 3000:,}.50",+4917{row % 30:07d},{row % 3},{row},n/a' for row in range(40)]
    path.write_text("\n".join(["price,phone,size,a.b,gone", *rows, '"$7.50",+49170000001,,7,']) + "\n")
    return path


def test_a_line_says_kind_reason_missing_share_and_setting(tmp_path: Path) -> None:
    looked = inspected(table(tmp_path), target=None, overrides=())
    texts = {line.column: line.text for line in looked.lines}
    assert texts["price"] == (
        "price: decimal $0.50..$2,900.50, 2 decimals, none missing; every value is a number that prints as it was "
        "read; change with --set schema.kinds.price=text"
    )
    assert texts["size"].count("2.44 % missing") == 1
    assert texts["size"].endswith("; change with --set schema.kinds.size=categorical")
    assert """--set 'schema.kinds={"a.b": "categorical"}'""" in texts["a.b"]
    assert [notice.column for notice in looked.notices if notice.code == "dropped"] == ["gone"]


def test_numbers_in_text_are_shown_with_their_ends(tmp_path: Path) -> None:
    rows = [f"{95 + row * 7 % 85}/{50 + row * 11 % 50},{row % 31}–{row % 31 + row % 23}" for row in range(60)]
    (tmp_path / "measured.csv").write_text("\n".join(["pressure,ages", *rows, "120/80,65+"]) + "\n")
    pressure, ages = inspected(tmp_path / "measured.csv", target=None, overrides=()).lines
    assert pressure.text == (
        "pressure: numbers in text, {95..179}/{50..99}, none missing; every value is numbers between the same texts; "
        "made ones are within the numbers seen; change with --set schema.kinds.pressure=text"
    )
    assert ages.described == "numbers in text, {0..30}–{0..44} and 1 more form"


def test_a_terminal_gets_a_table_that_fits_it(tmp_path: Path) -> None:
    console = Console(file=(shown := io.StringIO()), force_terminal=True, color_system=None, width=80)
    print_inspected(console, inspected(table(tmp_path), target=None, overrides=()))
    lines = shown.getvalue().splitlines()
    (end,) = [number for number, line in enumerate(lines) if line.startswith("another kind")]
    assert max(map(len, lines[:end])) <= 80
    assert lines[end] == "another kind, here for 'price': --set schema.kinds.price=text"
    assert any(line.startswith("noticed: 'gone'") for line in lines[end:])


def test_a_column_of_which_something_is_changed_is_not_said_to_be_as_it_was_read(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    cells = [f"{row % 90}.{row % 7}" for row in range(200)]
    path.write_text("\n".join(["a,b,c", *(f"{cell},{cell},x{row % 3}" for row, cell in enumerate([*cells, "n/d"]))]))
    whys = {
        line.column: line.why
        for line in inspected(path, target=None, overrides=["schema.kinds.a=number", "schema.max_decimals=0"]).lines
    }
    assert re.match(
        r"values are numbers that print as they were read, but for [\d,]+ that are rounded and the words 'n/d'",
        whys["b"],
    )
    assert all(not why.startswith("every value") for name, why in whys.items() if name in "ab")


def test_settings_of_a_run_change_what_is_shown(tmp_path: Path) -> None:
    changed = [setting("size", "ordinal"), setting("a.b", "text")]
    overrides = [one.removeprefix("--set ").strip("'") for one in changed]
    lines = inspected(table(tmp_path), target=None, overrides=overrides).lines
    assert [line.described.split(" ")[0] for line in lines if line.column in ("size", "a.b")] == ["ordinal,", "text"]
    with pytest.raises(DataError, match=r"odd.csv: .*'phone' is to be datetime .* but row 1 has '\+49170000000'"):
        inspected(table(tmp_path), target=None, overrides=["schema.kinds.phone=datetime"])
    with pytest.raises(ConfigError, match=r"schema\.kinds\.phone"):
        inspected(table(tmp_path), target=None, overrides=["schema.kinds.phone=number of a phone"])


def test_relations_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "stays.csv"
    rows = [f"{n},{10 + 7 * n % 31},{n * (10 + 7 * n % 31)}" for n in (row * row % 37 for row in range(90))]
    path.write_text("\n".join(["nights,price,total", *rows]) + "\n")
    assert "total == nights * price" in " ".join(inspected(path, target=None, overrides=()).relations)


def test_codes_among_whole_numbers_are_hinted_at(tmp_path: Path) -> None:
    path = tmp_path / "visits.csv"
    often = [1] * 80 + [2] * 20 + [3] * 60 + [4] * 30 + [5] * 90
    rows = [
        f"{(200, 404, 500)[row % 3]},{often[row]},{row % 9},{1 + row % 2},{10115 + row * 7},{row % 4}"
        for row in range(280)
    ]
    path.write_text("\n".join(["answer,system,size,side,zip,rooms", *rows]) + "\n")
    lines = {line.column: line.why for line in inspected(path, target=None, overrides=()).lines}
    hinted = {name for name, why in lines.items() if "looks like a code" in why}
    assert hinted == {"answer", "system", "side", "zip"}


def test_the_verb_prints_lines_or_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for extra in ((), ("--json",)):
        monkeypatch.setattr(sys, "argv", ["difflm", "inspect", str(table(tmp_path)), *extra])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("price: decimal $0.50..$2,900.50")
    found = json.loads(shown[shown.index("{\n") :])
    assert [column["column"] for column in found["columns"]] == ["price", "phone", "size", "a.b"]
