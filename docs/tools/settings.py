"""The reference of settings, from the configuration itself: every key of a YAML file with its default and meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

JSON = dict[str, Any]


def settings_page() -> str:
    """Write the page."""
    from difflm_jobs.config import ExperimentConfig

    schema = ExperimentConfig.model_json_schema(by_alias=True)
    definitions: dict[str, JSON] = schema.get("$defs", {})
    lines = [
        "# Settings",
        "",
        "Every key of a configuration, as YAML (`difflm run mine.yaml`) and for `--set a.b=c`.",
        "`difflm config show CONFIG` writes them out with their values, `difflm config schema` gives editors a JSON",
        "schema. This page is made from the code.",
        "",
    ]
    sections: list[str] = []
    plain: list[str] = []
    for key, found in schema["properties"].items():
        rows = [*_rows(key, found, definitions, ())]
        if len(rows) == 1 and rows[0].startswith(f"| `{key}`"):
            plain += rows
        else:
            sections += [f"## {key}", "", *_table(rows), ""]
    return "\n".join([*lines, "## Top level", "", *_table(plain), "", *sections])


def _table(rows: list[str]) -> list[str]:
    return ["| key | default | |", "| --- | --- | --- |", *rows]


def _rows(key: str, given: JSON, definitions: dict[str, JSON], above: tuple[str, ...]) -> Iterator[str]:
    """Yield a row for a key, or rows for the keys of its section; a section within itself is named once."""
    variants = [_resolved(one, definitions) for one in given.get("oneOf", given.get("anyOf", [given]))]
    objects = [(name, found) for name, found in variants if found.get("properties") and name not in above]
    if not objects:
        yield f"| `{key}` | {_default(given)} | {_meaning(given, variants)} |"
        return
    if any(found.get("type") == "null" for _, found in variants):
        yield f"| `{key}` | {_default(given)} | `null`, or a section |"
    for name, found in objects:
        kind = found["properties"].get("kind", {}).get("const")
        if len(objects) > 1 and kind is not None:
            yield f"| **`{key}.kind={kind}`** | | {_text(found.get('description', ''))} |"
        for inner, value in found["properties"].items():
            if not (inner == "kind" and "const" in value):
                yield from _rows(f"{key}.{inner}", value, definitions, (*above, name))


def _resolved(given: JSON, definitions: dict[str, JSON]) -> tuple[str, JSON]:
    name = given.get("$ref", "").removeprefix("#/$defs/")
    return (name, definitions[name]) if name else ("", given)


def _default(given: JSON) -> str:
    if "default" not in given or isinstance(given["default"], dict):
        return ""
    return f"`{json.dumps(given['default'], ensure_ascii=False)}`".replace("|", "\\|")


def _meaning(given: JSON, variants: list[tuple[str, JSON]]) -> str:
    words = _text(given.get("description", ""))
    choices = [str(choice) for _, found in variants for choice in found.get("enum", ())]
    named = ", ".join(f"`{choice}`" for choice in choices)
    return "; ".join(part for part in (words.removesuffix("."), f"one of {named}" if named else "") if part)


def _text(words: str) -> str:
    return " ".join(words.split()).replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")
