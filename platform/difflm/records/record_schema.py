"""The record schema: the fields of a table in column order, its target, and its file format."""

import json
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic import Field as Option

from difflm.errors import SchemaError
from difflm.records.fields import Field
from difflm.records.notices import Notice

SCHEMA_FORMAT_VERSION: Final = 1


class RecordSchema(BaseModel):
    """What a table holds, fitted on its training split alone; everything that decoding and normalising need.

    `row_count` is the number of training rows; `notices` is what inference found odd, rounded or left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: Literal[1] = SCHEMA_FORMAT_VERSION
    kind: Literal["table"] = "table"
    fields: Annotated[tuple[Field, ...], Option(min_length=1)]
    target: str | None = None
    task: Literal["classification", "regression"] | None = None
    row_count: Annotated[int, Option(ge=1)]
    notices: tuple[Notice, ...] = ()

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        names = [field.name for field in self.fields]
        if len(set(names)) != len(names):
            raise ValueError(f"column names are not unique: {sorted({n for n in names if names.count(n) > 1})}")
        if self.target is not None and self.target not in names:
            raise ValueError(f"target {self.target!r} is not among the fields {names}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(field.name for field in self.fields)

    def field(self, name: str) -> Field:
        """The field called `name`; SchemaError naming the known ones otherwise."""
        for field in self.fields:
            if field.name == name:
                return field
        raise SchemaError(f"the schema has no column {name!r}; it has {', '.join(map(repr, self.names))}")

    def to_json(self) -> str:
        """JSON text, stable for equal schemas."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str = "schema") -> Self:
        """Read what `to_json` wrote; `source` names it in errors. SchemaError for another version or a damaged text."""
        try:
            version = json.loads(text).get("format_version")
        except (ValueError, AttributeError) as error:
            raise SchemaError(f"{source}: not a schema in JSON ({error}); write it again from training data") from error
        if version != SCHEMA_FORMAT_VERSION:
            raise SchemaError(
                f"{source}: format_version is {version!r}, this version reads {SCHEMA_FORMAT_VERSION}; "
                "prepare the data again or use the version that wrote it"
            )
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise SchemaError(f"{source}: {place}: {first['msg']}; write it again from the training split") from error


def read_schema(folder: Path) -> RecordSchema:
    """The schema.json of a folder: prepared data or a bundle. SchemaError for another version or a damaged file."""
    path = folder / "schema.json"
    return RecordSchema.from_json(path.read_bytes(), source=str(path))
