"""Code: files and rows of Python text to a table of one column, every character kept, and what is left out counted.

A record of code is a table row with the one column `code`, so codec, grammar, conditions and datasets are those of
tables: `{"code": "def f():\\n    return 1"}` on one line. The JSON string keeps every character, line ends included,
and says where the text ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from difflm.errors import DataError
from difflm.records.files.json_files import read_json_rows, read_text
from difflm.records.kinds.literal_checks import python_fault
from difflm.records.notices import Notice, NoticeCode, Reporter
from difflm.records.schema import JsonField, RecordSchema, TextField

CODE = "code"
COLUMNS = (CODE, "content", "text", "output")
"""Names under which files hold code, in the order in which they are looked for."""


def read_code(path: Path, *, encoding: str | None = None) -> pa.Table:
    """Read the code in a folder of `.py` files (in order of their names), or in a `.jsonl`, `.json` or `.parquet` file.

    Raises DataError naming the file, and the byte or line, for text in another encoding, no known column or no text.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*.py") if file.is_file())
        if not files:
            raise DataError(f"{path}: no .py file in this folder; give a folder of Python files")
        return _table([read_text(file, encoding=encoding) for file in files])
    if path.suffix.lower() in (".parquet", ".pq"):
        return code_of_table(_parquet(path), str(path))
    rows = read_json_rows(path, encoding=encoding)
    if not rows:
        raise DataError(f"{path}: the file is empty; give at least one object with code")
    names = list(rows[0])
    name = next((name for name in COLUMNS if name in names), None)
    if name is None:
        raise DataError(f"{path}: its objects have the keys {names}; code is looked for under {', '.join(COLUMNS)}")
    for place, row in enumerate(rows, start=1):
        if not isinstance(row.get(name), str):
            raise DataError(f"{path}: object {place} has no text under {name!r}; leave it out or mend it")
    return _table([row[name] for row in rows])


def code_of_table(table: pa.Table, place: str) -> pa.Table:
    """Select the column that holds the code; DataError naming `place` where there is none, or a row without text."""
    name = next((name for name in COLUMNS if name in table.column_names), None)
    if name is None or not pa.types.is_string(table.schema.field(name).type):
        raise DataError(f"{place}: has the columns {table.column_names}; code is looked for under {', '.join(COLUMNS)}")
    column = table.column(name)
    if column.null_count:
        raise DataError(f"{place}: {column.null_count} rows have no text under {name!r}; leave them out")
    return pa.table({CODE: column})


def usable_code(table: pa.Table, *, longest: int, report: Reporter) -> pa.Table:
    """Select the records that can be learned: those of at most `longest` characters that parse as Python, each once.

    The others are left out and counted; nothing is cut.
    """
    texts: list[str] = table.column(CODE).to_pylist()
    rules: tuple[tuple[NoticeCode, str, Callable[[str], bool]], ...] = (
        ("long_text", f"are longer than {longest} characters", lambda text: len(text) <= longest),
        ("syntax", "do not parse as Python", lambda text: python_fault(text) is None),
    )
    for code, what, keeps in rules:
        kept = [text for text in texts if keeps(text)]
        _tell(code, what, len(texts) - len(kept), report)
        texts = kept
    once = list(dict.fromkeys(texts))
    _tell("repeated", "are equal to an earlier one", len(texts) - len(once), report)
    return _table(once)


def usable_tools(table: pa.Table, *, longest: int, report: Reporter) -> pa.Table:
    """Select tool records (see `tool_codec`) whose values have at most `longest` characters in all; count the others.

    Descriptions that no record has become empty texts: a column without a value cannot be learned.
    """
    lengths = [pc.fill_null(pc.utf8_length(column), 0) for column in table.columns]
    total = lengths[0]
    for more in lengths[1:]:
        total = pc.add(total, more)
    kept = table.filter(pc.less_equal(total, longest))
    _tell("long_text", f"are longer than {longest} characters", table.num_rows - kept.num_rows, report)
    for place, name in enumerate(kept.column_names):
        column = kept.column(place)
        if kept.num_rows and column.null_count == kept.num_rows:
            kept = kept.set_column(place, name, pc.fill_null(column, ""))
            message = f"no record has a {name}; it is kept as an empty text"
            report(Notice(column=name, code="missing", count=kept.num_rows, message=message))
    return kept


def usable_held_out(table: pa.Table, schema: RecordSchema, *, name: str, report: Reporter) -> pa.Table:
    """Select the held-out records none of whose texts is longer than the longest of its column in training.

    Longer ones have no record in the schema, and are counted. DataError where none is left.
    """
    keeps = pa.array([True] * table.num_rows)
    for field in schema.fields:
        if isinstance(field, TextField | JsonField):
            lengths = pc.fill_null(pc.utf8_length(table.column(field.name)), 0)
            keeps = pc.and_(keeps, pc.less_equal(lengths, field.max_characters))
    kept = table.filter(keeps)
    what = f"of {name} have a longer text than any training record"
    _tell("long_text", what, table.num_rows - kept.num_rows, report)
    if kept.num_rows == 0:
        raise DataError(f"all {table.num_rows} records {what}; give more records, or a larger share of them")
    return kept


def _tell(code: NoticeCode, what: str, count: int, report: Reporter) -> None:
    if count:
        report(Notice(column=None, code=code, count=count, message=f"{count} records {what} and are left out"))


def _table(texts: Sequence[str]) -> pa.Table:
    return pa.table({CODE: pa.array(texts, pa.string())})


def _parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check the path") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}); is it complete and what its name says?") from error
