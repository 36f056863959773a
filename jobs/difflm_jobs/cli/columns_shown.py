"""Columns in words: a table looked through without a run, and what each of its columns is taken for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from difflm.errors import DataError, UserError
from difflm.records.databases.urls import is_database, refuse_database, shown_source
from difflm.records.files.paths import is_pattern
from difflm.records.files.reading import ReadConfig
from difflm.records.kinds.codes_of_form import identifier, numbered_code
from difflm.records.kinds.dress import print_cell
from difflm.records.kinds.inference import infer_schema
from difflm.records.kinds.number_spans import has_spans, shown_form
from difflm.records.notices import Notice
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
    JsonField,
    RecordSchema,
    SchemaConfig,
    TextField,
    read_schema,
)
from difflm.regular_files import not_there
from difflm_jobs.inputs.record_files import read_records
from difflm_jobs.inputs.record_kinds import RecordKind
from difflm_jobs.inputs.sources import DataConfig, locate
from difflm_jobs.loading import TABLE_SUFFIXES, suffix_of

if TYPE_CHECKING:
    import pyarrow as pa

    from difflm_jobs.config import ExperimentConfig

_SHOWN_VALUES = 4
_NAMED = 8
_SHOWN_CHARACTERS = 40


def look_through(
    table: Path | str,
    target: str | None,
    kind: RecordKind,
    notices: list[Notice],
    *,
    read: ReadConfig | None = None,
    settings: SchemaConfig | None = None,
) -> tuple[pa.Table, RecordSchema]:
    """Read all records of a file, or of a database's table, and infer their schema; what was odd in them is added to
    `notices`.

    Raises:
        DataError: the file is missing or cannot be read, or what is set does not fit it; the message names the file.
    """
    shown = shown_source(table)
    if not is_database(table):
        _refuse_no_file(Path(table), kind)
    try:
        records = read_records(table, kind.name, read or ReadConfig(), notices.append, encoded=True)
        longest: int = DataConfig.model_fields["longest"].default
        records = kind.usable(records, longest=longest, report=notices.append)
        config = kind.schema_config(settings or SchemaConfig(drop_all_missing=True), longest=longest)
        return records, infer_schema(records, target=target, config=config)
    except DataError as error:
        named = str(error) if shown in str(error) else f"{shown}: {error}"
        raise type(error)(named) from None


def _refuse_no_file(table: Path, kind: RecordKind) -> None:
    refuse_database(str(table), "the table")
    if not table.exists() and not is_pattern(table):
        raise DataError(f"{table}: {not_there(table)}")
    if table.is_dir() and not kind.folders:
        raise DataError(f"{table}: is a folder; give the file inside it")
    if kind.tabular and suffix_of(table) not in TABLE_SUFFIXES:
        raise DataError(f"{table}: not a table of a known kind; give one of {', '.join(TABLE_SUFFIXES)}, also .gz")


def described(field: Field) -> str:
    """Describe a column in a few words: its kind, its range or values, how it is spelled, and how much is missing."""
    match field:
        case IntegerField():
            text = f"integer {_ends(field)}"
        case DecimalField():
            unit = f"e{field.exponent}" if field.exponent else ""
            places = f", {field.decimals} decimals" if not unit else f" in units of 1{unit}"
            ends = _ends(field) if field.dress else f"{field.minimum:g}..{field.maximum:g}"
            text = f"decimal {ends}{places}"
        case CategoricalField():
            more = ", ..." if len(field.values) > _SHOWN_VALUES else ""
            shown = ", ".join(short(value) for value in field.values[:_SHOWN_VALUES])
            text = f"{'ordinal' if field.ordered else 'categorical'}, {len(field.values):,} values: {shown}{more}"
        case BooleanField():
            text = f"boolean {short(field.true_text)} or {short(field.false_text)}"
        case DatetimeField():
            text = f"datetime {field.minimum}..{field.maximum} ({' or '.join(field.formats)})"
        case TextField():
            words = {
                "json": "JSON",
                "python": "text in python",
                "email": "e-mail address",
                "url": "web address",
                "ipv4": "IP address",
                "cidr": "IP network",
                "endpoint": "IP address and port",
            }
            text = f"{words.get(field.language or '', 'text')} of at most {field.max_characters:,} characters"
        case CodeField(shapes=(form, *others)) if has_spans(form):
            more = f" and {len(others)} more form{'s' if len(others) > 1 else ''}" if others else ""
            text = f"numbers in text, {shown_form(form)}{more}"
        case CodeField():
            text = f"code of {len(field.shapes)} forms, such as {short(numbered_code(field.shapes, 0))}"
        case IdentifierField():
            text = f"identifier, made anew, such as {short(str(identifier(field, 0)))}"
        case ConstantField():
            text = f"always {short(str(field.value))}"
        case _:
            text = f"{field.kind} of at most {field.max_characters:,} characters"
    missing = f", {100 * field.missing_share:.3g} % missing" if field.missing_share else ""
    return one_line(text + missing)


def _ends(field: IntegerField | DecimalField) -> str:
    """Write the range as the column spells numbers."""
    return f"{print_cell(field, field.minimum)}..{print_cell(field, field.maximum)}"


def short(text: str) -> str:
    """Cut a text to what a line has room for."""
    return one_line(text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "...")


def one_line(text: str) -> str:
    """Replace what would end a line."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def writers_line(config: ExperimentConfig, prepared: Path | None) -> str | None:
    """Say which columns the language model writes freely, and which its grammar bounds; None of a compact decoder.

    The schema is that of the folder `prepared`, or else of a look through the training table, if it is there.
    """
    if config.decoder.kind != "pretrained":
        return None
    try:
        schema = _looked_through(config) if prepared is None else read_schema(prepared)
    except UserError:
        return f"columns: known once the data can be read; {config.decoder.model} writes them all"
    return written_columns(schema, config.decoder.model)


def _looked_through(config: ExperimentConfig) -> RecordSchema:
    data = config.data
    path = locate(data.train, "data.train", folders=data.record_kind.folders)
    _, schema = look_through(path, data.target, data.record_kind, [], read=data.read, settings=config.schema_)
    return schema


def written_columns(schema: RecordSchema, model: str) -> str:
    """Name the columns of a schema by who decides what stands in them."""
    free = [field for field in schema.fields if isinstance(field, TextField | JsonField)]
    given = [field for field in schema.fields if isinstance(field, IdentifierField | ConstantField)]
    bounded = [field for field in schema.fields if field not in free and field not in given]
    parts = [
        f"{model} writes as free text {_names(free)}" if free else f"{model} writes no free text",
        *([f"between values that its grammar allows {_names(bounded)}"] if bounded else []),
        *([f"without it {_names(given)}"] if given else []),
    ]
    return f"columns: {'; '.join(parts)}"


def _names(fields: Sequence[Field]) -> str:
    shown = ", ".join(field.name for field in fields[:_NAMED])
    return shown if len(fields) <= _NAMED else f"{shown} and {len(fields) - _NAMED} more"
