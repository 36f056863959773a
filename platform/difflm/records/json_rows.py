"""JSON objects of a file: one per line, or one list of them, also gzip; text in UTF-8, whatever the file says."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from difflm.errors import DataError

_SHAPE = "give one JSON object per line, or one list of objects"


def read_json_rows(path: Path, *, encoding: str = "utf-8") -> list[dict[str, Any]]:
    """The objects in order; DataError naming file, line and remedy."""
    text = read_text(path, encoding=encoding)
    if text.lstrip().startswith("["):
        rows = _parsed(text, str(path))
    else:
        rows = [_parsed(line, f"{path}: line {n}") for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    for place, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise DataError(f"{path}: entry {place} is no JSON object; {_SHAPE}")
    return [dict(row) for row in rows]


def read_text(path: Path, *, encoding: str = "utf-8") -> str:
    """Text of a file, also gzip, line ends and all; a byte order mark is skipped. DataError naming file and byte."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix.lower() == ".gz" else data
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check the path") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); is it complete and what its name says?") from error
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not {encoding}; convert the file, for instance with "
            f"iconv -f latin1 -t utf-8, or say what it is with --set data.read.encoding=latin1"
        ) from error
    except LookupError as error:
        raise DataError(
            f"{path}: {encoding!r} is no encoding that Python knows; give one like utf-8 or latin1"
        ) from error


def _parsed(text: str, place: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error}); {_SHAPE}") from error
    if "\\ud" in text.lower():
        _check_surrogates(value, place)
    return value


def _check_surrogates(value: Any, place: str) -> None:
    """DataError where an escape is half of a surrogate pair: JSON allows that, but it is no text."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise DataError(f"{place}: {half} is half of a surrogate pair, which is no text; take it out") from error
