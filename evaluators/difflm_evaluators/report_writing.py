"""Writing the files of a report: each appears whole or not at all; and cells of Markdown tables."""

import os
from collections.abc import Mapping
from pathlib import Path

from difflm.errors import StorageError


def write_files(directory: Path, files: Mapping[str, str]) -> None:
    """Write texts by their names relative to `directory`, made when missing; StorageError where that cannot be."""
    try:
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = directory / f"{name}.partial"
            try:
                temporary.write_text(text, encoding="utf-8")
                os.replace(temporary, path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise StorageError(
            f"{directory}: cannot write the report ({error}); free space or choose another one"
        ) from error


def markdown_cell(text: str) -> str:
    """Text as a cell of a Markdown table, without markup of its own."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
