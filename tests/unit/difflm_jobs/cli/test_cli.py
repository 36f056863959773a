"""Command line: how an interrupted command ends, and outputs of few letters."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from difflm_jobs.cli import main as cli


def ctrl_c(*_: object) -> None:
    raise KeyboardInterrupt


def sigterm(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def handler_restored() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("handler_restored")
@pytest.mark.parametrize("interrupted", [ctrl_c, sigterm])
def test_an_interrupted_command_says_how_to_go_on(
    interrupted: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, "_run", interrupted)
    monkeypatch.setattr(sys, "argv", ["difflm", "run", str(tmp_path / "table.csv")])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == cli.INTERRUPTED == 130
    assert capsys.readouterr().err.strip() == "error: interrupted; run the same command again to go on"


@pytest.mark.usefixtures("handler_restored")
def test_letters_that_the_output_lacks_are_spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The α of a score was said to be a fault of the run's files, or ended the command."""
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="latin-1", write_through=True))
    monkeypatch.setattr(cli, "app", lambda: print("α-precision ± 1"))
    cli.main()
    assert shown.getvalue() == "\\u03b1-precision ± 1\n".encode("latin-1")
