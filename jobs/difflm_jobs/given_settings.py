"""The settings of a fit from Python: what was given, about a table and on a cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difflm.errors import ConfigError
from difflm.records.files.frames import is_path

if TYPE_CHECKING:
    from difflm_jobs.config import ExperimentConfig
    from difflm_jobs.loading import Settings


def privacy_settings(epsilon: float | None, unit: str | None) -> dict[str, Any]:
    """Return the settings of differential privacy that an epsilon and the column of a unit ask for."""
    given = {"epsilon": None if epsilon is None else float(epsilon), "unit": unit}
    return {key: value for key, value in given.items() if value is not None}


def privacy_overrides(epsilon: float | None, unit: str | None) -> list[str]:
    """Return the same as `--set` has them."""
    return [f"privacy.{key}={json.dumps(value)}" for key, value in privacy_settings(epsilon, unit).items()]


def settings_of(
    given: str,
    target: str | None,
    config: str | Path | Mapping[str, Any] | ExperimentConfig | None,
    name: str,
    kind: str,
    cluster: str | None,
    constraints: Sequence[str],
    privacy: Mapping[str, Any],
) -> Settings:
    """Return the settings of a run: those that were given, about this table and on this cluster."""
    from difflm_jobs.config import ExperimentConfig
    from difflm_jobs.loading import Settings, over, preset_names, read_settings

    if isinstance(config, ExperimentConfig):
        found = _own(config.model_dump(mode="json", by_alias=True, exclude_unset=True))
    elif isinstance(config, Mapping):
        found = _own(_nested(config))
    elif is_path(config):
        found = read_settings(str(config))
    elif config is not None:
        raise ConfigError(
            f"config: a {type(config).__name__} is none; give a preset's name, a YAML file, a mapping or an "
            "ExperimentConfig"
        )
    else:
        found = _own({})
    settings = dict(found.merged)
    if given in preset_names():
        settings = over(read_settings(given).merged, settings)
    data = settings.get("data", {})
    if not isinstance(data, Mapping):
        raise ConfigError(f"config: data: expected an object; found {data!r}")
    data = dict(data)
    if given not in preset_names():
        data = {**{key: value for key, value in data.items() if key != "test"}, "train": given}
    if target is not None:
        data["target"] = target
    if kind != "table":
        data["kind"] = kind
    if data.get("kind") == "tools" and "engine" not in settings.get("sampling", {}):
        settings = over(settings, {"sampling": {"engine": {"kind": "builtin", "constraint": "llguidance"}}})
    if cluster is not None:
        settings = over(settings, {"runtime": {"cluster": {"address": cluster}}})
    if privacy:
        settings = over(settings, {"privacy": dict(privacy)})
    merged = {**settings, "name": name, "data": data}
    return Settings(merged=merged, source=found.source, own=found.own, constraints=constraints)


def _own(settings: Mapping[str, Any]) -> Settings:
    from difflm_jobs.loading import Settings

    return Settings(merged=settings, source="config", own=(settings,))


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with their dotted keys unfolded."""
    from difflm_jobs.loading import over

    found: dict[str, Any] = {}
    for key, value in settings.items():
        if not isinstance(key, str):
            raise ConfigError(f"config: the key {key!r} is no text; give names of settings")
        *sections, last = key.split(".")
        place = found
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ConfigError(f"config: {key!r}: {section!r} is {place!r} elsewhere; give one of the two")
        inner = _nested(value) if isinstance(value, Mapping) else value
        place.update(over(place, {last: inner}))
    return found
