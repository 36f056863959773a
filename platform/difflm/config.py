"""Typed configuration: frozen pydantic models, YAML files, ``--set`` overrides, and errors a person can act on."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from difflm.errors import ConfigError
from difflm.regular_files import read_file
from difflm.yaml_text import one_line as _one_line
from difflm.yaml_text import parse_yaml as parse_yaml


class Config(BaseModel):
    """Base of every configuration section: frozen, strict, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())

    @classmethod
    def completed(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what is given with the defaults that depend on it: none, unless a section says otherwise."""
        return given


ConfigT = TypeVar("ConfigT", bound=BaseModel)

Origin: TypeAlias = str | Callable[[str], str]
"""What errors name as the source of a value: one file, or for each dotted key the file that it stands in."""


def load_yaml(path: Path) -> dict[str, Any]:
    """Read the top-level mapping of a YAML file.

    Raises:
        ConfigError: the file is missing, unreadable, not YAML, or no mapping.
    """
    try:
        # without an ending it may be a pipe of the shell's; one with an ending would be waited for
        text = read_file(path).decode() if path.suffix else path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; give the path of a YAML file or the name of a preset") from None
    except (OSError, ValueError) as error:
        text = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        reason = getattr(error, "strerror", None) or text
        raise ConfigError(f"{path}: cannot be read ({reason}); give a YAML file in UTF-8") from None
    data = parse_yaml(text, str(path))
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping of keys at the top level, found {type(data).__name__}")
    return data


def apply_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy of ``data`` with every ``a.b=value`` applied in order; values are read as YAML.

    Raises:
        ConfigError: an override has no ``=``, an empty key, or goes through a value that is no mapping.
    """
    result: dict[str, Any] = _copied(data)
    for override in overrides:
        key, separator, text = override.partition("=")
        path = key.strip().split(".")
        if not separator or not all(path) or not key.isprintable():
            shown = override if override.isprintable() else repr(override)
            raise ConfigError(f"--set {shown}: expected a dotted key and a value, such as --set sampling.steps=25")
        value = parse_yaml(text, f"--set {override}")
        section = result
        for name in path[:-1]:
            child = section.setdefault(name, {})
            if not isinstance(child, dict):
                raise ConfigError(f"--set {override}: {name!r} holds {child!r}, which has no keys below it")
            section = child
        if isinstance(value, dict) and isinstance(section.get(path[-1]), dict) and "kind" not in value:
            value = {**section[path[-1]], **value}
        section[path[-1]] = value
    return result


def _copied(value: Any) -> Any:
    """Return a deep copy of mappings and lists, whose keys are texts."""
    if isinstance(value, Mapping):
        return {str(key): _copied(part) for key, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list) else value


def validate(model: type[ConfigT], data: Mapping[str, Any], source: Origin, overrides: Sequence[str] = ()) -> ConfigT:
    """Read ``data`` as an instance of ``model``; ``source`` and ``overrides`` only say where a value came from.

    A section that is given in part keeps the rest of its own default, also where that differs from its class's, and
    its ``kind`` unless another is given.

    Raises:
        ConfigError: one line with the source, the dotted key, what was expected, and for a typo the closest key.
    """
    try:
        filled = _filled(model, model.completed(data) if issubclass(model, Config) else data)
        return model.model_validate_json(json.dumps(filled, default=_plain), strict=True)
    except ValidationError as error:
        found = sorted(error.errors(include_url=False), key=lambda details: details["type"] != "extra_forbidden")
        messages = [_describe(model, details, source, overrides) for details in found]
        more = f" (and {len(messages) - 1} more like it)" if len(messages) > 1 else ""
        raise ConfigError(messages[0] + more) from None


def _plain(value: object) -> object:
    """Turn what Python callers put among settings into JSON: numpy's numbers and paths."""
    if isinstance(value, PurePath):
        return str(value)
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", None) == 0:
        found: object = item()
        return found
    raise ConfigError(f"{value!r} is a {type(value).__name__}; give text, a number, a list or a mapping")


def dump_yaml(config: BaseModel) -> str:
    """Write the configuration with every default written out, as YAML that loads back to an equal object."""
    text: str = yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)
    return text


def dump_changed(config: BaseModel, names: Iterable[str]) -> dict[str, Any]:
    """Return those of the named keys that are not at their default, whole.

    For keys that came later than what is on disk: what is described without them has their defaults.
    """
    fields = type(config).model_fields
    changed = {name for name in names if getattr(config, name) != fields[name].get_default(call_default_factory=True)}
    found: dict[str, Any] = config.model_dump(mode="json", include=changed)
    return found


def _filled(defaults: BaseModel | type[BaseModel], data: Mapping[str, Any]) -> dict[str, Any]:
    """Lay ``data`` over the values of an instance; over nothing for a class, whose defaults pydantic fills in."""
    model = defaults if isinstance(defaults, type) else type(defaults)
    result = {} if isinstance(defaults, type) else defaults.model_dump(mode="json", by_alias=True)
    for key, value in data.items():
        found = _default_of(defaults, model, key, value) if isinstance(value, dict) else None
        result[key] = value if found is None else _filled(found, value)
    return result


def _default_of(
    defaults: BaseModel | type[BaseModel], model: type[BaseModel], key: str, value: Mapping[str, Any]
) -> BaseModel | type[BaseModel] | None:
    """Find what a section given in part is filled up from: its default if of its kind, else its class, if known."""
    for name, field in model.model_fields.items():
        if key != (field.alias or name):
            continue
        default = field.get_default(call_default_factory=True) if defaults is model else getattr(defaults, name)
        kind = getattr(default, "kind", None)
        if isinstance(default, BaseModel) and value.get("kind", kind) == kind:
            return default
        members = [m for m in _members(field.annotation) if isinstance(m, type) and issubclass(m, BaseModel)]
        fitting = members if len(members) == 1 else [m for m in members if value.get("kind") in _tags(m)]
        return fitting[0] if fitting else None
    return None


def _describe(model: type[BaseModel], details: ErrorDetails, source: Origin, overrides: Sequence[str]) -> str:
    names, candidates, kinds = _resolve(model, details["loc"])
    dotted = ".".join(names)
    # What is wrong with the whole names keys among its words.
    about = [dotted] if dotted else [word for word in details["msg"].split() if "." in word]
    latest = reversed(overrides)
    culprit = next((o for o in latest if any(_covers(o.partition("=")[0].strip(), word) for word in about)), None)
    where = f"--set {culprit}" if culprit else _origin(source, about, missing=details["type"] == "missing")
    if details["type"] == "extra_forbidden":
        return f"{where}: {dotted}: unknown key{_of_kind(names, overrides)}; {_suggest(names, candidates)}"
    if details["type"] == "missing":
        return f"{where}: {dotted}: required and missing; add it to the file or give --set {dotted}=..."
    if details["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        expected = (details.get("ctx") or {}).get("expected_tags") or ", ".join(map(repr, kinds))
        given = (details.get("ctx") or {}).get("tag")
        found = f"found {given!r}" if given is not None else "found none"
        return f"{where}: {dotted}.kind: expected one of {expected}; {found}"
    message = details["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if details["type"] == "value_error" and isinstance(details["input"], dict | BaseModel):
        # It is about several keys, and names them: printing them all would say no more.
        return _one_line(": ".join(part for part in (where, dotted, message) if part))
    expected = message if details["type"] == "value_error" else f"expected {message[:1].lower()}{message[1:]}"
    return _one_line(f"{where}: {dotted or 'the file'}: {expected}; found {_short(details['input'])}")


def _origin(source: Origin, about: Sequence[str], *, missing: bool) -> str:
    """Name the file that a key stands in; of a missing one that of its section."""
    if isinstance(source, str):
        return source
    key = about[0] if about else ""
    return source(key.rpartition(".")[0] if missing else key)


def _of_kind(names: Sequence[str], overrides: Sequence[str]) -> str:
    """Tell how to change the kind of an unknown key's section without the keys that another kind was given."""
    section = ".".join(names[:-1])
    given = {key.strip(): value for key, _, value in (override.partition("=") for override in overrides)}
    kind = given.get(f"{section}.kind", "").strip(" \"'")
    if not kind:
        return ""
    return f" of kind {kind} (--set '{section}={{kind: {kind}}}' leaves out what was given for another)"


def _suggest(names: Sequence[str], candidates: Sequence[str]) -> str:
    close = difflib.get_close_matches(names[-1], candidates, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{'.'.join([*names[:-1], close[0]])}'?"
    return f"known keys are {', '.join(sorted(candidates))}" if candidates else "remove it"


def _covers(key: str, dotted: str) -> bool:
    return dotted == key or dotted.startswith(key + ".") or key.startswith(dotted + ".")


def _resolve(model: type[BaseModel], loc: Sequence[int | str]) -> tuple[list[str], list[str], list[Any]]:
    """Return an error's key without tags of unions, the keys known beside it, and the kinds of the union it names."""
    names: list[str] = []
    annotation: Any = model
    candidates: list[str] = []
    for element in loc:
        fields = [m for m in _members(annotation) if isinstance(m, type) and issubclass(m, BaseModel)]
        tagged = [m for m in fields if element in _tags(m)]
        if tagged and not any(_field(m, str(element)) for m in fields):
            annotation = tagged[0]
            continue
        names.append(str(element))
        candidates = [field.alias or name for m in fields for name, field in m.model_fields.items()]
        if isinstance(element, str):
            annotation = next((found for m in fields if (found := _field(m, element)) is not None), None)
    return names, candidates, [tag for m in _members(annotation) for tag in _tags(m)]


def _field(model: type[BaseModel], key: str) -> Any:
    for name, field in model.model_fields.items():
        if key in (name, field.alias):
            return field.annotation
    return None


def _tags(member: Any) -> tuple[Any, ...]:
    kind = member.model_fields.get("kind") if isinstance(member, type) and issubclass(member, BaseModel) else None
    return get_args(kind.annotation) if kind is not None and get_origin(kind.annotation) is Literal else ()


def _members(annotation: Any) -> Iterator[Any]:
    """List the plain types behind Annotated, unions, tuples and lists."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin in (Union, types.UnionType, tuple, list, dict):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _short(value: Any) -> str:
    text = _one_line(repr(value))
    return text if len(text) <= 80 else text[:77] + "..."
