"""The schema of a table: its fields in column order as fitted on the training split, its target, its file format.

Fields: what one column of a table holds, as fitted on the training split.

Every field has `name`, `nullable` (missing values were seen) and `missing_share` (the share of training rows
without a value). The classes share these by repetition, not by inheritance: each is complete as `schema.json` has it.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError, model_validator
from pydantic import Field as Option

from difflm.errors import SchemaError
from difflm.records.notices import Notice
from difflm.records.relations.model import Relations

Value: TypeAlias = str | int | float | bool | None
"""A cell. Dates and times are their own text, in the format that their field holds; None is a missing value."""

Record: TypeAlias = dict[str, Value]
"""One row, keys in the order of the schema."""


_FROZEN = ConfigDict(frozen=True, extra="forbid", strict=True)
Share: TypeAlias = Annotated[float, Option(ge=0.0, le=1.0)]


class IntegerField(BaseModel):
    """Whole numbers of 64 bits. Literal: `39`. `median` is of the values present, rounded down."""

    model_config = _FROZEN

    kind: Literal["integer"] = "integer"
    name: str
    nullable: bool
    missing_share: Share
    minimum: int
    maximum: int
    median: int
    distinct: int


class DecimalField(BaseModel):
    """Numbers printed with exactly `decimals` places. Literal: `1.50`.

    `exponent` is 0 in ordinary columns. Columns of very large or very small numbers print every value in units of ten
    to that power, and the literal ends in it: `1.50000e300`. `minimum`, `maximum` and `median` are rounded to what is
    printed.
    """

    model_config = _FROZEN

    kind: Literal["decimal"] = "decimal"
    name: str
    nullable: bool
    missing_share: Share
    minimum: FiniteFloat
    maximum: FiniteFloat
    median: FiniteFloat
    distinct: int
    decimals: Annotated[int, Option(ge=0, le=15)]
    exponent: Annotated[int, Option(ge=-400, le=400)] = 0


class CategoricalField(BaseModel):
    """Text out of a closed list, most frequent first. Literal: `"State-gov"`. `counts` are training rows per value."""

    model_config = _FROZEN

    kind: Literal["categorical"] = "categorical"
    name: str
    nullable: bool
    missing_share: Share
    values: tuple[str, ...]
    counts: tuple[int, ...]


class BooleanField(BaseModel):
    """True or false. Literal: `true`. Tables keep the source's spelling, or Arrow booleans when `stored` is "boolean".

    `counts` are training rows that are (true, false).
    """

    model_config = _FROZEN

    kind: Literal["boolean"] = "boolean"
    name: str
    nullable: bool
    missing_share: Share
    true_text: str
    false_text: str
    counts: tuple[int, int]
    stored: Literal["text", "boolean"] = "text"


class DatetimeField(BaseModel):
    """Dates or times as text in one strptime `format`. Literal: `"2010-01-31"`. Bounds are texts in that format.

    `padded` has the letters of the directives whose numbers below ten training always writes with a leading zero,
    `bare` of those that it writes without; letters in neither may be written both ways.
    """

    model_config = _FROZEN

    kind: Literal["datetime"] = "datetime"
    name: str
    nullable: bool
    missing_share: Share
    format: str
    minimum: str
    maximum: str
    padded: Annotated[str, Option(exclude_if=lambda letters: not letters)] = ""
    bare: Annotated[str, Option(exclude_if=lambda letters: not letters)] = ""


class TextField(BaseModel):
    """Free text. Literal: a JSON string, not ASCII-escaped. `max_characters` counts characters before escaping; with
    `not_empty` there is at least one. With `one_line` no training text has control characters, such as line breaks.

    Text in a `language` has to parse: a record whose text does not is rejected. Grammars do not know it.
    """

    model_config = _FROZEN

    kind: Literal["text"] = "text"
    name: str
    nullable: bool
    missing_share: Share
    max_characters: int
    mean_characters: FiniteFloat
    not_empty: Annotated[bool, Option(exclude_if=lambda not_empty: not not_empty)] = False
    one_line: Annotated[bool, Option(exclude_if=lambda one_line: not one_line)] = False
    language: Annotated[Literal["python"] | None, Option(exclude_if=lambda language: language is None)] = None


class JsonField(BaseModel):
    """A JSON value of a schema, never missing. Literal: that value; tables hold its text, spelled by `json.dumps`.

    `max_characters` counts characters of the text. Only grammars of llguidance know the schema.
    """

    model_config = _FROZEN

    kind: Literal["json"] = "json"
    name: str
    nullable: Literal[False] = False
    missing_share: Annotated[float, Option(ge=0.0, le=0.0)] = 0.0
    json_schema: dict[str, Any]
    max_characters: int


class ConstantField(BaseModel):
    """One value in every row of the training split; never missing. Literal: that value as JSON."""

    model_config = _FROZEN

    kind: Literal["constant"] = "constant"
    name: str
    nullable: Literal[False] = False
    missing_share: Annotated[float, Option(ge=0.0, le=0.0)] = 0.0
    value: str | int | FiniteFloat | bool


Field: TypeAlias = Annotated[
    IntegerField
    | DecimalField
    | CategoricalField
    | BooleanField
    | DatetimeField
    | TextField
    | JsonField
    | ConstantField,
    Option(discriminator="kind"),
]


SCHEMA_FORMAT_VERSION: Final = 1


class RecordSchema(BaseModel):
    """What a table holds, fitted on its training split alone; everything that decoding and normalising need.

    `row_count` is the number of training rows; `notices` is what inference found odd, rounded or left out; `relations`
    are kept in every synthetic row, and left out of the file where there are none.
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
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise SchemaError(f"{path}: missing; make the folder again from training data") from error
    return RecordSchema.from_json(content, source=str(path))


GivenKind: TypeAlias = Literal["categorical", "text", "name", "python", "tool_parameters"]
"""What a person or a kind of records may say of a column. A `name` is text, and like `python` never empty where no
training value is."""

Task: TypeAlias = Literal["classification", "regression"]


class SchemaConfig(BaseModel):
    """How columns are read. The defaults are meant for any table; `kinds` settles a column that they misjudge."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kinds: dict[str, GivenKind] = {}
    """Columns to be kept as text whatever they look like, for instance codes made of digits: `categorical`, `text`,
    `python` (text that has to parse as Python) or `tool_parameters` (see `tool_codec.parameters_text`)."""
    category_share: Annotated[float, Option(gt=0.0, le=1.0)] = 0.2
    """A text column is categorical with at most this share of distinct values among its rows ..."""
    category_few: Annotated[int, Option(ge=1)] = 30
    """... or at most this many, as long as each stands for two rows on average ..."""
    category_max_values: Annotated[int, Option(ge=1)] = 2000
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
    drop_all_missing: bool = False
    """Leave out columns without a single value instead of an error."""
    task: Task | None = None
    """What the target is for; None decides by its kind."""
    class_limit: Annotated[int, Option(ge=2)] = 10
    """A whole-number target with at most this many distinct values is a class."""
