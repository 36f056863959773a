"""Tools: a tool's raw JSON to one record per API, as DiffLM has them (arXiv 2411.03250), and back.

A raw tool is an object of ToolBench (Qin et al. 2023, arXiv 2307.16789): `category`, `tool_name`, `tool_description`
and `api_list`, whose entries have `name`, `description`, `required_parameters` and `optional_parameters`. A record has
the paper's keys, the category in front of them:

    category, tool_name, tool_description, api_name, api_description, parameters

`parameters` are the required ones and then the optional ones, each with `name`, `type`, `description` and `required`.
What the raw file says besides (hosts, titles, HTTP methods, examples) is no part of a record. `tools_of(records_of(t))`
gives back every kept part of a tool, in order, for tools that have an API.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, TypeAlias

import pyarrow as pa

from difflm.errors import DataError
from difflm.telemetry import parse_json

ToolRecord: TypeAlias = dict[str, Any]

KEYS: Final = ("category", "tool_name", "tool_description", "api_name", "api_description", "parameters")
PARAMETER_KEYS: Final = ("name", "type", "description", "required")
_REMEDY: Final = "give tools as ToolBench has them: category, tool_name, tool_description and api_list"


def records_of(tool: Mapping[str, Any], place: str) -> list[ToolRecord]:
    """Return one record per API of a raw tool; DataError naming `place`, the key and the remedy."""
    category, name = (_text(tool, key, place) for key in ("category", "tool_name"))
    description = _optional_text(tool, "tool_description", place)
    records = []
    for number, api in enumerate(_objects(tool, "api_list", place), start=1):
        where = f"{place}, API {number}"
        parameters = [
            _parameter(parameter, required, f"{where}, {key}")
            for key, required in (("required_parameters", True), ("optional_parameters", False))
            for parameter in _objects(api, key, where)
        ]
        records.append(
            {
                "category": category,
                "tool_name": name,
                "tool_description": description,
                "api_name": _text(api, "name", where),
                "api_description": _optional_text(api, "description", where),
                "parameters": parameters,
            }
        )
    return records


def tools_of(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rebuild raw tools from records: successive records of one category, name and description are one tool."""
    tools = []
    for (category, name, description), group in groupby(records, key=lambda r: tuple(r[key] for key in KEYS[:3])):
        apis = [
            {
                "name": record["api_name"],
                "description": record["api_description"],
                "required_parameters": _of_kind(record["parameters"], required=True),
                "optional_parameters": _of_kind(record["parameters"], required=False),
            }
            for record in group
        ]
        tools.append({"category": category, "tool_name": name, "tool_description": description, "api_list": apis})
    return tools


def parameters_text(parameters: Sequence[Mapping[str, Any]]) -> str:
    """Return the parameters as the text of a table's column: JSON in the canonical spelling of records."""
    return json.dumps([{key: one[key] for key in PARAMETER_KEYS} for one in parameters], ensure_ascii=False)


def table_of_tools(records: Iterable[ToolRecord]) -> pa.Table:
    """Build a table of records: a column per key, `parameters` as their text."""
    rows = list(records)
    columns: dict[str, list[str | None]] = {key: [row[key] for row in rows] for key in KEYS[:-1]}
    columns[KEYS[-1]] = [parameters_text(row[KEYS[-1]]) for row in rows]
    return pa.table({key: pa.array(values, pa.string()) for key, values in columns.items()})


def tools_of_table(table: pa.Table, place: str = "table") -> list[ToolRecord]:
    """Return the records of such a table; DataError names `place` and the record with malformed `parameters`."""
    records = []
    for number, row in enumerate(table.select(list(KEYS)).to_pylist(), start=1):
        try:
            parameters = parse_json(row[KEYS[-1]] or "")
        except ValueError as error:
            raise DataError(f"{place}: record {number}: {KEYS[-1]!r} is no JSON ({error}); {_REMEDY}") from error
        if not isinstance(parameters, list) or not all(map(_is_parameter, parameters)):
            raise DataError(f"{place}: record {number}: {KEYS[-1]!r} is no list of parameters but {_short(parameters)}")
        records.append({**row, KEYS[-1]: parameters})
    return records


def parameters_schema(types: Iterable[str], *, most: int, characters: int) -> dict[str, Any]:
    """Return the JSON Schema of `parameters`: closed list of types, at most `most`, texts of at most `characters`."""
    text = {"type": "string", "maxLength": characters}
    properties = {
        "name": {**text, "minLength": 1},
        "type": {"enum": sorted(set(types))},
        "description": text,
        "required": {"type": "boolean"},
    }
    parameter = {
        "type": "object",
        "properties": properties,
        "required": list(PARAMETER_KEYS),
        "additionalProperties": False,
    }
    return {"type": "array", "items": parameter, "maxItems": most}


def record_schema(types: Iterable[str]) -> dict[str, Any]:
    """Return the JSON Schema of a whole record, without bounds on lengths."""
    text, maybe = {"type": "string", "minLength": 1}, {"type": ["string", "null"]}
    parameters = parameters_schema(types, most=2**31, characters=2**31)
    kinds = (text, text, maybe, text, maybe, parameters)
    return {
        "type": "object",
        "properties": dict(zip(KEYS, kinds, strict=True)),
        "required": list(KEYS),
        "additionalProperties": False,
    }


def _is_parameter(value: object) -> bool:
    return isinstance(value, Mapping) and set(PARAMETER_KEYS) <= set(value)


def _of_kind(parameters: Iterable[Mapping[str, Any]], *, required: bool) -> list[dict[str, Any]]:
    kept = [parameter for parameter in parameters if parameter["required"] is required]
    return [{key: parameter[key] for key in PARAMETER_KEYS[:-1]} for parameter in kept]


def _parameter(parameter: Mapping[str, Any], required: bool, place: str) -> dict[str, Any]:
    name, kind = (_text(parameter, key, place) for key in ("name", "type"))
    return {
        "name": name,
        "type": kind,
        "description": _optional_text(parameter, "description", place) or "",
        "required": required,
    }


def _objects(value: Mapping[str, Any], key: str, place: str) -> list[Mapping[str, Any]]:
    found = value.get(key)
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
        raise DataError(f"{place}: {key!r} is no list of objects but {_short(found)}; {_REMEDY}")
    return found


def _text(value: Mapping[str, Any], key: str, place: str) -> str:
    found = value.get(key)
    if not isinstance(found, str) or not found:
        raise DataError(f"{place}: {key!r} is no text but {_short(found)}; {_REMEDY}")
    return found


def _optional_text(value: Mapping[str, Any], key: str, place: str) -> str | None:
    found = value.get(key)
    if found is not None and not isinstance(found, str):
        raise DataError(f"{place}: {key!r} is neither a text nor null but {_short(found)}; {_REMEDY}")
    return found


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
