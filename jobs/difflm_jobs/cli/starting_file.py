"""`difflm init`: a configuration to start from, with the columns of a table and the settings that are changed first."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difflm.artifacts.atomic import storage_errors, write_bytes_atomic
from difflm.config import parse_yaml, validate
from difflm.errors import ConfigError
from difflm.records.notices import Notice
from difflm.records.schema import (
    RecordSchema,
)
from difflm_jobs.cli.columns_shown import described, look_through, one_line
from difflm_jobs.config import ExperimentConfig
from difflm_jobs.inputs.record_kinds import RecordKind
from difflm_jobs.loading import YAML_SUFFIXES, name_of, suffix_of

SETTINGS = (
    "seed",
    "rows",
    "data.validation",
    "data.test_share",
    "decoder_fit.steps",
    "autoencoder.steps",
    "autoencoder.batch_size",
    "prior.kind",
    "prior.steps",
    "conditions.enabled",
    "sampling.temperature",
    "sampling.steps",
    "relations",
    "gates",
    "runtime.workers.num_workers",
)
"""What is changed first; each is written as a comment at its default."""

_SHOWN_VALUES = 4
_SHOWN_CHARACTERS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class StartingFile:
    """What was written where, of how many records and columns."""

    path: Path
    records: int
    columns: int


def write_starting_file(
    table: Path, *, target: str | None, kind: RecordKind, out: Path | None, force: bool
) -> StartingFile:
    """Write a configuration of an experiment with a table, in which every line may stay as it is.

    Raises:
        DataError: the table is missing, has no rows or no such target, or cannot be read; names it.
        ConfigError: the file is there already and `force` is not given, or its name is not that of a YAML file.
        StorageError: the disk is full, or writing is not permitted.
    """
    path = out or Path(f"{name_of(table)}.yaml")
    if suffix_of(path) not in YAML_SUFFIXES:
        raise ConfigError(f"--out {path}: a configuration ends in {' or '.join(YAML_SUFFIXES)}; give such a name")
    if path.exists() and not force:
        raise ConfigError(f"{path}: is there already; give another name with --out, or --force to replace it")
    if not path.parent.is_dir():
        raise ConfigError(f"--out {path}: there is no folder {path.parent}; make it first")
    notices: list[Notice] = []
    _, schema = look_through(table, target, kind, notices)
    with storage_errors(path):
        write_bytes_atomic(path, starting_text(table, schema, kind, path, notices).encode())
    return StartingFile(path=path, records=schema.row_count, columns=len(schema.fields))


def starting_text(table: Path, schema: RecordSchema, kind: RecordKind, path: Path, notices: Sequence[Notice]) -> str:
    """Compose the file: what is needed as it is, columns and settings as comments."""
    written: dict[str, Any] = {"data.train": str(table)}
    if not kind.tabular:
        written["data.kind"] = kind.name
    if schema.target is not None:
        written["data.target"] = schema.target
    if any(notice.code == "dropped" for notice in schema.notices):
        written["schema.drop_all_missing"] = True
    if kind.holds_json:  # the only engine that keeps their parameters to a schema
        written["sampling.engine"] = {"kind": "builtin", "constraint": "llguidance"}
    data = {"train": {"kind": "file", "path": str(table)}, "kind": kind.name, "target": schema.target}
    config = validate(ExperimentConfig, {"name": name_of(table), "data": data}, str(path))
    offered = [
        *(["data.target"] if schema.target is None else []),
        *(["data.longest"] if not kind.tabular else []),
        *SETTINGS,
    ]
    sections: dict[str, list[str]] = {}
    for key, value in written.items():
        sections.setdefault(key.partition(".")[0], []).append(f"  {_entry(key, value)}")
    sections["data"] += [f"  # {line}" for line in _column_lines(schema, notices)]
    top: list[str] = []
    for key in offered:
        value, about = _default(config, key)
        comment = f"    # {about}" if about else ""
        if "." in key:
            sections.setdefault(key.partition(".")[0], []).append(f"#  {_entry(key, value)}{comment}")
        else:
            top.append(f"#{key}: {_flow(value)}{comment}")
    lines = [*_head(table, schema, path), "", f"name: {_flow(config.name)}", *top]
    for section, entries in sections.items():
        needed = any(not entry.startswith("#") for entry in entries)
        lines += ["", f"{'' if needed else '#'}{section}:", *entries]
    return "\n".join(lines) + "\n"


def _head(table: Path, schema: RecordSchema, path: Path) -> list[str]:
    file = one_line(shlex.quote(str(path)))
    return [
        f"# Written by difflm init from {one_line(str(table))}: {schema.row_count:,} records, "
        f"{len(schema.fields)} columns.",
        "#",
        f"# difflm plan {file} says what would run, and how much memory it needs; difflm run {file} runs it,",
        f"# and goes on where it was stopped; difflm config show {file} prints every setting there is.",
        "#",
        "# Lines that begin with # and no space, or several, are settings at their defaults: to change one, take its #",
        "# away, and that of its section. A path is looked for from the folder in which the command is given.",
    ]


def _column_lines(schema: RecordSchema, notices: Sequence[Notice]) -> list[str]:
    """Describe the columns, and what was found odd in them."""
    lines = ["Columns, and what each was taken for; schema.kinds settles one that was misjudged:"]
    lines += [f"{_flow(field.name)}: {described(field)}" for field in schema.fields]
    for notice in (*notices, *schema.notices):
        if notice.code == "constant":  # the column's own line says so
            continue
        column = "" if notice.column is None else f"{_flow(notice.column)}: "
        lines.append(f"noticed: {column}{one_line(notice.message)}")
    return lines


def _default(config: ExperimentConfig, key: str) -> tuple[Any, str]:
    """Look up the default of a dotted key, and its description."""
    section: Any = config
    *outer, name = key.split(".")
    for part in outer:
        section = getattr(section, part)
    about = type(section).model_fields[name].description or ""
    return section.model_dump(mode="json", include={name})[name], one_line(about)


def _entry(key: str, value: Any) -> str:
    """Write a dotted key below its top section on one line: `workers: {num_workers: 1}`."""
    _, *names = key.split(".")
    text = _flow(value)
    for name in names[:0:-1]:
        text = f"{{{name}: {text}}}"
    return f"{names[0]}: {text}"


def _flow(value: Any) -> str:
    """Write a value as YAML on one line; text without quotes where it reads back as the same text."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(one)}" for key, one in value.items()) + "}"
    if not isinstance(value, str):
        return json.dumps(value)
    plain = re.fullmatch(r"[\w./][\w./ -]*[\w./]|\w", value, re.ASCII) is not None
    if plain and parse_yaml(value, "a plain value") == value:
        return value
    return json.dumps(value, ensure_ascii=not value.isprintable())
