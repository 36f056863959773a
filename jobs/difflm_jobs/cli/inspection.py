"""`difflm inspect`: what each column of a table is taken for, why, and how to change it, before anything is trained."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field as Setting

from difflm.config import Config, apply_overrides, validate
from difflm.printable import printable
from difflm.records.databases.urls import shown_source
from difflm.records.files.reading import ReadConfig
from difflm.records.kinds.coded import coded
from difflm.records.kinds.number_spans import has_spans
from difflm.records.notices import Notice
from difflm.records.relations.mining import SAMPLE_ROWS, mine_relations
from difflm.records.relations.words import describe as describe_relations
from difflm.records.schema import (
    BooleanField,
    CategoricalField,
    CodeField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Field,
    IdentifierField,
    IntegerField,
    RecordSchema,
    SchemaConfig,
    TextField,
)
from difflm_jobs.cli.columns_shown import described, look_through
from difflm_jobs.inputs.record_kinds import Kind, record_kind

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

_FEW = 20


class _Data(Config):
    """What a configuration's `data` says of how a table is read."""

    kind: Kind = "table"
    read: ReadConfig = ReadConfig()
    target: str | None = None


class _Settings(Config):
    """The settings of a run that decide what columns are taken for."""

    data: _Data = _Data()
    schema_: SchemaConfig = Setting(default=SchemaConfig(), alias="schema")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnLine:
    """A column: its kind, in words, why it was taken for it, its missing share, and the setting that changes it."""

    column: str
    kind: str
    described: str
    why: str
    missing_share: float
    change: str

    @property
    def text(self) -> str:
        missing = "" if self.missing_share else ", none missing"  # a share is part of the description
        return f"{self.column or '(no name)'}: {self.described}{missing}; {self.why}; change with {self.change}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """What was found in a table: a line per column, the relations that hold in its rows, and what was odd."""

    lines: Sequence[ColumnLine]
    relations: Sequence[str]
    notices: Sequence[Notice]


def document(table: Path | str, looked: Inspected) -> str:
    """Write what was found as one JSON document."""
    found = {
        "table": shown_source(table),
        "columns": [asdict(line) for line in looked.lines],
        "relations": list(looked.relations),
        "notices": [notice.model_dump(mode="json") for notice in looked.notices],
    }
    return printable(json.dumps(found, indent=2, ensure_ascii=False))


def print_inspected(console: Console, looked: Inspected) -> None:
    """Print what was found: on a terminal as a table, elsewhere a line per column, which programs can cut."""
    from difflm_jobs.cli.terminal import print_line

    if console.is_terminal and looked.lines:
        from rich.table import Table

        table = Table("column", "taken for", "why")
        for line in looked.lines:
            table.add_row(line.column or "(no name)", line.described, line.why)
        console.print(table)
        print_line(console, f"another kind, here for {looked.lines[0].column!r}: {looked.lines[0].change}")
    else:
        for line in looked.lines:
            print_line(console, line.text)
    for relation in looked.relations:
        print_line(console, f"holds in every row, kept in every made one: {relation}")
    for notice in looked.notices:
        print_line(console, f"noticed: {notice_line(notice)}")


def inspected(table: Path | str, *, target: str | None, overrides: Sequence[str]) -> Inspected:
    """Read a table, infer its schema with the settings of a run, and look for relations in its rows.

    Raises:
        DataError: the table is missing or cannot be read, or a column's values do not fit the kind that is set for it.
        ConfigError: a setting that there is not.
    """
    given = validate(_Settings, apply_overrides({}, overrides), "--set", overrides)
    notices: list[Notice] = []
    settings = given.schema_.model_copy(update={"drop_all_missing": True})
    kind = record_kind(given.data.kind)
    target = target or given.data.target
    records, schema = look_through(table, target, kind, notices, read=given.data.read, settings=settings)
    relations: list[str] = []
    if kind.tabular:
        sample = records.slice(0, SAMPLE_ROWS)
        mined = mine_relations(sample, records.slice(SAMPLE_ROWS), schema)
        relations = describe_relations(mined.relations)
    told = [notice for notice in schema.notices if notice.code != "constant"]
    return Inspected(lines=column_lines(schema, records), relations=relations, notices=[*notices, *told])


def column_lines(schema: RecordSchema, records: pa.Table) -> list[ColumnLine]:
    """Describe every column of the schema of these records."""
    return [
        ColumnLine(
            column=field.name,
            kind=field.kind,
            described=described(field),
            why=_why(field, schema, records.column(field.name)),
            missing_share=field.missing_share,
            change=setting(field.name, _other_kind(field)),
        )
        for field in schema.fields
    ]


def notice_line(notice: Notice) -> str:
    """Write a finding on one line."""
    return notice.message if notice.column is None else f"{notice.column!r}: {notice.message}"


def setting(column: str, kind: str) -> str:
    """Return the option that sets the kind of a column, as a shell takes it."""
    if re.fullmatch(r"[^\s.=:\"'{}]+", column):
        return f"--set {shlex.quote(f'schema.kinds.{column}={kind}')}"
    return f"--set {shlex.quote('schema.kinds=' + json.dumps({column: kind}, ensure_ascii=False))}"


def _why(field: Field, schema: RecordSchema, column: pa.ChunkedArray) -> str:
    match field:
        case IntegerField() | DecimalField():
            return _why_number(field, schema, column)
        case CategoricalField():
            return f"{len(field.values):,} different texts in {schema.row_count:,} rows"
        case BooleanField():
            return "two opposite values"
        case DatetimeField():
            others = f", or one of {', '.join(map(repr, field.words))}" if field.words else ""
            return f"every value is a date in {'one of these forms' if field.others else 'this form'}{others}"
        case CodeField(shapes=(form, *_)) if has_spans(form):
            return "every value is numbers between the same texts; made ones are within the numbers seen"
        case CodeField():
            return "every value has one of the forms, character by character"
        case IdentifierField():
            return "every value is different, so it names the row"
        case ConstantField():
            return "one value in all rows"
        case TextField(language="email" | "url" | "ipv4" | "cidr" | "endpoint"):
            return "every value is an address, and so is every made one"
        case TextField(language="json"):
            return "every value is a list or an object, and so is every made one, with the keys and types seen"
        case _:
            return "too many different texts for a closed list, of no form"


def _why_number(field: IntegerField | DecimalField, schema: RecordSchema, column: pa.ChunkedArray) -> str:
    noun = "whole number" if isinstance(field, IntegerField) else "number"
    changed = {"rounded": "rounded", "spelled": "spelled anew", "not_finite": "infinite, and count as missing"}
    own = [notice for notice in schema.notices if notice.column == field.name and notice.code in changed]
    others = [f"{notice.count:,} that are {changed[notice.code]}" for notice in own]
    others += [f"the words {', '.join(map(repr, field.words))}"] if field.words else []
    parts = [f"every value is a {noun} that prints as it was read"]
    if others:
        parts = [f"values are {noun}s that print as they were read, but for {' and '.join(others)}"]
    parts += [f"{', '.join(map(str, field.points))} stand apart"] if field.points else []
    text = ", ".join(parts)
    if not isinstance(field, IntegerField):
        return text
    sign = coded(field, column)
    if sign is not None:
        return f"{text}; looks like a code ({sign}): categorical if its order says nothing"
    return text + (f" ({field.distinct} different: categorical if they are codes)" if field.distinct <= _FEW else "")


def _other_kind(field: Field) -> str:
    """Return the kind that a column would most likely be set to, if it was misjudged."""
    others: dict[str, Any] = {
        "integer": "categorical",
        "decimal": "text",
        "categorical": "text",
        "boolean": "text",
        "datetime": "text",
        "code": "text",
        "identifier": "code",
        "constant": "categorical",
    }
    return str(others.get(field.kind, "categorical"))
