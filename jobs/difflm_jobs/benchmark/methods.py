"""The methods that can be compared: what `methods.yaml`, and a file of a user's own, say about each."""

from __future__ import annotations

import hashlib
import importlib.resources
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from difflm.config import Config, apply_overrides, load_yaml, parse_yaml, validate
from difflm.errors import ConfigError

REAL = "real"
"""The method that makes nothing: held-out rows in the place of synthetic ones."""

_HERE = Path(str(importlib.resources.files("difflm_jobs") / "benchmark"))
_ADAPTERS = _HERE / "adapters"
_DRIVER = _ADAPTERS / "driver.py"


class Environment(Config):
    """What is installed for a method: `requirements` as pip takes them, then `remove` is taken out again."""

    requirements: tuple[str, ...] = Field(min_length=1)
    remove: tuple[str, ...] = ()


class MethodSpec(Config):
    """One method of the file; an adapter runs in an environment, or with the interpreter `python`."""

    title: str = Field(min_length=1)
    environment: str | None = None
    python: str | None = None
    adapter: str | None = None
    module: str | None = None
    version: int = 1
    settings: dict[str, Any] = Field(default={})
    source: str = ""

    @model_validator(mode="after")
    def _runs_somewhere(self) -> Self:
        places = [place for place in (self.environment, self.python) if place is not None]
        if self.adapter is not None and (len(places) != 1 or self.module is not None):
            raise ValueError("an adapter runs either in an environment or with python; give one of the two")
        if self.adapter is None and places:
            raise ValueError("nothing runs there; give an adapter")
        return self


class MethodsFile(Config):
    """Environments and methods by their names."""

    environments: dict[str, Environment] = Field(default={})
    methods: dict[str, MethodSpec] = Field(default={})

    @model_validator(mode="after")
    def _environments_are_there(self) -> Self:
        for name, method in self.methods.items():
            if method.environment is not None and method.environment not in self.environments:
                known = ", ".join(self.environments) or "none"
                raise ValueError(
                    f"methods.{name}.environment {method.environment!r} is not among environments: {known}"
                )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method with the settings that it runs with; `script` is an adapter's file, `module` one of our own."""

    name: str
    title: str
    source: str
    settings: Mapping[str, Any]
    environment: Environment | None
    python: str | None
    script: Path | None
    module: str | None
    version: int

    @property
    def makes_rows(self) -> bool:
        """Whether something runs."""
        return self.script is not None or self.module is not None

    @property
    def identity(self) -> dict[str, Any]:
        """Return all of it that rows depend on."""
        code = [_DRIVER, self.script] if self.script is not None else []
        return {
            "method": self.name,
            "settings": dict(self.settings),
            "requirements": list(self.environment.requirements) if self.environment is not None else None,
            "python": self.python,
            "code": hashlib.sha256(b"".join(path.read_bytes() for path in code)).hexdigest() if code else None,
            "module": self.module,
            "version": self.version,
        }

    def command(self, python: Path, job: Path) -> list[str]:
        """Return the command line that does a job."""
        if self.script is not None:
            return [str(python), "-I", str(_DRIVER), str(self.script), str(job)]
        assert self.module is not None
        return [sys.executable, "-m", "difflm_jobs.benchmark.own", self.module, str(job)]


def read_methods(names: Sequence[str], *, overrides: Sequence[str], file: Path | None = None) -> list[Method]:
    """Look methods up by name, in the order given; `overrides` change settings: `smote.neighbours=3`.

    Raises:
        ConfigError: a method or a setting is not known, or the file of a user's own cannot be used.
    """
    known = _read(file)
    unknown = [name for name in names if name not in known.methods]
    if unknown or not names:
        given = f"no method {unknown[0]!r}" if unknown else "no method is named"
        raise ConfigError(f"--methods: {given}; known are {', '.join(known.methods)}")
    if len(set(names)) < len(names):
        raise ConfigError(f"--methods: {max(names, key=list(names).count)!r} is named twice; name each once")
    settings = {name: method.settings for name, method in known.methods.items()}
    for override in overrides:
        _refuse_unknown(override, settings)
    changed = apply_overrides(settings, overrides)
    return [_method(name, known, changed[name], file) for name in names]


def _read(file: Path | None) -> MethodsFile:
    own = parse_yaml((_HERE / "methods.yaml").read_text(encoding="utf-8"), "methods.yaml")
    if file is None:
        return validate(MethodsFile, own, "methods.yaml")
    given = load_yaml(file)
    for section in ("environments", "methods"):
        more = given.get(section, {})
        own[section] = {**own[section], **more} if isinstance(more, dict) else more
    return validate(MethodsFile, {**given, **own}, str(file))


def _refuse_unknown(override: str, settings: Mapping[str, Mapping[str, Any]]) -> None:
    name, _, rest = override.partition("=")[0].strip().partition(".")
    key = rest.partition(".")[0]
    if name not in settings:
        raise ConfigError(f"--set {override}: no method {name!r}; give METHOD.KEY=VALUE of {', '.join(settings)}")
    if key not in settings[name]:
        known = ", ".join(settings[name]) or "none"
        raise ConfigError(f"--set {override}: {name} has no setting {key!r}; its settings are {known}")


def _method(name: str, known: MethodsFile, settings: Mapping[str, Any], file: Path | None) -> Method:
    spec = known.methods[name]
    return Method(
        name=name,
        title=spec.title,
        source=spec.source,
        settings=settings,
        environment=known.environments[spec.environment] if spec.environment is not None else None,
        python=spec.python,
        script=_script(name, spec.adapter, file) if spec.adapter is not None else None,
        module=spec.module,
        version=spec.version,
    )


def _script(name: str, adapter: str, file: Path | None) -> Path:
    """Find an adapter: one that ships, or a file, relative to the file that names it."""
    shipped = _ADAPTERS / f"{adapter}.py"
    if shipped.is_file() and adapter != _DRIVER.stem:
        return shipped
    path = (file.parent if file is not None else Path()) / adapter
    if not path.is_file():
        raise ConfigError(f"methods.{name}.adapter: {path}: no such file, and no adapter that ships; check the path")
    return path.resolve()
