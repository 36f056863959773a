"""Answers with rows: whole ones in every format, streams of lines or events, and how OpenAPI describes them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import ConfigDict, Field

from difflm.artifacts.formats import encode_table
from difflm.config import Config
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.schema import Record, RecordSchema
from difflm.serving.fair_queue import Chunk
from difflm.serving.problems import Problem
from difflm.serving.requests import Format, only
from difflm.synthesis.plans.kept_cells import put_back

MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "sse": "text/event-stream",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.file",
}


def media_type_of(path: Path) -> str:
    """Return the media type of a file of rows, by its name."""
    wanted = {f".{name}": media for name, media in MEDIA_TYPES.items()} | {".jsonl": MEDIA_TYPES["ndjson"]}
    return wanted[path.suffix]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowWriter:
    """Writes rows of a schema as files do: booleans in the source's spelling, only the wanted columns.

    Rows are pairs of index and record; cells that are `kept` stand as they were given.
    """

    codec: JsonRecordCodec
    columns: list[str] | None
    format: Format
    safe_csv: bool = False
    kept: pa.Table | None = None

    def rows(self, rows: Sequence[tuple[int, Record]]) -> list[Record]:
        """Return rows as JSON has them."""
        table: list[Record] = self._table(rows).to_pylist()
        return [only(row, self.columns) for row in table]

    def _table(self, rows: Sequence[tuple[int, Record]]) -> pa.Table:
        table = self.codec.table_of(record for _, record in rows)
        return table if self.kept is None else put_back(table, [index for index, _ in rows], self.kept)

    def file(self, rows: Sequence[tuple[int, Record]]) -> bytes:
        """Write a whole csv, parquet or arrow file."""
        table = self._table(rows)
        chosen = table if self.columns is None else table.select(self.columns)
        return encode_table(chosen, self.format, safe_csv=self.safe_csv)

    def lines(self, chunk: Chunk) -> bytes:
        """Write what a stream says of a chunk."""
        rows = self.rows(chunk.rows)
        if self.format == "ndjson":
            return "".join(_json(row) + "\n" for row in rows).encode()
        return _event("rows", {"rows": rows, "given_up": chunk.given_up})

    def end(self, facts: dict[str, object]) -> bytes:
        """Write what a stream says at its end: lines of NDJSON are rows and nothing else."""
        return b"" if self.format == "ndjson" else _event("end", facts)

    def broken(self, problem: Problem) -> bytes:
        """Write what a stream says when it cannot go on."""
        if self.format == "ndjson":
            return (_json(problem.content) + "\n").encode()
        return _event("error", problem.content)


async def streamed(writer: RowWriter, chunks: AsyncIterator[Chunk], facts: dict[str, object]) -> AsyncIterator[bytes]:
    """Stream chunks as bytes; a problem on the way is its last line or event, for its status is sent by then."""
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


Responses = dict[int | str, dict[str, Any]]


class Fault(Config):
    """What is wrong: a code for programs, words for people, and the field of the request that is meant."""

    code: str
    message: str
    field: str | None


class ErrorAnswer(Config):
    """Every answer that is no success."""

    error: Fault


class RowsAnswer(Config):
    """Rows in one piece; `given_up` are indices without a valid draw."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "bundle": "adult", "version": "402d82e56c96", "seed": 1, "start": 0,
                    "rows": [{"age": 39, "income": "<=50K"}], "given_up": [],
                }
            ]
        }
    )  # fmt: skip

    bundle: str
    version: str
    seed: int
    start: int
    rows: list[dict[str, str | float | bool | None]]
    given_up: list[int]


class LatentsAnswer(Config):
    """The latent mean of every given record."""

    bundle: str
    version: str
    latents: list[list[float]]


class BundleState(Config):
    """A bundle of the server; `version` is null while one is being loaded, and `fault` says whether that fails."""

    bundle: str
    version: str | None
    fault: str | None


class BundlesAnswer(Config):
    """All bundles of the server."""

    bundles: list[BundleState]


class SchemaAnswer(Config):
    """The columns of a bundle, with the values and ranges that training had; `row_count` is rounded to one digit."""

    bundle: str
    version: str
    columns: RecordSchema = Field(alias="schema")  # pydantic's own classes have an attribute of that name


class QualityAnswer(Config):
    """The evaluation that came with a bundle; `report.verdict` is null in one that is older than verdicts."""

    bundle: str
    version: str
    report: dict[str, Any]


_ERROR = {"model": ErrorAnswer, "description": "No success: a code, what is wrong, and the field that it is about"}
ERRORS: Responses = dict.fromkeys((400, 401, 403, 404, 405, 408, 409, 413, 422, 429, 503, 504), _ERROR)
_FILES: dict[str, dict[str, Any]] = {media.split(";")[0]: {} for name, media in MEDIA_TYPES.items() if name != "json"}
ROWS: Responses = {200: {"model": RowsAnswer, "description": "Rows", "content": _FILES}}
FILE: Responses = {200: {"description": "The rows", "content": _FILES}}
METRICS: Responses = {200: {"description": "Counters", "content": {"text/plain": {}}}}


class JobView(Config):
    """A job as its owner sees it."""

    id: str
    state: Literal["queued", "running", "finished", "failed"]
    bundle: str
    version: str
    n: int
    seed: int
    rows_done: int
    error: str | None = None
    data: str | None = None
