"""Reading: a table from a file, every value kept as the file spells it until a schema says what it is.

Column names: every column gets one of its own, without line breaks or blanks around it.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict
from pydantic import Field as Option

from difflm.errors import ConfigError, DataError, StorageError
from difflm.records.files.readers import (
    read_arrow,
    read_delimited,
    read_json_document,
    read_json_lines,
    read_parquet,
    without_nesting,
)
from difflm.records.kinds.columns import as_text
from difflm.records.notices import Notice, Reporter, ignore

_BREAKS = re.compile(r"[\s\x00-\x1f\x7f\u2028\u2029\ufeff]+")


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


MISSING = ("", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NULL", "null")


class ReadConfig(BaseModel):
    """What a file does not say about itself; the defaults suit most."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    missing: tuple[str, ...] = MISSING
    """Texts that stand for a missing value."""
    drop: tuple[str, ...] = ()
    """Columns to leave out, by their names in the file."""
    columns: tuple[str, ...] = ()
    """Columns to keep, in this order; empty for all."""
    rename: dict[str, str] = {}
    """New names by the names in the file."""
    header: tuple[str, ...] | None = None
    """Column names of a delimited file without a header line."""
    strip_suffix: dict[str, str] = {}
    """Endings to take off the values of a column, for instance `{income: "."}` for `<=50K.`."""
    delimiter: Annotated[str, Option(min_length=1, max_length=1)] | None = None
    """Between the cells of a delimited file; None for a comma, or a tab in .tsv and .tab.

    Where the first line has none of these, but semicolons, tabs or bars, they are taken and reported.
    """
    encoding: str = "utf-8"
    """Of a text file; a byte order mark is skipped."""
    trim: bool = True
    """Take blanks off both ends of the cells of delimited files."""


_Reader = Callable[[bytes, Path, ReadConfig, Reporter], pa.Table]


def read_table(path: Path | str, config: ReadConfig | None = None, *, report: Reporter = ignore) -> pa.Table:
    """Read the table of a csv, tsv, txt, jsonl, ndjson, json, parquet or arrow file, the text formats also as .gz.

    Columns of delimited files are text; those of JSON and Parquet are int64, double, bool or text (dates in ISO form,
    nested values as JSON). Missing values are null. What was renamed, trimmed, dropped or mixed is reported. DataError
    naming file and row for what cannot be read.
    """
    path = Path(path)
    config = config or ReadConfig()
    trim = config.trim and path.suffix.lower() not in (".parquet", ".pq", ".arrow") and not _is_json(path)
    return _canonical_table(_parse(path, config, report), config, str(path), report, trim=trim)


def canonical_table(table: pa.Table, config: ReadConfig, *, name: str, report: Reporter = ignore) -> pa.Table:
    """Convert a table in memory to the form in which `read_table` returns a Parquet file of it.

    Raises:
        DataError: it has no rows; the message begins with ``name``.
        ConfigError: ``config`` names a column that is not there.
    """
    return _canonical_table(without_nesting(table, report), config, name, report, trim=False)


def _canonical_table(table: pa.Table, config: ReadConfig, name: str, report: Reporter, *, trim: bool) -> pa.Table:
    table = _select(_unique(table, report), name, config, report)
    if table.num_rows == 0 or table.num_columns == 0:
        raise DataError(
            f"{name}: {table.num_rows} rows, {table.num_columns} columns; give a table with at least one row"
        )
    columns = []
    for column_name, column in zip(table.column_names, table.columns, strict=True):
        try:
            canonical = _canonical(column, column_name, report)
        except pa.ArrowNotImplementedError as error:
            raise DataError(
                f"{name}: column {column_name!r} is of the type {column.type}, which cannot be written as text; give "
                "another type, or leave the column out"
            ) from error
        columns.append(_cells(canonical, column_name, config, report, trim=trim))
    return pa.Table.from_arrays(columns, names=table.column_names)


def _parse(path: Path, config: ReadConfig, report: Reporter) -> pa.Table:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    readers: dict[str, _Reader] = {
        ".jsonl": _json_lines,
        ".json": _json_document,
        ".parquet": _parquet,
        ".arrow": _arrow,
        ".csv": _commas,
        ".tsv": _tabs,
    }
    alias = {".ndjson": ".jsonl", ".pq": ".parquet", ".txt": ".csv", ".data": ".csv", ".tab": ".tsv"}
    reader = readers.get(alias.get(kind, kind))
    if reader is None:
        known = ", ".join(sorted({*readers, *alias}))
        raise DataError(f"{path}: unknown kind of file {kind!r}; known are {known}, each also with .gz")
    return reader(_bytes_of(path), path, config, report)


def _commas(data: bytes, path: Path, config: ReadConfig, report: Reporter) -> pa.Table:
    return _delimited(data, path, config, ",", report)


def _tabs(data: bytes, path: Path, config: ReadConfig, report: Reporter) -> pa.Table:
    return _delimited(data, path, config, "\t", report)


def _delimited(data: bytes, path: Path, config: ReadConfig, usual: str, report: Reporter) -> pa.Table:
    return read_delimited(
        data,
        path,
        delimiter=config.delimiter,
        usual=usual,
        encoding=config.encoding,
        header=config.header,
        report=report,
    )


def _json_lines(data: bytes, path: Path, config: ReadConfig, report: Reporter) -> pa.Table:
    return read_json_lines(data, path, encoding=config.encoding, report=report)


def _json_document(data: bytes, path: Path, config: ReadConfig, report: Reporter) -> pa.Table:
    return read_json_document(data, path, encoding=config.encoding, report=report)


def _parquet(data: bytes, path: Path, config: ReadConfig, report: Reporter) -> pa.Table:
    del config
    return read_parquet(data, path, report=report)


def _arrow(data: bytes, path: Path, config: ReadConfig, report: Reporter) -> pa.Table:
    del config
    return read_arrow(data, path, report=report)


def _bytes_of(path: Path) -> bytes:
    try:
        with pa.input_stream(str(path), compression="gzip" if path.suffix.lower() == ".gz" else None) as stream:
            data: bytes = stream.read()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; give the path of a table") from error
    except PermissionError as error:
        raise StorageError(f"{path}: no permission to read; change it or give another file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}); is it complete and what its name says?") from error
    return data


def _unique(table: pa.Table, report: Reporter) -> pa.Table:
    names = unique_names(table.column_names)
    for position, (old, new) in enumerate(zip(table.column_names, names, strict=True)):
        if old != new:
            message = f"column {position + 1}, called {old!r} in the file, is called {new!r}"
            report(Notice(column=new, code="renamed", count=1, message=message))
    return table.rename_columns(names)


def _select(table: pa.Table, path: str, config: ReadConfig, report: Reporter) -> pa.Table:
    present = table.column_names
    asked = {"drop": config.drop, "columns": config.columns, "rename": tuple(config.rename)}
    for key, names in asked.items():
        for name in names:
            if name not in present:
                raise ConfigError(f"{key}: {path} has no column {name!r}; it has {', '.join(map(repr, present))}")
    for name in config.drop:
        report(Notice(column=name, code="dropped", count=1, message="left out, as configured"))
    table = table.select([name for name in config.columns or present if name not in config.drop])
    renamed = [config.rename.get(name, name) for name in table.column_names]
    if len(set(renamed)) != len(renamed):
        raise ConfigError(f"rename: {path} would have two columns of the same name: {renamed}; choose other names")
    for name in config.strip_suffix:
        if name not in renamed:
            raise ConfigError(f"strip_suffix: {path} has no column {name!r}; it has {', '.join(map(repr, renamed))}")
    return table.rename_columns(renamed)


def _canonical(column: pa.ChunkedArray, name: str, report: Reporter) -> pa.ChunkedArray:
    """Cast whole numbers to int64, floats to finite double, booleans to bool, all else to text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _canonical(column.cast(kind.value_type), name, report)
    if pa.types.is_boolean(kind):
        return column
    if pa.types.is_null(kind):
        return column.cast(pa.string())
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return column.cast(pa.int64())
    if pa.types.is_floating(kind):
        infinite = pc.sum(pc.is_inf(column)).as_py() or 0
        if infinite:
            message = f"{infinite} infinite values count as missing"
            report(Notice(column=name, code="not_finite", count=infinite, message=message))
        return as_text(column).cast(pa.float64())
    return as_text(column)


def _cells(column: pa.ChunkedArray, name: str, config: ReadConfig, report: Reporter, *, trim: bool) -> pa.ChunkedArray:
    if not pa.types.is_string(column.type):
        return column
    if trim:
        column = _trimmed(column, name, report)
    column = pc.if_else(
        pc.fill_null(pc.is_in(column, value_set=pa.array(config.missing, pa.string())), True),
        pa.scalar(None, pa.string()),
        column,
    )
    suffix = config.strip_suffix.get(name)
    if suffix:
        ends = pc.ends_with(column, suffix)
        column = pc.if_else(ends, pc.utf8_slice_codeunits(column, 0, -len(suffix)), column)
    return column


def _is_json(path: Path) -> bool:
    return bool({".json", ".jsonl", ".ndjson"} & {suffix.lower() for suffix in path.suffixes[-2:]})


def _trimmed(column: pa.ChunkedArray, name: str, report: Reporter) -> pa.ChunkedArray:
    trimmed = pc.utf8_trim(column, characters=" \t")
    changed = pc.sum(pc.not_equal(trimmed, column)).as_py() or 0
    if changed:
        message = f"blanks were taken off both ends of {changed} values"
        report(Notice(column=name, code="trimmed", count=changed, message=message))
    return trimmed
