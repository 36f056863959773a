"""What all written reports share: the Jinja environments of pages and of Markdown, and files that appear whole."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from difflm.artifacts.atomic import write_bytes_atomic
from difflm.errors import StorageError

_MARKS = str.maketrans({"<": "&lt;"} | {mark: f"\\{mark}" for mark in "\\|*[]`"})
_OUTER = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
"""Underscores that are not within a word: those there are no markup."""


def markdown_cell(text: str) -> str:
    """Escape a text for a cell of a Markdown table: one line, without links, images or other markup of its own."""
    return _OUTER.sub(r"\\_", " ".join(text.split()).translate(_MARKS))


@cache
def html_templates() -> Environment:
    """Load the templates of pages; whatever they show is escaped, and an unknown name is an error."""
    return Environment(
        loader=PackageLoader("difflm_evaluators.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def markdown_templates() -> Environment:
    """Load the templates of Markdown; what comes from data goes through their filter `cell`."""
    environment = Environment(
        loader=PackageLoader("difflm_evaluators.report", "templates"),
        autoescape=False,  # Markdown, not HTML
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = markdown_cell
    return environment


def render_piece(
    title: str,
    subtitle: str,
    warnings: Sequence[str],
    heads: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    warning_word: str = "Warning.",
    verdict: Mapping[str, Any] | None = None,
) -> str:
    """Render a table as a piece of a notebook's page: no script, nothing from outside, the notebook's own colours.

    A row has a `meaning` and `cells`, each with `text`, a `note` below it and the `note_class` of that. Below a
    `verdict`, as `verdict_shown` lays it out, the table is folded.
    """
    template = html_templates().get_template("score_table.html.j2")
    return template.render(
        title=title,
        subtitle=subtitle,
        warnings=warnings,
        heads=heads,
        rows=rows,
        warning_word=warning_word,
        **(verdict or {"answers": (), "advice": (), "advice_title": ""}),
    )


def write_files(directory: Path, files: Mapping[str, str]) -> None:
    """Write texts by their names relative to `directory`, made when missing, each whole or not at all.

    Raises:
        StorageError: the disk is full, or the directory cannot be written.
    """
    try:
        for name, text in files.items():
            write_bytes_atomic(directory / name, text.encode())
    except OSError as error:
        raise StorageError(
            f"{directory}: cannot write the report ({error}); free space or choose another one"
        ) from error
