"""Notices: what was changed, left out or found odd in a table, counted, never silent."""

from collections.abc import Callable
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

NoticeCode: TypeAlias = Literal[
    "renamed",  # a column got another name (duplicate, empty or odd)
    "delimiter",  # cells are divided by another character than usual
    "encoding",  # the encoding of a text file was recognised, not said
    "preamble",  # lines above the header were left out
    "footer",  # lines below the rows were left out
    "header",  # the first row looks like values
    "repeated_header",  # the header stands among the rows as well
    "blank_rows",  # empty rows at the end were left out
    "quotes",  # quotes that stand where none should be were left out
    "cut_off",  # the last row does not end
    "sheet",  # one sheet of several was read
    "missing_word",  # a word counts as missing, or would and is a value
    "dropped",  # a column was left out
    "trimmed",  # spaces around values were taken off
    "nested",  # lists or objects are kept as their JSON text
    "mixed",  # a column holds values of several types and is kept as text
    "kept_as_text",  # the type of a column is not kept in made rows
    "not_finite",  # infinities are counted as missing
    "identifier",  # every value is different
    "rounded",  # numbers were rounded to what the field prints
    "spelled",  # numbers of several spellings are kept as text, or spelled alike
    "words",  # a few texts stand beside the numbers or dates of a column
    "undated",  # what looks like dates is in no known format
    "long_text",  # text above the configured cap
    "out_of_int64",  # whole numbers too large for 64 bits are kept as text
    "whole_decimals",  # decimals whose fraction is always zero
    "constant",  # a column with one value
    "mostly_missing",  # hardly any value in a column
    "unreadable",  # a value that does not fit the column's kind counts as missing
    "range",  # a number or date outside what training has seen
    "category",  # a category that training has not seen
    "missing",  # a missing value where training has none
    "length",  # a text longer than the field allows
    "no_target",  # rows without a target
    "syntax",  # code that does not parse
    "repeated",  # records equal to an earlier one
    "no_api",  # tools without an API
    "relation",  # a relation between columns that some rows break
    "protected",  # values that few rows have are not learned
]


class Notice(BaseModel):
    """One finding about a table; `count` is the number of values (or rows, or columns) that it is about."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    column: str | None
    code: NoticeCode
    count: int
    message: str


Reporter: TypeAlias = Callable[[Notice], None]
"""Receives notices as they arise, for example `list.append`."""


def ignore(notice: Notice) -> None:
    """Discard a notice: the reporter of callers that have no use for notices."""
    del notice
