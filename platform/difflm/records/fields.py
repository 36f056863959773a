"""Fields: what one column of a table holds, as fitted on the training split.

Every field has `name`, `nullable` (missing values were seen) and `missing_share` (the share of training rows
without a value). The classes share these by repetition, not by inheritance: each is complete as `schema.json` has it.
"""

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, FiniteFloat, field_validator
from pydantic import Field as Option

from difflm.records.limits import MAX_DIGITS, WrittenNumber
from difflm.spelled_numbers import Scientific

Value: TypeAlias = str | int | float | bool | None
"""A cell. Dates and times are their own text, in the format that their field holds; None is a missing value."""

Record: TypeAlias = dict[str, Value]
"""One row, keys in the order of the schema."""

Clock: TypeAlias = Literal["", "h:mm:ss", "hh:mm:ss", "h:mm", "hh:mm", "d days hh:mm:ss", "d days, h:mm:ss"]
Address: TypeAlias = Literal["email", "url", "ipv4", "cidr", "endpoint"]
Int64: TypeAlias = Annotated[int, Option(ge=-(2**63), le=2**63 - 1)]
MAX_PLACES: Final = 30
"""Digits behind the mark of a number that keeps all of them; a double has 17 that count."""

_FROZEN = ConfigDict(frozen=True, extra="forbid", strict=True)
Share: TypeAlias = Annotated[float, Option(ge=0.0, le=1.0)]


def _omitted(value: object) -> bool:
    """Say whether a value at its default is left out of `schema.json`: old schemas have no such key."""
    return not value


Words: TypeAlias = Annotated[tuple[str, ...], Option(exclude_if=_omitted)]
"""Texts that stand beside the numbers or dates of a column, most frequent first: `n/d`, `<0.5`."""
Repeated: TypeAlias = Annotated[int | None, Option(ge=1, exclude_if=lambda most: most is None)]


class Dress(BaseModel):
    """How a column spells its numbers: reading a cell and printing it again gives the cell (see `kinds.dress`).

    `places` is a fixed number of digits behind the `mark`, None for the shortest that reads back; then `trimmed` leaves
    out a fraction of zero (`3` beside `2.25`). `group` divides thousands, with `hundreds` in pairs above (`12,34,567`),
    `bare` leaves out a zero before the mark, `plus` writes a sign before every number above zero. Exponents are
    Python's, with an `E` if `capital`, unless `scientific` says which numbers have one. A `clock` spells `27:38:55`.
    """

    model_config = _FROZEN

    prefix: Annotated[str, Option(exclude_if=_omitted)] = ""
    suffix: Annotated[str, Option(exclude_if=_omitted)] = ""
    group: Annotated[str, Option(exclude_if=_omitted)] = ""
    hundreds: Annotated[bool, Option(exclude_if=_omitted)] = False
    mark: Annotated[str, Option(exclude_if=lambda mark: mark == ".")] = "."
    minus: Annotated[str, Option(exclude_if=lambda minus: minus == "-")] = "-"
    negative: Annotated[
        Literal["before", "inside", "behind", "parentheses"], Option(exclude_if=lambda where: where == "before")
    ] = "before"
    plus: Annotated[bool, Option(exclude_if=_omitted)] = False
    bare: Annotated[bool, Option(exclude_if=_omitted)] = False
    places: Annotated[int | None, Option(ge=1, le=MAX_PLACES, exclude_if=_omitted)] = None
    trimmed: Annotated[bool, Option(exclude_if=_omitted)] = False
    capital: Annotated[bool, Option(exclude_if=_omitted)] = False
    scientific: Annotated[Scientific | None, Option(exclude_if=_omitted)] = None
    clock: Annotated[Clock, Option(exclude_if=_omitted)] = ""

    @field_validator("scientific")
    @classmethod
    def _few_digits(cls, found: Scientific | None) -> Scientific | None:
        if found is not None and not (0 <= (found.mantissa or 0) <= MAX_PLACES and 0 <= found.width <= MAX_PLACES):
            raise ValueError(f"mantissa and width are at most {MAX_PLACES} digits")
        return found

    @property
    def plain(self) -> bool:
        """Whether any reader takes the cells for numbers: tables hold numbers, and only text files spell them so."""
        how = Dress(places=self.places, trimmed=self.trimmed, capital=self.capital, scientific=self.scientific)
        return self == how


class IntegerField(BaseModel):
    """Whole numbers of 64 bits. Literal: `39`. `median` is of the values present, rounded down.

    `points` are single numbers far outside the range from `minimum` to `maximum`, such as -999. Columns with `words`,
    or with a `dress` that is not plain, are texts in tables; a word's literal is a JSON string.
    """

    model_config = _FROZEN

    kind: Literal["integer"] = "integer"
    name: str
    nullable: bool
    missing_share: Share
    minimum: Int64
    maximum: Int64
    median: Int64
    distinct: int
    points: Annotated[tuple[Int64, ...], Option(exclude_if=_omitted)] = ()
    words: Words = ()
    dress: Annotated[Dress | None, Option(exclude_if=_omitted)] = None


class DecimalField(BaseModel):
    """Numbers printed with exactly `decimals` places. Literal: `1.50`.

    `exponent` is 0 in ordinary columns. Columns of very large or very small numbers print every value in units of ten
    to that power, and the literal ends in it: `1.50000e300`. `minimum`, `maximum` and `median` are rounded to what is
    printed. `points`, `words` and `dress` are as of whole numbers.
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
    points: Annotated[tuple[FiniteFloat, ...], Option(exclude_if=_omitted)] = ()
    words: Words = ()
    dress: Annotated[Dress | None, Option(exclude_if=_omitted)] = None


class CategoricalField(BaseModel):
    """Text out of a closed list, most frequent first. Literal: `"State-gov"`. `counts` are training rows per value.

    Values that are `ordered` go from the lowest to the highest instead.
    """

    model_config = _FROZEN

    kind: Literal["categorical"] = "categorical"
    name: str
    nullable: bool
    missing_share: Share
    values: tuple[str, ...]
    counts: tuple[int, ...]
    ordered: Annotated[bool, Option(exclude_if=_omitted)] = False

    @property
    def commonest(self) -> str:
        """The most frequent value."""
        return self.values[self.counts.index(max(self.counts))] if self.ordered else self.values[0]


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
    `bare` of those that it writes without; letters in neither may be written both ways. `zero` has the letters of what
    is always zero. Training writes the offsets `zones`, and `fraction` digits of a second; empty: any.

    `others` are further formats of the column: the first that fits a text is its own. `points` are single dates far
    outside the range, such as 9999-12-31.
    """

    model_config = _FROZEN

    kind: Literal["datetime"] = "datetime"
    name: str
    nullable: bool
    missing_share: Share
    format: str
    minimum: str
    maximum: str
    padded: Annotated[str, Option(exclude_if=_omitted)] = ""
    bare: Annotated[str, Option(exclude_if=_omitted)] = ""
    zero: Annotated[str, Option(exclude_if=_omitted)] = ""
    zones: Annotated[tuple[str, ...], Option(exclude_if=_omitted)] = ()
    fraction: Annotated[tuple[int, ...], Option(exclude_if=_omitted)] = ()
    names: Annotated[Literal["", "title", "upper", "lower"], Option(exclude_if=_omitted)] = ""
    others: Annotated[tuple[str, ...], Option(exclude_if=_omitted)] = ()
    points: Annotated[tuple[str, ...], Option(exclude_if=_omitted)] = ()
    words: Words = ()

    @property
    def formats(self) -> tuple[str, ...]:
        """All formats, in the order in which a text is tried."""
        return (self.format, *self.others)


class TextField(BaseModel):
    """Free text. Literal: a JSON string, not ASCII-escaped. `max_characters` counts characters before escaping; with
    `not_empty` there is at least one. With `one_line` no training text has control characters, such as line breaks.

    Stretches that repeat themselves have `most_repeated` characters at most where they are drawn (see
    `records.repetition`). Text in a `language` has to parse: a record whose text does not is rejected. Grammars do not
    know it, but for addresses of mail and of the web, which they write in their usual form. JSON fits `json_schema`.
    """

    model_config = _FROZEN

    kind: Literal["text"] = "text"
    name: str
    nullable: bool
    missing_share: Share
    max_characters: int
    mean_characters: FiniteFloat
    not_empty: Annotated[bool, Option(exclude_if=_omitted)] = False
    one_line: Annotated[bool, Option(exclude_if=_omitted)] = False
    language: Annotated[Literal["python", "json"] | Address | None, Option(exclude_if=_omitted)] = None
    json_schema: Annotated[dict[str, Any] | None, Option(exclude_if=_omitted)] = None
    most_repeated: Repeated = None


Shape: TypeAlias = tuple[str, ...]
"""A code's form: by place, the characters that may stand there."""
Span: TypeAlias = tuple[Int64, Int64, Annotated[int, Option(ge=0, le=18)], Literal[-1, 0, 1]]
"""Whole numbers from the first to the second, with zeros in front up to so many digits, 0 for none; at least (1) or at
most (-1) as large as the number before."""
Form: TypeAlias = tuple[str | Span | Annotated[tuple[str, ...], Option(min_length=2)], ...]
"""A shape with numbers, or one of several texts, in the place of some of its characters: `120/80`, `3. Mai`."""


class CodeField(BaseModel):
    """Codes of a fixed form, such as plates, and sizes, such as 10x20 cm. Literal: `"SKU-A55266"`. All have a form."""

    model_config = _FROZEN

    kind: Literal["code"] = "code"
    name: str
    nullable: bool
    missing_share: Share
    shapes: Annotated[tuple[Form, ...], Option(min_length=1)]


class IdentifierField(BaseModel):
    """Names of the rows, all different. They are no part of what is learned: row `i` gets the name that `i` has.

    Literal: `0`, whatever the row. Names are `start + i * step`, with zeros in front up to `digits`, or without a
    `start` the codes of `shapes` in an order of their own (see `kinds.codes_of_form`); tables hold whole numbers if
    `stored` is "integer".
    """

    model_config = _FROZEN

    kind: Literal["identifier"] = "identifier"
    name: str
    nullable: Literal[False] = False
    missing_share: Annotated[float, Option(ge=0.0, le=0.0)] = 0.0
    start: WrittenNumber | None = None
    step: WrittenNumber = 1
    digits: Annotated[int, Option(ge=0, le=MAX_DIGITS, exclude_if=_omitted)] = 0
    shapes: tuple[Shape, ...] = ()
    stored: Literal["text", "integer"] = "text"


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
    most_repeated: Repeated = None


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
    | CodeField
    | IdentifierField
    | JsonField
    | ConstantField,
    Option(discriminator="kind"),
]
