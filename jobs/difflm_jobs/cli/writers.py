"""Which columns a pretrained language model writes, in one line of the plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from difflm.errors import UserError
from difflm.records.schema import (
    ConstantField,
    Field,
    IdentifierField,
    JsonField,
    RecordSchema,
    TextField,
    read_schema,
)
from difflm_jobs.cli.columns_shown import look_through
from difflm_jobs.inputs.sources import locate

if TYPE_CHECKING:
    from difflm_jobs.config import ExperimentConfig

_SHOWN = 8


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
    shown = ", ".join(field.name for field in fields[:_SHOWN])
    return shown if len(fields) <= _SHOWN else f"{shown} and {len(fields) - _SHOWN} more"
