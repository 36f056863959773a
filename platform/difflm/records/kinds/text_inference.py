"""Text inference: the field of a column of free text, of addresses, or of JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from difflm.errors import DataError
from difflm.records.fields import Address
from difflm.records.kinds.distinct_values import Column
from difflm.records.kinds.literal_checks import ADDRESSES
from difflm.records.notices import Reporter
from difflm.records.repetition import usual_repetition
from difflm.records.schema import GivenKind, JsonField, SchemaConfig, TextField
from difflm.records.tool_codec import parameters_schema

_CONTROL: Final = r"[\x00-\x1f]"


def text_field(
    column: Column,
    limits: SchemaConfig,
    kind: GivenKind | None,
    report: Reporter,
    *,
    json_schema: dict[str, Any] | None = None,
) -> TextField:
    """Infer the field of a column of free text; with a `json_schema` all of it is JSON of that schema."""
    lengths = pc.utf8_length(column.distinct)
    too_long = pc.greater(lengths, limits.text_max_characters)
    above = pc.sum(column.counts.filter(too_long)).as_py()
    if above:
        message = f"{above} texts are longer than {limits.text_max_characters} characters"
        column.tell("long_text", above, message, report)
    present = column.rows - column.missing
    json_schema = json_schema if not above else None
    return TextField(
        name=column.name,
        nullable=column.missing > 0,
        missing_share=column.missing / column.rows,
        max_characters=min(max(pc.max(lengths).as_py(), 1), limits.text_max_characters),
        mean_characters=pc.sum(pc.multiply(pc.cast(lengths, pa.int64()), column.counts)).as_py() / present,
        not_empty=kind in ("name", "python") and pc.min(lengths).as_py() > 0,
        one_line=not pc.any(pc.match_substring_regex(column.distinct, _CONTROL)).as_py(),
        language=_language(column, kind, json_schema),
        json_schema=json_schema,
        most_repeated=usual_repetition(column.distinct.to_pylist()),
    )


def _language(
    column: Column, kind: GivenKind | None, json_schema: dict[str, Any] | None
) -> Literal["python", "json"] | Address | None:
    if kind == "python":
        return "python"
    if kind not in (None, "text"):
        return None
    if json_schema is not None:
        return "json"
    return _address(column.distinct.to_pylist())


def is_address(texts: Sequence[str]) -> bool:
    """Tell whether all texts are addresses of one kind, which are no numbers between fixed texts."""
    return _address(texts) is not None


def _address(texts: Sequence[str]) -> Address | None:
    return next((language for language, form in ADDRESSES.items() if all(map(form.fullmatch, texts))), None)


def tool_parameters(column: Column) -> JsonField:
    """Infer the schema of lists of parameters: types, number and lengths of texts as in training."""
    if column.missing:
        raise DataError(f"column {column.name!r} has {column.missing} missing values; give [] for no parameters")
    texts: list[str] = column.distinct.to_pylist()
    try:
        lists = [json.loads(text) for text in texts]
        parameters = [parameter for found in lists for parameter in found]
        schema = parameters_schema(
            {parameter["type"] for parameter in parameters} or {"STRING"},
            most=max(1, *map(len, lists), 0),
            characters=max((len(one[key]) for one in parameters for key in ("name", "description")), default=1),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"column {column.name!r} does not hold lists of parameters ({error}); see tool_codec"
        ) from error
    return JsonField(
        name=column.name,
        missing_share=0.0,
        json_schema=schema,
        max_characters=max(map(len, texts)),
        most_repeated=usual_repetition(texts),
    )
