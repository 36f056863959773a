"""Answers with rows: whole ones in every format, and streams of NDJSON lines or server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from difflm.artifacts.formats import encode_table
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.values import Record
from difflm.serving.fair_queue import Chunk
from difflm.serving.problems import Problem
from difflm.serving.requests import Format, only

MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "sse": "text/event-stream",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.file",
}


def media_type_of(path: Path) -> str:
    """What a file of rows is, by its name."""
    wanted = {f".{name}": media for name, media in MEDIA_TYPES.items()} | {".jsonl": MEDIA_TYPES["ndjson"]}
    return wanted[path.suffix]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowWriter:
    """Writes rows of a schema as files do: booleans in the source's spelling, only the wanted columns."""

    codec: JsonRecordCodec
    columns: list[str] | None
    format: Format

    def rows(self, records: Sequence[Record]) -> list[Record]:
        """Rows as JSON has them."""
        table: list[Record] = self.codec.table_of(records).to_pylist()
        return [only(row, self.columns) for row in table]

    def file(self, records: Sequence[Record]) -> bytes:
        """A whole csv, parquet or arrow file."""
        table = self.codec.table_of(records)
        return encode_table(table if self.columns is None else table.select(self.columns), self.format)

    def lines(self, chunk: Chunk) -> bytes:
        """What a stream says of a chunk."""
        rows = self.rows([record for _, record in chunk.rows])
        if self.format == "ndjson":
            return "".join(_json(row) + "\n" for row in rows).encode()
        return _event("rows", {"rows": rows, "given_up": chunk.given_up})

    def end(self, facts: dict[str, object]) -> bytes:
        """What a stream says at its end: lines of NDJSON are rows and nothing else."""
        return b"" if self.format == "ndjson" else _event("end", facts)

    def broken(self, problem: Problem) -> bytes:
        """What a stream says when it cannot go on."""
        if self.format == "ndjson":
            return (_json(problem.content) + "\n").encode()
        return _event("error", problem.content)


async def streamed(writer: RowWriter, chunks: AsyncIterator[Chunk], facts: dict[str, object]) -> AsyncIterator[bytes]:
    """A stream of chunks; a problem on the way is its last line or event, for its status is sent by then."""
    given_up: list[int] = []
    try:
        async for chunk in chunks:
            given_up += chunk.given_up
            if chunk.rows or chunk.given_up:
                yield writer.lines(chunk)
    except Problem as problem:
        yield writer.broken(problem)
    else:
        yield writer.end({**facts, "given_up": given_up})


def _event(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: {_json(data)}\n\n".encode()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
