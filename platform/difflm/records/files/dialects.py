"""Dialects: how a delimited file spells its table, and made rows spelled the same way."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Annotated, Any, Final, Literal, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from pydantic import BaseModel, ConfigDict, Field, field_validator

from difflm.errors import DataError
from difflm.records.files.layouts import LineEnd
from difflm.records.large.values import Values
from difflm.spelled_numbers import PRINTED, printer

_BOOLEANS = {True: "true", False: "false"}
_MAX_PLACES = 400  # no double has more

_ASCII = "".join(map(chr, range(1, 128)))

HEAD: Final = 2**16
"""Bytes at the beginning that show how quotes are written."""
_ESCAPED = re.compile(rb'(?:^|[,;\t|\n])"[^"\n]*\\"[^,;\t|\r\n"]')


def has_escaped_quotes(text: bytes) -> bool:
    """Tell whether quotes within cells stand behind a backslash, as MySQL and others write them."""
    return _ESCAPED.search(text[:HEAD]) is not None


def torn_quote(text: bytes, delimiter: str) -> str | None:
    """Return the first cell of the beginning whose quote closes before its end; readers leave out its quotes."""
    head, mark = text[:HEAD], re.escape(delimiter.encode())
    cell, rest = (
        re.compile(rb'"(?:[^"]|"")*"|[^"' + mark + rb"\r\n][^" + mark + rb"\r\n]*|"),
        rb"[^" + mark + rb"\r\n]*",
    )
    at, ends = 0, (delimiter.encode(), b"\r", b"\n")
    while (found := cell.match(head, at)) is not None and found.end() < len(head):
        if head[found.end() : found.end() + 1] not in ends:
            behind = re.compile(rest).match(head, found.end())
            return (found[0] + behind[0]).decode(errors="replace") if found[0] and behind else None
        at = found.end() + 1
    return None


def unescaped(text: bytes) -> bytes:
    """Double the quotes behind a backslash, and leave out the backslash of others."""
    return re.sub(rb'\\(["\\])', lambda found: b'""' if found[1] == b'"' else b"\\", text)


_DELIMITER = r"^[\x01-\x09\x0b\x0c\x0e-!#-&(-*,/:-<>?\[-`{-\x7f]$"
"""Where the first cell is missing, a row begins with it: so nothing that begins a formula, and no part of a number."""


class Dialect(BaseModel):
    """How a delimited file spells its table; the defaults are those of a plain CSV file and are left out of files.

    Columns are called as the table has them; `names` are those that the file calls otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    delimiter: Annotated[str, Field(pattern=_DELIMITER)] = ","
    quote: Literal['"', "'"] = '"'
    line_end: LineEnd = "\n"
    encoding: str = "utf-8"
    mark: bool = Field(default=False, description="a byte order mark begins the file")
    sep_line: bool = Field(default=False, description="a line such as sep=; begins the file")
    header: bool = True
    unnamed_first: bool = Field(default=False, description="the header lacks the name of the first column")
    trailing: bool = Field(default=False, description="a delimiter ends every row")
    bare_header: bool = Field(default=False, description="none ends the header")
    escaped: bool = Field(default=False, description="quotes within cells stand behind a backslash")
    spaced: bool = Field(default=False, description="a blank follows every delimiter")
    quoted_header: bool = False
    quoted: tuple[str, ...] = Field(default=(), description="columns whose values are always in quotes")
    quoted_missing: tuple[str, ...] = Field(default=(), description="columns whose missing values are in quotes")
    names: dict[str, str] = {}
    missing: dict[str, str] = Field(default={}, description="by column what stands for a missing value, if not nothing")
    places: dict[str, Annotated[int, Field(ge=0, le=_MAX_PLACES)]] = Field(
        default={}, description="by column the decimals that every number has"
    )
    bare: tuple[str, ...] = Field(default=(), description="columns of decimals whose whole numbers have no fraction")

    @field_validator("encoding")
    @classmethod
    def _of_text(cls, encoding: str) -> str:
        try:
            "a".encode(encoding).decode(encoding)
            codecs.getincrementalencoder(encoding)("replace").encode("aé\U0001f600\n")  # as `writer` does
        except (LookupError, ValueError) as error:
            raise ValueError(f"{encoding[:40]!r} is no encoding of texts") from error
        return encoding

    @contextmanager
    def writer(
        self, sink: IO[bytes], schema: pa.Schema, guard: Callable[[str], str] | None = None
    ) -> Iterator[Callable[[pa.Table], None]]:
        """Give a function that appends tables of one schema to ``sink``, which stays open; `guard` respells texts.

        A character that the encoding does not have becomes a question mark.

        Raises:
            DataError: texts are to be respelled, and the encoding spells letters so that others read signs of formulas.
        """
        if guard is not None and not self._is_read_alike():
            raise DataError(
                f"--safe-csv: the source is in {self.encoding}, which spreadsheets may take for another encoding; give "
                "--dialect plain as well"
            )
        lines = io.TextIOWrapper(cast("io.BytesIO", sink), encoding=self.encoding, errors="replace", newline="")
        if self.mark:
            lines.write("\ufeff")
        if self.sep_line:
            lines.write(f"sep={self.delimiter}{self.line_end}")
        if self.header:
            lines.write(self._header(schema.names, guard))
        yield lambda table: lines.writelines(self._rows(table, guard))
        lines.detach()  # flushes, and leaves the sink open

    def _is_read_alike(self) -> bool:
        """Tell whether every program reads signs as signs and letters as none: ASCII is spelled as everywhere and all
        else in other bytes, or a mark says what it is.
        """
        name = codecs.lookup(self.encoding).name
        if name.startswith(("utf-16", "utf-32")):
            return self.mark or name in ("utf-16", "utf-32")
        name = "utf-8" if name == "utf-8-sig" else name
        try:
            return _ASCII.encode(name) == _ASCII.encode() and _ASCII.encode().decode(name) == _ASCII
        except ValueError:
            return False

    def _header(self, columns: list[str], guard: Callable[[str], str] | None) -> str:
        names = [self.names.get(name, name) for name in columns]
        names = [guard(name) for name in names] if guard else names
        names = names[1:] if self.unnamed_first and names and not names[0] else names
        cells = [self._text(name, always=self.quoted_header) for name in names]
        return self._line(cells, trailing=self.trailing and not self.bare_header)

    def _line(self, cells: list[str] | tuple[str, ...], *, trailing: bool | None = None) -> str:
        divider = f"{self.delimiter} " if self.spaced else self.delimiter
        ends = self.trailing if trailing is None else trailing
        return divider.join(cells) + (self.delimiter if ends else "") + self.line_end

    def _rows(self, table: pa.Table, guard: Callable[[str], str] | None) -> Iterator[str]:
        if table.num_columns == 1:  # an empty line is none
            alone = self._column(table.schema.field(0), table.column(0), guard)
            return (self._line([cell or self.quote * 2]) for cell in alone)
        columns = [
            self._column(field, column, guard) for field, column in zip(table.schema, table.columns, strict=True)
        ]
        return map(self._line, zip(*columns, strict=True))

    def _column(self, field: pa.Field, column: pa.ChunkedArray, guard: Callable[[str], str] | None) -> list[str]:
        name, values = field.name, column.to_pylist()
        kind, missing, always = column.type, self.missing.get(name, ""), name in self.quoted
        if pa.types.is_floating(kind):
            spell: Callable[[Any], str] = self._spelling(field)
        elif pa.types.is_boolean(kind):
            spell = _BOOLEANS.__getitem__
        else:
            spell = str
        if guard is not None:
            missing = guard(missing) if missing.strip("-") else missing
            values = [guard(value) if isinstance(value, str) else value for value in values]
        missing = self._text(missing, always=name in self.quoted_missing)
        if not always and not pa.types.is_string(kind):
            return [missing if value is None else spell(value) for value in values]
        return [missing if value is None else self._text(spell(value), always=always) for value in values]

    def _spelling(self, field: pa.Field) -> Callable[[float], str]:
        name = field.name
        if PRINTED in (field.metadata or {}):  # of what inference found; the dialect knows the decimals alone
            return printer(field.metadata[PRINTED])
        places = self.places.get(name)
        if places is not None:
            return lambda number: f"{number:.{places}f}"
        if name in self.bare:
            return lambda number: str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
        return repr

    def _text(self, text: str, *, always: bool) -> str:
        needs = always or self.delimiter in text or self.quote in text or "\n" in text or "\r" in text
        if self.spaced and text[:1] == " ":
            needs = True
        if self.escaped:
            text, inner = text.replace("\\", "\\\\"), f"\\{self.quote}"
        else:
            inner = self.quote * 2
        return f"{self.quote}{text.replace(self.quote, inner)}{self.quote}" if needs else text

    def parsed(self, content: bytes, columns: list[str]) -> pa.Table:
        """Read a whole file that `writer` wrote of these columns: all of them as text, missing values null."""
        text = content.decode(self.encoding).removeprefix("\ufeff").encode()
        text = unescaped(text) if self.escaped else text
        keys = [*columns, *([""] if self.trailing else [])]
        read = pa.csv.ReadOptions(
            column_names=keys,
            skip_rows=int(self.sep_line) + int(self.header),
            use_threads=False,
            block_size=max(2**20, len(text) + 1),
        )
        parse = pa.csv.ParseOptions(
            delimiter=self.delimiter,
            quote_char=self.quote,
            newlines_in_values=True,
            ignore_empty_lines=len(keys) > 1,
        )
        convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(keys, pa.string()), strings_can_be_null=False)
        table = pa.csv.read_csv(pa.BufferReader(text), read_options=read, parse_options=parse, convert_options=convert)
        found = []
        for name, column in zip(columns, table.columns, strict=False):
            texts = pc.utf8_ltrim(column, characters=" ") if self.spaced else column
            word = self.missing.get(name, "")
            missing = pc.is_in(texts, pa.array([word, f"'{word}"] if word else [word], pa.string()))  # see `writer`
            found.append(pc.if_else(missing, pa.scalar(None, pa.string()), texts))
        return pa.Table.from_arrays(found, names=columns)


_FIXED = re.compile(r"^-?\d+\.(\d+)$")
_SAMPLE = 200


def number_spelling(texts: pa.ChunkedArray) -> int | Literal["bare"] | None:
    """Return how a column of text spells its numbers: all with so many decimals, whole ones bare, or none of these."""
    sample = [text for text in texts.slice(0, _SAMPLE).to_pylist() if text is not None]
    found = [_FIXED.match(text) for text in sample]
    places = {len(one[1]) for one in found if one}
    if not places:
        return None
    texts = Values.of(texts).values
    if len(places) == 1 and all(found):
        (count,) = places
        if pc.all(pc.match_substring_regex(texts, rf"^-?\d+\.\d{{{count}}}$")).as_py():
            return count
    whole = pc.match_substring_regex(texts, r"^-?\d+\.0$")
    bare = pc.match_substring_regex(texts, r"^-?\d+$")
    return "bare" if pc.any(bare).as_py() and not pc.any(whole).as_py() else None
