"""Bodies of requests: strict, bounded, nothing unknown; an example of each stands in the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema

from difflm.config import Config
from difflm.records.schema import Record

MAX_INDEX = 999_999_999  # as many as a dataset can have
MAX_TEXT = 100_000
MAX_CONDITION = 4_000
MAX_CONSTRAINTS = 64
MAX_CONSTRAINED = 4_000  # characters of all constraints of a request
MAX_NAMES = 10_000  # of columns in one request
_MAX_WHOLE = 2**63
SEED_BITS = 53  # a seed is exact in every reader of JSON, JavaScript too

Format = Literal["json", "ndjson", "sse", "csv", "parquet", "arrow"]


def _cell(value: Any) -> Any:
    match value:
        case None | bool():
            return value
        case int() if -_MAX_WHOLE <= value < _MAX_WHOLE:
            return value
        case float() if value - value == 0.0:
            return value
        case str() if len(value) <= MAX_TEXT and _is_unicode(value):
            return value
    raise ValueError("a cell is null, true, false, a finite number of 64 bits, or a text")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _known_text(text: str) -> str:
    if not _is_unicode(text):
        raise ValueError("not a text in Unicode")
    return text


def _bounded(constraints: list[str]) -> list[str]:
    length = sum(map(len, constraints))
    if length > MAX_CONSTRAINED:
        raise ValueError(f"{length} characters in all; {MAX_CONSTRAINED} are the most")
    return constraints


_CELL_SCHEMA = {
    "anyOf": [
        {"type": "null"},
        {"type": "boolean"},
        {"type": "number"},
        {"type": "string", "maxLength": MAX_TEXT},
    ]
}
Cell = Annotated[Any, AfterValidator(_cell), WithJsonSchema(_CELL_SCHEMA)]
Text = Annotated[str, AfterValidator(_known_text)]
GivenRow = dict[Text, Cell]
Records = Annotated[list[GivenRow], Field(min_length=1, fail_fast=True)]
Names = Annotated[list[Text], Field(min_length=1, fail_fast=True)]
Constraint = Annotated[Text, Field(max_length=MAX_CONSTRAINED)]
Constraints = Annotated[list[Constraint], Field(max_length=MAX_CONSTRAINTS, fail_fast=True), AfterValidator(_bounded)]
_KEPT = (
    "what every row keeps across columns, such as `start <= end` or `total == n * unit`, beside the relations that the "
    f"bundle has learned; at most {MAX_CONSTRAINED} characters in all"
)
Seed = Annotated[
    int | None, Field(ge=0, lt=2**SEED_BITS, description="the same seed gives the same rows; none: one by chance")
]
BundleName = Annotated[Text | None, Field(max_length=64, description="none: the first one of the server")]
Deadline = Annotated[float | None, Field(gt=0, le=86_400, allow_inf_nan=False, description="seconds until it ends")]


class SampleBody(Config):
    """Rows of a bundle: row i of a seed is row i of `difflm synthesize --seed` with the same settings."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"n": 5, "seed": 1},
                {"n": 100, "where": 'age >= 40 and income == ">50K"', "columns": ["age", "income"], "format": "csv"},
                {"n": 1000, "temperature": 0.8, "format": "ndjson"},
                {"n": 10, "constraints": ["start <= end", "total == n * unit"]},
            ]
        }
    )

    n: int = Field(ge=1, le=MAX_INDEX, description="rows to make")
    bundle: BundleName = None
    seed: Seed = None
    start: int = Field(default=0, ge=0, le=MAX_INDEX, description="index of the first row, to go on from others")
    temperature: float | None = Field(
        default=None, gt=0, le=100, allow_inf_nan=False, description="colder than 1 sharpens; none: the server's"
    )
    where: Text | None = Field(default=None, max_length=MAX_CONDITION, description="what every row satisfies")
    constraints: Constraints | None = Field(default=None, description=_KEPT)
    like: Records | None = Field(default=None, description="records to vary, by turns")
    strength: float = Field(
        default=0.3, ge=0, le=1, allow_inf_nan=False, description="how far `like` goes: 0 the record, 1 any record"
    )
    columns: Names | None = Field(default=None, description="only these, in this order")
    format: Format = Field(default="json", description="ndjson and sse (server-sent events) come in chunks")
    safe_csv: bool = Field(default=False, description="csv whose texts no spreadsheet runs: an apostrophe in front")
    deadline_s: Deadline = None

    @property
    def job_format(self) -> Literal["jsonl", "csv", "parquet", "arrow"]:
        """What a job writes for the format of a request; JSON in one piece becomes lines of it."""
        match self.format:
            case "csv" | "parquet" | "arrow":
                return self.format
            case _:
                return "jsonl"


class ImputeBody(Config):
    """Records with missing cells (null, or left out), which are filled in; the others stay as they are."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"rows": [{"age": 39, "income": None}], "seed": 1}]})

    rows: Records
    bundle: BundleName = None
    columns: Names | None = Field(default=None, description="only these are filled in")
    constraints: Constraints | None = Field(default=None, description=_KEPT)
    seed: Seed = None
    format: Format = "json"
    deadline_s: Deadline = None


class EncodeBody(Config):
    """Records whose latent means are wanted."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"rows": [{"age": 39, "income": ">50K"}]}]})

    rows: Records
    bundle: BundleName = None


def as_texts(rows: list[GivenRow]) -> dict[str, list[str | None]]:
    """Turn rows into columns of text, which is what files have too; a cell that a row leaves out is missing."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [_as_text(row.get(name)) for row in rows] for name in names}


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def only(row: Record, columns: list[str] | None) -> Record:
    """Keep the wanted columns of a row."""
    return row if columns is None else {name: row[name] for name in columns}
