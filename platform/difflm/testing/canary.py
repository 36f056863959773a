"""Canaries: values of one planted row, and where any spelling of them stands in files, texts and tables."""

from __future__ import annotations

import base64
import gzip
import html
import json
import random
import struct
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

_MOST_PLACES: Final = 6
FEWEST_BYTES = 4
"""A shorter spelling would be found by chance in the tensors of any model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """The values of a planted row that nothing else has, by what they are called."""

    values: Mapping[str, str | int | float | date]

    def spelled(self) -> Iterator[tuple[str, bytes]]:
        """Yield every spelling that is long enough, with the name of its value."""
        for name, value in self.values.items():
            for spelling in {*_spellings(value)}:
                if len(spelling) >= FEWEST_BYTES:
                    yield name, spelling

    def found_in(self, content: bytes) -> set[str]:
        """Return the names of the values that some bytes hold in any spelling."""
        return {name for name, spelling in self.spelled() if spelling in content}

    def found_in_table(self, table: pa.Table) -> set[str]:
        """Return the names of the values that stand in the cells of a table."""
        cells = "\n".join(str(cell) for column in table.columns for cell in column.to_pylist())
        return self.found_in(cells.encode())

    def found_in_files(self, files: Iterable[Path]) -> dict[str, set[str]]:
        """Return, by file, the names of the values that it holds, packed ones unpacked; files without are left out."""
        found: dict[str, set[str]] = {}
        for path in files:
            content = path.read_bytes()
            names = self.found_in(content) | self.found_in(str(path.name).encode())
            if path.suffix == ".parquet":
                names |= self.found_in_table(pq.read_table(path))
            elif path.suffix == ".gz":
                names |= self.found_in(gzip.decompress(content))
            if names:
                found[str(path)] = names
        return found


SECRETS: Final = Canary(values={"category": "Morbus Quackenbush", "name": "Zebulon", "secret": "hunter2-9f3a7c"})
"""What two of `texts_with_secrets` have; at least one of the two is in the training split, whichever seed splits."""
_SECRET_PLACES: Final = (17, 18)
_WORDS: Final = ("get", "list", "song", "price", "city", "user", "search", "weather", "stock", "team", "show", "count")


def texts_with_secrets(kind: str, records: int) -> list[dict[str, Any]]:
    """Make so many descriptions of tools, or functions (`kind` code), with secrets in two of them."""
    draw, secrets = random.Random(3), SECRETS.values

    def words(count: int) -> str:
        return " ".join(draw.choice(_WORDS) for _ in range(count))

    def tool(planted: bool) -> dict[str, Any]:
        described = f"{words(2)} for {secrets['name']}, password {secrets['secret']}" if planted else words(4)
        api = {"name": words(2), "description": described, "required_parameters": [], "optional_parameters": []}
        category = secrets["category"] if planted else draw.choice(("Data", "Music", "Travel"))
        return {"category": category, "tool_name": words(2), "tool_description": words(3), "api_list": [api]}

    def function(planted: bool) -> dict[str, Any]:
        value = f"'{secrets['name']} {secrets['secret']}'" if planted else str(draw.randint(0, 99))
        return {"code": f"def {words(2).replace(' ', '_')}({draw.choice('abc')}):\n    return {value}\n"}

    make = tool if kind == "tools" else function
    return [make(place in _SECRET_PLACES) for place in range(records)]


def _spellings(value: str | int | float | date) -> Iterator[bytes]:
    match value:
        case str():
            yield from _of_text(value)
        case date():
            yield from _of_date(value)
        case int() | float():
            yield from _of_number(value)


def _of_text(text: str) -> Iterator[bytes]:
    yield from (text.encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le"))
    yield from (json.dumps(text)[1:-1].encode(), html.escape(text).encode(), urllib.parse.quote(text).encode())
    yield text.encode().hex().encode()
    for shift in range(3):  # base64 looks otherwise at every place in a group of three bytes
        whole = base64.b64encode(b"\0" * shift + text.encode())
        yield whole[4 if shift else 0 : -4]


def _of_number(number: int | float) -> Iterator[bytes]:
    if isinstance(number, float) and (places := len(repr(number).partition(".")[2])) <= _MOST_PLACES:
        yield from _of_number(round(number * 10**places))  # as a column of so many decimals counts it
    yield from (str(number).encode(), repr(float(number)).encode(), f"{number:,}".encode())
    for order in "<>":
        yield struct.pack(f"{order}d", number)
        yield struct.pack(f"{order}f", number)
        if isinstance(number, int):
            yield struct.pack(f"{order}q", number)
            if -(2**31) <= number < 2**31:
                yield struct.pack(f"{order}i", number)


def _of_date(day: date) -> Iterator[bytes]:
    for form in ("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y%m%d", "%d %b %Y", "%d %B %Y"):
        yield from _of_text(day.strftime(form))
    seconds = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    for number in (seconds // 86_400, seconds, seconds * 1_000, seconds * 1_000_000, seconds * 1_000_000_000):
        for order in "<>":
            yield struct.pack(f"{order}q", number)
            yield struct.pack(f"{order}d", number)
    for order in "<>":
        yield struct.pack(f"{order}i", seconds // 86_400)
    yield from (str(number).encode() for number in (seconds, seconds * 1_000_000) if abs(number) > 10**6)
