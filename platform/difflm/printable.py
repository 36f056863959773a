"""Text that goes to a terminal or a log: what would steer it, instead of being shown, is spelled out.

Names of columns, values of categories, names of files and the texts of a bundle come from somebody else. An escape
sequence among them may colour a line, overwrite the one before, link it elsewhere or fill the clipboard (OSC 52),
and a mark of direction lets a line read as another one.
"""

from __future__ import annotations

import json
import logging
import re
import shlex

_CONTROLS = "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f"  # C0 but tabs and line feeds, DEL, C1
_DIRECTIONS = "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"  # Bidi_Control of Unicode
_LINES = "\\u2028\\u2029"
_SURROGATES = "\\ud800-\\udfff"  # of names of files that are no UTF-8, which no stream takes
_STEERING = re.compile(f"[{_CONTROLS}{_DIRECTIONS}{_LINES}{_SURROGATES}]")


def printable(text: str) -> str:
    r"""Return a text whose every character is shown; others are spelled `\u001b`, as JSON may spell them, too."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def setting(key: str, column: str, value: str | None = None) -> str:
    """Return the option of the command line for a column, to be copied into a shell, whatever the column is called.

    With a value it is set for the column alone; without, the key is a list with the column in it.
    """
    name = column if re.fullmatch(r"[\w .-]+", column) else json.dumps(column, ensure_ascii=False)
    return f"--set {shlex.quote(f'{key}=[{name}]' if value is None else f'{key}.{column}={value}')}"


class PrintableFormatter(logging.Formatter):
    """Formats records of a log as lines that steer no terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        return printable(super().format(record))
