"""The two consoles: results go to standard output, progress to standard error."""

from __future__ import annotations

from rich.console import Console

PLAIN_WIDTH = 120


def output() -> Console:
    """Where results go; wide enough for tables where there is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def progress_output() -> Console:
    """Where progress goes, so that results can be piped."""
    return Console(stderr=True)
