"""Reading: a table from a file, every value kept as the file spells it until a schema says what it is.

Column names: every column gets one of its own, without line breaks or blanks around it.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeAlias

import pyarrow as pa
from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from difflm.errors import ConfigError, DataError, reason_of
from difflm.records.databases.tables import read_database
from difflm.records.databases.urls import DatabaseUrl, is_database
from difflm.records.files.compression import Expansion, contents, refuse_another_kind, refuse_page
from difflm.records.files.delimited import Quoted, read_delimited
from difflm.records.files.dialects import Dialect, number_spelling
from difflm.records.files.json_files import JsonForm, read_json_document, read_json_lines
from difflm.records.files.layouts import Wanted
from difflm.records.files.missing_words import MISSING as MISSING
from difflm.records.files.missing_words import MissingWords
from difflm.records.files.paths import KINDS, SHEETS, files_of
from difflm.records.files.sheets import WorkbookForm, read_sheet
from difflm.records.files.source import SourceForm, joined_tables
from difflm.records.files.typed_files import read_arrow, read_parquet, without_nesting
from difflm.records.files.typed_form import TypedForm
from difflm.records.large.encoded import decoded, value_type
from difflm.records.large.values import canonical_values, trimmed, without_suffix
from difflm.records.limits import refuse_wide
from difflm.records.notices import Notice, Reporter, ignore

_BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff]+")  # also what turns a line round


def unique_names(names: Sequence[str]) -> list[str]:
    """Keep names where possible: empty ones become `column_3`, repeated ones `age_2`, white space one blank."""
    tidy = [_BREAKS.sub(" ", name).strip() or f"column_{position + 1}" for position, name in enumerate(names)]
    taken = set(tidy)
    used: set[str] = set()
    unique: list[str] = []
    numbers: dict[str, int] = {}  # the last one of each name: a file may call all of its columns the same
    for name in tidy:
        candidate, number = name, numbers.get(name, 1)
        while candidate in used or (number > 1 and candidate in taken):
            number += 1
            candidate = f"{name}_{number}"
        numbers[name] = number
        used.add(candidate)
        unique.append(candidate)
    return unique


Letter: TypeAlias = Annotated[str, Option(min_length=1, max_length=1)]


class ReadConfig(BaseModel):
    """What a file does not say about itself; the defaults suit most."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    missing: tuple[str, ...] | None = None
    """Texts that stand for a missing value. None: in delimited files nothing, ?, NA, N/A, NaN, NULL and their like, but
    for NA among codes of two letters; in typed files and JSON only what they themselves call missing."""
    missing_in: dict[str, tuple[str, ...]] = {}
    """The same of single columns."""
    drop: tuple[str, ...] = ()
    """Columns to leave out, by their names in the file."""
    columns: tuple[str, ...] = ()
    """Columns to keep, in this order; empty for all."""
    rename: dict[str, str] = {}
    """New names by the names in the file."""
    header: tuple[str, ...] | None = None
    """Column names of a delimited file without a header line."""
    skip: Annotated[int, Option(ge=0)] | None = None
    """Lines above the header to leave out; None: titles above it are recognised and reported."""
    strip_suffix: dict[str, str] = {}
    """Endings to take off the values of a column, for instance `{income: "."}` for `<=50K.`."""
    delimiter: Letter | None = None
    """Between the cells of a delimited file; None: what divides most rows alike, or aligned columns; reported where it
    is not a comma, or a tab in .tsv and .tab."""
    encoding: str | None = None
    """Of a text file; None: what its byte order mark says, UTF-8, or what is recognised, which is reported."""
    sheet: str | None = None
    """Which sheet of a workbook; None for the first with a table."""
    trim: bool = True
    """Take blanks off both ends of the cells of delimited files."""
    max_unpacked_mib: Annotated[int, Option(ge=1)] | None = None
    """How far a packed file, a workbook or a typed file may unpack; None: to 200 times its size, at least 256 MiB and
    at most 16 GiB."""


def read_table(path: Path | str, config: ReadConfig | None = None, *, report: Reporter = ignore) -> pa.Table:
    """Read the table of a delimited, JSON, Parquet, Arrow or Excel file, also packed (.gz, .bz2, .xz, .zst, .zip), of
    all files that a pattern such as parts/*.csv matches, or of a database (`DatabaseUrl`), as a Parquet file of it.

    Columns of delimited files are text; those of the others are int64, double, bool or text (dates in ISO form, nested
    values as JSON). Missing values are null. What was renamed, trimmed, dropped or guessed is reported. The table
    carries the form of its file (`SourceForm.of`).

    Raises:
        DataError: the file is missing or cannot be read; names file and row.
        ConfigError: the configuration names what is not there.
        StorageError: the file may not be read.
    """
    config = config or ReadConfig()
    if isinstance(path, str) and is_database(path):
        source = DatabaseUrl.parse(path)
        return canonical_table(read_database(source), config, name=str(source), report=report)
    read: list[tuple[Path, pa.Table]] = []
    for file in files_of(Path(path)):
        data, kind = contents(file, max_unpacked_mib=config.max_unpacked_mib)
        with named(str(file)):
            raw = _parse(data, kind, file, config, report)
            del data  # as large as the table
            table = canonical_rows(raw, config, str(file), report)
        read.append((file, table))
    return joined_tables(read)


def canonical_table(table: pa.Table, config: ReadConfig, *, name: str, report: Reporter = ignore) -> pa.Table:
    """Convert a table in memory to the form in which `read_table` returns a Parquet file of it.

    Raises:
        DataError: it has no rows; the message begins with ``name``.
        ConfigError: ``config`` names a column that is not there.
    """
    with named(name):
        return canonical_rows(Raw(table=table), config, name, report).replace_schema_metadata(None)


@contextmanager
def named(name: str) -> Iterator[None]:
    """Name the table where its libraries raise what nobody foresaw, such as for a time zone that does not exist."""
    try:
        yield
    except (pa.ArrowException, csv.Error, ValueError, LookupError, OverflowError, RecursionError) as error:
        reason = reason_of(error)
        raise DataError(f"{name}: cannot be read ({reason}); is it what its name says?") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A table as its file has it; a delimited one has a dialect, and `quoted` are the places of quoted columns. The
    layout of a sheet is by the places of columns. Columns of a large table are encoded, and `types` is the file's.
    """

    table: pa.Table
    dialect: Dialect | None = None
    quoted: Quoted = field(default_factory=Quoted)
    json: JsonForm | None = None
    workbook: WorkbookForm | None = None
    types: pa.Schema | None = None


def _parse(data: bytes, kind: str, path: Path, config: ReadConfig, report: Reporter) -> Raw:
    if kind not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise DataError(f"{path}: unknown kind of file {kind!r}; known are {known}, each also with .gz or .zip")
    refuse_page(data, path)
    if kind not in SHEETS:
        refuse_another_kind(data, path, kind)
    match KINDS[kind]:
        case ".jsonl":
            return _of_json(read_json_lines(data, path, encoding=config.encoding, report=report))
        case ".json":
            return _of_json(read_json_document(data, path, encoding=config.encoding, report=report))
        case ".parquet":
            return Raw(table=read_parquet(data, Expansion.of(path, config.max_unpacked_mib)))
        case ".arrow":
            return Raw(table=read_arrow(data, Expansion.of(path, config.max_unpacked_mib)))
        case ".xlsx":
            most = Expansion.of(path, config.max_unpacked_mib)
            sheet = read_sheet(data, most, sheet=config.sheet, skip=config.skip, report=report)
            return Raw(table=sheet.table, workbook=sheet.form)
        case ending:
            found = read_delimited(data, path, wanted_layout(ending, config), encoding=config.encoding, report=report)
            return Raw(table=found.table, dialect=found.dialect, quoted=found.quoted)


def wanted_layout(ending: str, config: ReadConfig) -> Wanted:
    """Return what is known of the layout of a delimited file, of the usual ending of its kind, before it is read."""
    usual = "\t" if ending == ".tsv" else ","
    return Wanted(delimiter=config.delimiter, usual=usual, header=config.header, skip=config.skip)


def _of_json(read: tuple[pa.Table, JsonForm]) -> Raw:
    return Raw(table=read[0], json=read[1])


def canonical_rows(raw: Raw, config: ReadConfig, name: str, report: Reporter) -> pa.Table:
    """Choose and name the columns of a file, and convert them to the form that `read_table` returns."""
    refuse_wide(raw.table.num_columns, name)
    table, chosen = _select(_unique(raw.table, report), name, config, report)
    if table.num_rows == 0 or table.num_columns == 0:
        raise DataError(
            f"{name}: {table.num_rows} rows, {table.num_columns} columns; give a table with at least one row"
        )
    simple = raw.dialect is not None or raw.types is not None
    plain = table if simple else without_nesting(table, report)
    words = _words(config, table.column_names, name, typed=raw.dialect is None)
    columns: list[pa.ChunkedArray] = []
    missing: dict[str, str] = {}
    for column_name, column in zip(plain.column_names, plain.columns, strict=True):
        try:
            column = canonical_values(column if simple else decoded(column), column_name, report)
        except pa.ArrowNotImplementedError as error:
            raise DataError(
                f"{name}: column {column_name!r} is of the type {column.type}, which cannot be written as text; give "
                "another type, or leave the column out"
            ) from error
        if pa.types.is_string(value_type(column)):
            if raw.dialect is not None and config.trim:
                column = trimmed(column, column_name, report)
            column, missing[column_name] = words.without(column, column_name, report)
            column = without_suffix(column, config.strip_suffix.get(column_name))
        columns.append(column)
    read = pa.Table.from_arrays(columns, names=table.column_names)
    files = dict(zip(table.column_names, raw.table.select(chosen).column_names, strict=True))
    if raw.types is not None:
        kept = zip(chosen, table.column_names, strict=True)
        fields = [raw.types.field(place).with_name(column) for place, column in kept]
        table = pa.schema(fields, raw.types.metadata).empty_table()
    form = _form(raw, table, read, chosen, _kept_names(files, config), missing)
    if form.typed is not None and raw.types is None:
        form = form.model_copy(update={"typed": form.typed.fitting(read, report)})
    return form.on(read)


def _kept_names(files: dict[str, str], config: ReadConfig) -> dict[str, str]:
    """Return the names in the file of columns that have others in the table, but for those that were to be renamed."""
    wanted = set(config.rename.values())
    return {name: file for name, file in files.items() if name != file and name not in wanted}


def _form(
    raw: Raw, typed: pa.Table, read: pa.Table, chosen: list[int], names: dict[str, str], missing: dict[str, str]
) -> SourceForm:
    """Describe the file: its own dialect, types or nesting, by the names that its columns have in the table."""
    if raw.json is not None:
        known = dict(zip(raw.table.select(chosen).column_names, read.column_names, strict=True))
        lists = raw.json.model_dump(exclude={"names"})
        kept = {key: tuple(known[name] for name in some if name in known) for key, some in lists.items()}
        return SourceForm(json=JsonForm(**kept, names=names))
    if raw.dialect is None:
        places = {str(place): name for place, name in zip(chosen, read.column_names, strict=True)}
        workbook = None if raw.workbook is None else raw.workbook.renamed(places)
        return SourceForm(typed=TypedForm.of(typed, read, names), workbook=workbook)
    spelling = {name: number_spelling(column) for name, column in zip(read.column_names, read.columns, strict=True)}
    at = dict(zip(read.column_names, chosen, strict=True))
    dialect = raw.dialect.model_copy(
        update={
            "names": names,
            "quoted": tuple(name for name, place in at.items() if place in raw.quoted.values),
            "quoted_missing": tuple(name for name, place in at.items() if place in raw.quoted.missing),
            "missing": {name: word for name, word in missing.items() if word},
            "places": {name: count for name, count in spelling.items() if isinstance(count, int)},
            "bare": tuple(name for name, kind in spelling.items() if kind == "bare"),
        }
    )
    return SourceForm(dialect=dialect)


def _words(config: ReadConfig, names: list[str], path: str, *, typed: bool) -> MissingWords:
    for name in config.missing_in:
        if name not in names:
            raise ConfigError(f"missing_in: {path} has no column {name!r}; it has {', '.join(map(repr, names))}")
    return MissingWords(all=() if typed and config.missing is None else config.missing, by_column=config.missing_in)


def _unique(table: pa.Table, report: Reporter) -> pa.Table:
    names = unique_names(table.column_names)
    for position, (old, new) in enumerate(zip(table.column_names, names, strict=True)):
        if old != new:
            message = f"column {position + 1}, called {old!r} in the file, is called {new!r}"
            report(Notice(column=new, code="renamed", count=1, message=message))
    return table.rename_columns(names)


def _select(table: pa.Table, path: str, config: ReadConfig, report: Reporter) -> tuple[pa.Table, list[int]]:
    """Choose and rename columns; return the table, and the places of its columns in the file."""
    present = {column: place for place, column in enumerate(table.column_names)}
    asked = {"drop": config.drop, "columns": config.columns, "rename": tuple(config.rename)}
    for key, names in asked.items():
        for name in names:
            if name not in present:
                raise ConfigError(f"{key}: {path} has no column {name!r}; it has {', '.join(map(repr, present))}")
    for name in config.drop:
        report(Notice(column=name, code="dropped", count=1, message="left out, as configured"))
    kept = [name for name in config.columns or present if name not in config.drop]
    renamed = [config.rename.get(name, name) for name in kept]
    if len(set(renamed)) != len(renamed):
        raise ConfigError(f"rename: {path} would have two columns of the same name: {renamed}; choose other names")
    for name in config.strip_suffix:
        if name not in renamed:
            raise ConfigError(f"strip_suffix: {path} has no column {name!r}; it has {', '.join(map(repr, renamed))}")
    places = [present[name] for name in kept]
    return table.select(places).rename_columns(renamed), places
