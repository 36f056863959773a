"""Where a command may write: not over a file that it reads, and not over one that something else wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from difflm.errors import ConfigError
from difflm.regular_files import read_file
from difflm.telemetry import parse_json

_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "ablation": frozenset({"experiment", "cells"}),
    "benchmark": frozenset({"benchmark_version"}),
    "compare": frozenset({"comparison_version"}),
    "diagnose": frozenset({"diagnosis_version"}),
    "flywheel": frozenset({"rounds", "stopped_by"}),
    "judge": frozenset({"account", "evaluation"}),
    "passk": frozenset({"problems", "samples"}),
    "protocol": frozenset({"about", "figures"}),
    "report": frozenset({"schema_version", "evaluations"}),
    "study": frozenset({"runs"}),
}
"""What STEM.json of a verb has, by its stem."""


def refuse_others(folder: Path, stem: str) -> None:
    """Refuse a folder in which STEM.json, STEM.md or STEM.html is there and none that the verb wrote: they would be
    replaced. It is written first, so that it is there after a kill.

    Raises:
        ConfigError: names the file.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder}: is a file, and a folder is written; give another one")
    there = [path for ending in ("json", "md", "html") if (path := folder / f"{stem}.{ending}").exists()]
    if there and not _wrote(folder / f"{stem}.json", stem):
        raise ConfigError(f"{there[0]}: was not written by this command, and would be replaced; give another --out")


def _wrote(path: Path, stem: str) -> bool:
    try:
        found = parse_json(read_file(path))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and _KEYS[stem] <= set(found)


def refuse_over(out: Path, read: Iterable[Path | str | None], option: str = "--out") -> None:
    """Refuse to write to a file that the command reads, by this or by another name of it, and to a folder.

    Raises:
        ConfigError: names both.
    """
    if out.is_dir():
        raise ConfigError(f"{option} {out}: is a folder, and a file is written; give another name")
    for path in read:
        if path is not None and out.exists() and Path(path).exists() and out.samefile(path):
            what = "is a table of this run, or read by this command"
            raise ConfigError(f"{option} {out}: {what}, and would be replaced; give another name")
