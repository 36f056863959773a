"""Fields: what one column of a table holds, as fitted on the training split.

Every field has `name`, `nullable` (missing values were seen) and `missing_share` (the share of training rows
without a value). The classes share these by repetition, not by inheritance: each is complete as `schema.json` has it.
"""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, FiniteFloat
from pydantic import Field as Option

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
    exponent: int = 0


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
