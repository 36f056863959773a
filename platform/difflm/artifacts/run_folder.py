"""What runs write into the folder of an experiment, by name: the folder may have another purpose as well, such as a
project with the table in it, and nothing else there is theirs to remove or to replace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from difflm.artifacts.atomic import is_temporary
from difflm.regular_files import read_file
from difflm.telemetry import parse_json

LOCK: Final = ".lock"
SECRET: Final = ".difflm-secret"
"""What the hashes of private rows are keyed with, see `FolderSecret`."""
FOLDERS: Final = ("artifacts", "work")
INPUT: Final = "input"
"""Where a run keeps the table that it was given from Python or of a database."""
ROUNDS: Final = "rounds"
"""Where a flywheel keeps what its rounds are trained on."""
LOGS: Final = ("config.yaml", "environment.json", "runs.jsonl")
CHOICES: Final = "quality.json"
OWN: Final = frozenset({LOCK, SECRET, *FOLDERS, INPUT, ROUNDS, *LOGS, CHOICES})
ARTIFACT_NAME: Final = re.compile(r"[a-z0-9_-]+-[0-9a-f]{12}")
_GIVEN = re.compile(r"table-[0-9a-f]{12}\.(?:parquet|json)")
_TABLES = {
    INPUT: re.compile(r"\.?table-[0-9a-f]{12}\.parquet.*"),
    ROUNDS: re.compile(r"\.?merged-[0-9a-f]{12}\.parquet.*"),
}
_OF_A_CHOICE = {"request", "chosen", "times"}


def artifact_folders(folder: Path) -> Iterator[Path]:
    """Yield what lies in ``artifacts`` and ``work`` under the name of an artifact, finished or not."""
    for inner in FOLDERS:
        for path in sorted((folder / inner).glob("*")):
            if ARTIFACT_NAME.fullmatch(path.name):
                yield path


def laid_down_tables(folder: Path, inner: str) -> list[Path]:
    """List the tables that runs wrote into ``input`` or ``rounds``, also those that a kill left half-written."""
    found = sorted((folder / inner).glob("*"))
    named = (path for path in found if _TABLES[inner].fullmatch(path.name))
    return [path for path in named if path.name.endswith(".parquet") or is_temporary(path)]


def is_given(path: Path) -> bool:
    """Tell whether this is what a run keeps of the table and the budget that it was given."""
    if path.is_symlink() or not path.is_dir():
        return path.name == CHOICES and not path.is_symlink() and _holds_choices(path)
    return path.name == INPUT and all(_GIVEN.fullmatch(inside.name) for inside in path.iterdir())


def _holds_choices(path: Path) -> bool:
    try:
        found = parse_json(read_file(path))
    except (OSError, ValueError):
        return False
    entries = found if isinstance(found, list) else [found]
    return all(isinstance(entry, dict) and set(entry) == _OF_A_CHOICE for entry in entries)
