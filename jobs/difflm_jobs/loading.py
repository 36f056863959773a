"""What a user may give as CONFIG: a YAML file, a preset's name, or just a table; and what a file may extend."""

from __future__ import annotations

import difflib
import importlib.resources
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difflm.config import Origin, apply_overrides, load_yaml, parse_yaml, validate
from difflm.errors import ConfigError, DataError
from difflm.records.databases.urls import refuse_database
from difflm.records.files.paths import KINDS, ending_of, files_of, is_pattern, unpacked_name
from difflm.regular_files import not_there

if TYPE_CHECKING:
    from difflm_jobs.config import ExperimentConfig

YAML_SUFFIXES = (".yaml", ".yml")
TABLE_SUFFIXES = (*KINDS, ".arff")


_FOLDERS = ("llm", "paper")
"""Of presets with pretrained models: from packages, or the paper's own from the hub."""

PARTS = "parts"
"""Folder of what presets share; no presets of their own, but files may extend them."""

_PRESETS = importlib.resources.files("difflm_jobs") / "presets"


def preset_names() -> list[str]:
    """List the presets that ship with the platform."""
    inside = [f"{folder}/{name}" for folder in _FOLDERS for name in _names(_PRESETS / folder)]
    return [*_names(_PRESETS), *inside]


def _names(folder: Traversable) -> list[str]:
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layers:
    """A configuration over what it extends: the merged keys, and each file's own, the last winning."""

    merged: dict[str, Any]
    own: tuple[tuple[str, Mapping[str, Any]], ...]
    """Of each file or preset what errors call it, and its keys without `extends`."""

    def source(self, key: str) -> str:
        """Name the file in which a dotted key stands, or the nearest section around it; else the whole file."""
        names = key.split(".") if key else []
        for depth in range(len(names), 0, -1):
            for label, data in self.own[::-1]:
                if _holds(data, names[:depth]):
                    return label
        return self.own[-1][0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of an experiment before their defaults, and what of them a person gave: all but those of presets."""

    merged: Mapping[str, Any]
    source: Origin
    overrides: Sequence[str] = ()
    own: Sequence[Mapping[str, Any]] = ()
    constraints: Sequence[str] = ()
    """Kept beside the relations that the settings ask for or have looked for."""

    def fixed(self, key: str) -> bool:
        """Say whether a person gave a dotted key."""
        given = [*self.own, apply_overrides({}, self.overrides)]
        given += [{_RELATIONS: self.constraints}] if self.constraints else []
        return any(_holds(data, key.split(".")) for data in given)

    def experiment(self, chosen: Mapping[str, Any] | None = None) -> ExperimentConfig:
        """Read them as an experiment, with `chosen` values of dotted keys in place of what presets and defaults say.

        Raises:
            ConfigError: a key or value cannot be used; names the file and the dotted key.
        """
        merged = apply_overrides(self.merged, self.overrides)
        for key, value in (chosen or {}).items():
            *sections, last = key.split(".")
            place = merged
            for section in sections:
                place = place.setdefault(section, {})
            place[last] = value
        if self.constraints:
            merged[_RELATIONS] = _constrained(merged, self.constraints)
        from difflm_jobs.config import ExperimentConfig  # slow, and the paths are known to be there

        return validate(ExperimentConfig, merged, self.source, self.overrides)


_RELATIONS = "relations"


def _constrained(settings: Mapping[str, Any], constraints: Sequence[str]) -> Any:
    """Return the `relations` of some settings with constraints added; what is no such setting stays, to be refused."""
    from difflm_jobs.inputs.relations import AUTO, with_constraints

    given = settings.get(_RELATIONS, AUTO)
    if given in (AUTO, "off"):
        return list(with_constraints(given, constraints))
    return list(with_constraints(tuple(map(str, given)), constraints)) if isinstance(given, list | tuple) else given


def read_settings(
    given: str,
    *,
    overrides: Sequence[str] = (),
    target: str | None = None,
    name: str | None = None,
    constraints: Sequence[str] = (),
) -> Settings:
    """Read the settings behind a YAML file, a preset's name or a table; later arguments win over what it says.

    `constraints` are kept beside the relations that it asks for or has looked for.

    Raises:
        ConfigError: nothing is called so, or the file cannot be read.
    """
    layers = _read(given)
    asked = [*overrides]
    asked += [f"data.target={_quoted(target)}"] if target is not None else []
    asked += [f"name={_quoted(name)}"] if name is not None else []
    own = tuple(data for label, data in layers.own if not label.startswith(_PRESET))
    return Settings(merged=layers.merged, source=layers.source, overrides=asked, own=own, constraints=constraints)


def load_experiment(
    given: str,
    *,
    overrides: Sequence[str] = (),
    target: str | None = None,
    name: str | None = None,
    constraints: Sequence[str] = (),
) -> ExperimentConfig:
    """Read the experiment behind a YAML file, a preset's name or a table, as `read_settings` reads its settings.

    Raises:
        ConfigError: nothing is called so, or a key or value cannot be used; names the file and the dotted key.
    """
    settings = read_settings(given, overrides=overrides, target=target, name=name, constraints=constraints)
    return settings.experiment()


def refuse_missing(given: str, overrides: Sequence[str] = ()) -> None:
    """Refuse a table that is not there, before anything slow is imported.

    Raises:
        DataError: `given` is the path of a table, nothing replaces it, and no such file exists.
    """
    path = Path(given).expanduser()
    keys = [override.partition("=")[0].strip() for override in overrides]
    replaced = any(key == "data" or f"{key}.".startswith("data.train.") for key in keys)
    if suffix_of(path) in TABLE_SUFFIXES and "$" not in given and not replaced and not path.exists():
        if is_pattern(path):
            files_of(path)
            return
        raise DataError(f"data.train: {path}: {not_there(path)} or give another one with --set data.train=PATH")


def file_schema() -> dict[str, Any]:
    """Return the JSON schema of a configuration file, where `extends` may stand and a name may be missing."""
    from difflm_jobs.config import ExperimentConfig

    schema = ExperimentConfig.model_json_schema(by_alias=True)
    del schema["required"]
    names = {"type": "string", "minLength": 1}
    sources = schema["$defs"]["DataConfig"]["properties"]
    for key in ("train", "test"):  # a plain text is short for a file's path
        sources[key] = {"anyOf": [names, sources[key]]}
    schema["properties"]["extends"] = {
        "anyOf": [names, {"type": "array", "items": names}],
        "description": "presets, and YAML files beside this one, whose keys this one adds to and changes",
    }
    schema["anyOf"] = [{"required": ["data"]}, {"required": ["extends"]}]
    return schema


def _read(given: str) -> _Layers:
    refuse_database(given, "CONFIG")
    path = Path(given)
    suffix = suffix_of(path)
    if given in preset_names() and not suffix:
        return _layers(given)
    if suffix in YAML_SUFFIXES:
        layers = _layers(path)
        _, own = layers.own[-1]  # the name of what it extends is that of another experiment, in another folder
        return _Layers(merged={**layers.merged, "name": own.get("name", name_of(path))}, own=layers.own)
    if suffix in TABLE_SUFFIXES:
        data = {"name": name_of(path), "data": {"train": given}}
        return _Layers(merged=data, own=((given, data),))
    raise ConfigError(_unknown(given))


_MAX_DEPTH, _MAX_EXTENDED = 20, 200


def _layers(at: str | Path, above: Sequence[str | Path] = ()) -> _Layers:
    """Read a preset or a file over those that it extends, in their order; ``above`` are those that extend it."""
    label = _label(at)
    if any(_same(at, other) for other in above):
        chain = " -> ".join(map(_label, [*above, at]))
        raise ConfigError(f"{_label(above[-1])}: extends: files extend each other in a circle: {chain}; cut it")
    if len(above) >= _MAX_DEPTH:
        raise ConfigError(f"{_label(above[0])}: extends: {_MAX_DEPTH} files deep, up to {label}; extend fewer")
    data = load_yaml(at) if isinstance(at, Path) else _preset(at)
    given = data.pop("extends", [])
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(
            f"{label}: extends: expected the name of a preset or the path of a YAML file, or a list of these; "
            f"found {given!r}"
        )
    merged: dict[str, Any] = {}
    own: list[tuple[str, Mapping[str, Any]]] = []
    for name in names:
        below = _layers(_extended(name, at), [*above, at])
        merged = over(merged, below.merged)
        own += below.own
        if len(own) > _MAX_EXTENDED:
            raise ConfigError(f"{label}: extends: more than {_MAX_EXTENDED} files in all; extend fewer")
    return _Layers(merged=over(merged, data), own=(*own, (label, data)))


def _extended(name: str, at: str | Path) -> str | Path:
    """Find the preset, or the file beside ``at``, that an entry of `extends` means."""
    known = [*preset_names(), *(f"{PARTS}/{part}" for part in _names(_PRESETS / PARTS))]
    if name in known:
        return name
    folder = at.parent if isinstance(at, Path) else Path()
    path = Path(os.path.normpath(folder / Path(name).expanduser()))
    is_yaml = path.suffix.lower() in YAML_SUFFIXES
    if is_yaml and path.is_file():
        return path
    what = "no such file" if is_yaml else f"neither a preset nor a YAML file ({', '.join(YAML_SUFFIXES)})"
    beside = [file.name for file in folder.glob("*") if file.suffix.lower() in YAML_SUFFIXES and not _same(file, at)]
    raise ConfigError(
        f"{_label(at)}: extends: {name}: {what}; {_close(name, [*known, *beside])}give the path of a file from "
        f"{folder} on, or one of the presets {', '.join(preset_names())}"
    )


def _preset(name: str) -> dict[str, Any]:
    text = _PRESETS.joinpath(*f"{name}.yaml".split("/")).read_text(encoding="utf-8")
    data: dict[str, Any] = parse_yaml(text, _label(name))
    return data


_PRESET = "preset "


def _label(at: str | Path) -> str:
    return str(at) if isinstance(at, Path) else f"{_PRESET}{at}"


def _same(one: str | Path, other: str | Path) -> bool:
    if isinstance(one, Path) and isinstance(other, Path):
        return one.resolve() == other.resolve()
    return one == other


def _holds(data: Any, names: Sequence[str]) -> bool:
    for name in names:
        if not isinstance(data, Mapping) or name not in data:
            return False
        data = data[name]
    return True


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the keys of one mapping over another's; those of a section of another kind are not kept."""
    merged = dict(below)
    for key, value in above.items():
        found = below.get(key)
        if isinstance(found, dict) and isinstance(value, dict) and value.get("kind") in (None, found.get("kind")):
            merged[key] = over(found, value)
        else:
            merged[key] = value
    return merged


def suffix_of(path: Path) -> str:
    """Return the ending of a file's name in small letters, without that of its packing, such as `.gz`."""
    return ending_of(path)


def name_of(path: Path) -> str:
    """Derive an experiment's name from that of its file."""
    stem = Path(unpacked_name(path.name)).stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "experiment"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _unknown(given: str) -> str:
    names = preset_names()
    return (
        f"{given}: neither a preset nor a file of a known kind; {_close(given, names)}presets are "
        f"{', '.join(names)}; otherwise give a configuration ({', '.join(YAML_SUFFIXES)}) or a table "
        f"({', '.join(TABLE_SUFFIXES)}, also .gz, .zip, ...)"
    )


def _close(given: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}? " if close else ""
