"""What a person may give as CONFIG: a YAML file, a preset's name, or just a table."""

from __future__ import annotations

import difflib
import importlib.resources
import re
from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difflm.config import apply_overrides, load_yaml, parse_yaml, validate
from difflm.errors import ConfigError

if TYPE_CHECKING:
    from difflm_jobs.config import ExperimentConfig

YAML_SUFFIXES = (".yaml", ".yml")
TABLE_SUFFIXES = (
    ".csv", ".tsv", ".tab", ".txt", ".data", ".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".arrow", ".arff",
)  # fmt: skip


PAPER = "paper"
"""Folder of the presets with the paper's own models and hyper-parameters."""

_PRESETS = importlib.resources.files("difflm_jobs") / "presets"


def preset_names() -> list[str]:
    """The presets that ship with the platform."""
    return [*_names(_PRESETS), *(f"{PAPER}/{name}" for name in _names(_PRESETS / PAPER))]


def _names(folder: Traversable) -> list[str]:
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def load_experiment(
    given: str, *, overrides: Sequence[str] = (), target: str | None = None, name: str | None = None
) -> ExperimentConfig:
    """The configuration behind a YAML file, a preset's name or a table; later arguments win over what it says.

    Raises:
        ConfigError: nothing is called so, or a key or value cannot be used; names the file and the dotted key.
    """
    from difflm_jobs.config import ExperimentConfig

    data, source = _read(given)
    extra = [f"data.target={_quoted(target)}"] if target is not None else []
    extra += [f"name={_quoted(name)}"] if name is not None else []
    merged = apply_overrides(data, [*overrides, *extra])
    return validate(ExperimentConfig, merged, source, [*overrides, *extra])


def experiment_settings(given: str) -> tuple[dict[str, Any], str]:
    """Read the settings behind a YAML file, a preset's name or a table, and say where they come from.

    Raises:
        ConfigError: nothing is called so, or the file cannot be read.
    """
    return _read(given)


def _read(given: str) -> tuple[dict[str, Any], str]:
    path = Path(given)
    suffix = _suffix(path)
    if given in preset_names() and not suffix:
        return _preset(given), f"preset {given}"
    if suffix in YAML_SUFFIXES:
        data = load_yaml(path)
        return {"name": _as_name(path), **data}, given
    if suffix in TABLE_SUFFIXES:
        return {"name": _as_name(path), "data": {"train": given}}, given
    raise ConfigError(_unknown(given))


def _preset(name: str) -> dict[str, Any]:
    """A preset over those that it extends, in their order; the keys of a section of another kind are not kept."""
    text = _PRESETS.joinpath(*f"{name}.yaml".split("/")).read_text(encoding="utf-8")
    data: dict[str, Any] = parse_yaml(text, f"preset {name}")
    merged: dict[str, Any] = {}
    for part in [*map(_preset, data.pop("extends", ())), data]:
        merged = over(merged, part)
    return merged


def over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Put settings over others; a section of another kind replaces the one below."""
    merged = dict(below)
    for key, value in above.items():
        found = below.get(key)
        if isinstance(found, dict) and isinstance(value, dict) and value.get("kind") in (None, found.get("kind")):
            merged[key] = over(found, value)
        else:
            merged[key] = value
    return merged


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _as_name(path: Path) -> str:
    stem = Path(path.name.removesuffix(".gz")).stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "experiment"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _unknown(given: str) -> str:
    names = preset_names()
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return (
        f"{given}: neither a preset nor a file of a known kind; {hint}presets are {', '.join(names)}; otherwise give "
        f"a configuration ({', '.join(YAML_SUFFIXES)}) or a table ({', '.join(TABLE_SUFFIXES)}, also .gz)"
    )
