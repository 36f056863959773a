"""The two consoles, results go to standard output and progress to standard error; and plain lines on them."""

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


def print_line(console: Console, text: str, *, style: str | None = None) -> None:
    """A line as it is: nothing in it is markup, no number is coloured, and it is not wrapped."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)
