"""Command line: how an interrupted command ends."""

from __future__ import annotations

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
