"""Texts of strangers on a terminal: shown, and never obeyed by it."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.progress import Progress

from difflm.printable import PrintableFormatter, printable
from difflm_jobs.cli import main as cli
from difflm_jobs.cli.terminal import output
from difflm_jobs.console import PrintableConsole
from difflm_jobs.pipeline.progress import LiveReporter, reporting

EVIL = "\x1b[31mred\x1b[0m\x1b]52;c;Y3VybA==\x07\x1b]8;;http://x\x1b\\\x9b2J\x9d0;t\x9c\u202eqwe\u2066\x7f\r\b\0\udcff"
STEERING = set(map(chr, [*range(32), *range(127, 160), *range(0x202A, 0x202F), 0x2066, 0xDCFF])) - {"\n", "\t"}


def refuse_steering(shown: str) -> None:
    assert not STEERING & set(shown), ascii(shown)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    def run_(*arguments: str | Path) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["difflm", *map(str, arguments)])
        with pytest.raises(SystemExit):
            cli.main()
        captured = capsys.readouterr()
        return captured.out, captured.err

    return run_


def test_what_steers_is_spelled_out_and_the_rest_stays() -> None:
    refuse_steering(printable(EVIL))
    assert printable("\x1b]8;;") == "\\u001b]8;;"
    for harmless in ("Grüße, 日本, שלום, 👩\u200d🚀", "a\tb\nc", "[red]", "C:\\x1b"):
        assert printable(harmless) == harmless
    assert json.loads(printable(json.dumps([EVIL], ensure_ascii=False))) == [EVIL]


@pytest.mark.parametrize("terminal", [True, False])
def test_the_console_shows_texts_and_obeys_none(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.table import Table

    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    file = io.StringIO()
    console = PrintableConsole(file=file, width=400)
    table = Table(title=EVIL)
    table.add_column(EVIL)
    table.add_row(EVIL)
    table.add_row("[/x] [link=http://x]y[/link] :smile:")
    console.print(table)
    console.print(EVIL, "[/x] [link=http://x]y[/link] :smile:", style="bold red", highlight=False)
    with reporting(console) as reporter, reporter.stage("fit") as report:
        report(1, 2, f"{EVIL} [/x]")
        if isinstance(reporter, LiveReporter):
            assert isinstance(reporter.progress, Progress)
            reporter.progress.refresh()
    shown = file.getvalue()
    assert terminal == ("\x1b[1;31m" in shown), "its own colours stay"
    for stolen in ("\x1b[31mred", "\x1b]", "\x9b", "\u202e", "\x07", "\0", "\udcff"):
        assert stolen not in shown
    assert shown.count("[/x] [link=http://x]y[/link] :smile:") == 2


def test_every_console_of_the_commands_is_such_a_one() -> None:
    from difflm_jobs.cli.terminal import progress_output

    assert isinstance(output(), PrintableConsole)
    assert isinstance(progress_output(), PrintableConsole)
    for package in ("platform", "evaluators", "jobs"):
        for path in (Path(__file__).parents[2] / package).rglob("*.py"):
            if path.name not in ("console.py", "api.py"):  # the latter's shows a count
                assert " Console(" not in path.read_text(encoding="utf-8"), path


def test_inspect_shows_columns_categories_and_the_files_name(
    run: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    evil = EVIL.replace("\udcff", "").replace("\0", "").replace("\r", "")
    table = tmp_path / "t\x1b[31m\u202e.csv"
    rows = "".join(f'"{evil}{n % 3}",{n % 7},"2020-01-0{n % 9 + 1}"\n' for n in range(60))
    table.write_text(f'"{evil}","a\x9b[/x]","when\u202e"\n{rows}', encoding="utf-8")
    for more in ((), ("--json",)):
        shown, told = run("inspect", table, *more)
        refuse_steering(shown + told)
        assert "\\u202e" in shown
    assert json.loads(shown)["table"] == str(table)
    refuse_steering("".join(run("inspect", table, "--target", f"no{EVIL[:4]}")))
    refuse_steering("".join(run("plan", table, "--runs", tmp_path / "r\x1b[31m", "--set", "data.train=\x9b2J")))


def test_errors_and_logs_show_texts(run: Callable[..., tuple[str, str]], tmp_path: Path) -> None:
    for arguments in (("run", f"{tmp_path}/{EVIL[:8]}.csv"), ("show", f"a{EVIL[:8]}\u202e"), ("verify", "x\x9b")):
        _, told = run(*arguments)
        assert told.startswith("error: ")
        refuse_steering(told)
    record = logging.LogRecord("x", logging.WARNING, __file__, 1, "%s: has no hashes", (EVIL,), None)
    refuse_steering(PrintableFormatter().format(record))
    assert logging.lastResort is not None
    assert isinstance(logging.lastResort.formatter, PrintableFormatter)
