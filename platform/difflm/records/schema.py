"""The schema of a table: its fields in column order as fitted on the training split, its target, its file format."""

import json
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic import Field as Option

from difflm.errors import SchemaError
from difflm.records.fields import (
    BooleanField,
    CategoricalField,
    CodeField,
    ConstantField,
    DatetimeField,
    DecimalField,
    Dress,
    Field,
    IdentifierField,
    IntegerField,
    JsonField,
    Record,
    TextField,
    Value,
)
from difflm.records.notices import Notice
from difflm.records.protection.settings import Protected
from difflm.records.relations.model import Relations
from difflm.regular_files import read_file

__all__ = [
    "SCHEMA_FORMAT_VERSION",
    "BooleanField",
    "CategoricalField",
    "CodeField",
    "ConstantField",
    "DatetimeField",
    "DecimalField",
    "Dress",
    "Field",
    "GivenKind",
    "IdentifierField",
    "IntegerField",
    "JsonField",
    "Record",
    "RecordSchema",
    "SchemaConfig",
    "Task",
    "TextField",
    "Value",
    "read_schema",
]

SCHEMA_FORMAT_VERSION: Final = 1


def one_digit(count: int) -> int:
    """Round a number of rows to its first digit."""
    unit: int = 10 ** (len(str(count)) - 1)
    return (count + unit // 2) // unit * unit


class RecordSchema(BaseModel):
    """What a table holds, fitted on its training split alone; everything that decoding and normalising need.

    `row_count` is the number of training rows; `notices` is what inference found odd, rounded or left out; `relations`
    are kept in every synthetic row, and `protected` says how rare values were; the file leaves out what there is not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: Literal[1] = SCHEMA_FORMAT_VERSION
    kind: Literal["table"] = "table"
    fields: Annotated[tuple[Field, ...], Option(min_length=1)]
    target: str | None = None
    task: Literal["classification", "regression"] | None = None
    row_count: Annotated[int, Option(ge=1)]
    notices: tuple[Notice, ...] = ()
    relations: Annotated[Relations, Option(exclude_if=lambda relations: not relations)] = Relations()
    protected: Annotated[Protected | None, Option(exclude_if=lambda protected: protected is None)] = None

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
        """Return the field called `name`; SchemaError naming the known ones otherwise."""
        for field in self.fields:
            if field.name == name:
                return field
        raise SchemaError(f"the schema has no column {name!r}; it has {', '.join(map(repr, self.names))}")

    def published(self) -> Self:
        """Return the schema as those see it who get rows only: kinds, values and ranges, without counts of rows but for
        `row_count`, which is rounded to one digit.
        """
        fields = tuple(map(_without_counts, self.fields))
        return self.model_copy(update={"fields": fields, "notices": (), "row_count": one_digit(self.row_count)})

    def to_json(self) -> str:
        """Return the JSON text, stable for equal schemas."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str = "schema") -> Self:
        """Read what `to_json` wrote; `source` names it in errors. SchemaError for another version or a damaged text."""
        try:
            version = json.loads(text).get("format_version")
        except (ValueError, AttributeError, RecursionError) as error:
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
    """Read the schema.json of prepared data or of a bundle. SchemaError for another version or a damaged file."""
    path = folder / "schema.json"
    try:
        content = read_file(path)
    except FileNotFoundError as error:
        raise SchemaError(f"{path}: missing; make the folder again from training data") from error
    except ValueError as error:
        raise SchemaError(f"{path}: {error}; make the folder again from training data") from error
    return RecordSchema.from_json(content, source=str(path))


GivenKind: TypeAlias = Literal[
    "categorical",
    "ordinal",
    "number",
    "datetime",
    "code",
    "identifier",
    "text",
    "name",
    "python",
    "tool_parameters",
]
"""What a person or a kind of records may say of a column. A `name` is text, and like `python` never empty where no
training value is."""

Task: TypeAlias = Literal["classification", "regression"]


class SchemaConfig(BaseModel):
    """How columns are read. The defaults are meant for any table; `kinds` settles a column that they misjudge."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kinds: dict[str, GivenKind] = {}
    """What columns are, whatever they look like: `categorical` (a closed list), `ordinal` (one with an order, see
    `orders`), `number` (numbers that training spells in several ways are then spelled alike, and counted), `datetime`,
    `code` (characters by place), `identifier` (names the row, made anew), `text`, `python` (text that has to parse as
    Python) or `tool_parameters` (see `tool_codec.parameters_text`)."""
    orders: Annotated[dict[str, tuple[str, ...]], Option(exclude_if=lambda orders: not orders)] = {}
    """The values of ordinal columns from the lowest to the highest; by default in the order of numbers or letters."""
    category_share: Annotated[float, Option(gt=0.0, le=1.0)] = 0.2
    """A text column is categorical with at most this share of distinct values among its rows ..."""
    category_few: Annotated[int, Option(ge=1)] = 30
    """... or at most this many, as long as each stands for two rows on average ..."""
    category_max_values: Annotated[int, Option(ge=1)] = 20_000
    """... and never with more than this many."""
    text_max_characters: Annotated[int, Option(ge=1)] = 2000
    """Cap on `TextField.max_characters`; longer training values are counted and reported."""
    exact_digits: Annotated[int, Option(ge=1, le=15)] = 9
    """Decimals are kept exactly as the source writes them while the widest value has at most this many digits."""
    significant_digits: Annotated[int, Option(ge=6, le=15)] = 6
    """Otherwise this many digits of the column's spread survive."""
    rounded_share: Annotated[float, Option(ge=0.0, lt=1.0)] = 0.001
    """This share of rows may be rounded so that a few odd values do not give every row their decimals (reported)."""
    max_decimals: Annotated[int, Option(ge=0, le=15)] | None = None
    """An upper limit on decimals, for shorter records at the price of rounding (reported)."""
    respell: Annotated[bool, Option(exclude_if=lambda respell: not respell)] = False
    """Numbers that one column spells in several ways are numbers, spelled alike (reported); otherwise they are text."""
    drop_all_missing: bool = False
    """Leave out columns without a single value instead of an error."""
    task: Task | None = None
    """What the target is for; None decides by its kind."""
    class_limit: Annotated[int, Option(ge=2)] = 10
    """A whole-number target with at most this many distinct values is a class."""


def _without_counts(field: Field) -> Field:
    """Return a field with no count of training rows: 0 for every category, which keeps their order."""
    match field:
        case CategoricalField(counts=counts):
            return field.model_copy(update={"counts": tuple(0 for _ in counts)})
        case BooleanField():
            return field.model_copy(update={"counts": (0, 0)})
        case _:
            return field
