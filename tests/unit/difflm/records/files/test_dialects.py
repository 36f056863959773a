"""Which delimiters a form may name: those that no formula begins with."""

import pytest
from pydantic import ValidationError

from difflm.records.files.dialects import Dialect
from difflm.records.files.layouts import DELIMITERS


@pytest.mark.parametrize("delimiter", [*"=+-@.a7\"'", "\n", "\r", "\0"])
def test_what_may_begin_a_formula_or_be_in_a_number_divides_no_cells(delimiter: str) -> None:
    with pytest.raises(ValidationError, match="delimiter"):
        Dialect(delimiter=delimiter)


@pytest.mark.parametrize("delimiter", [*DELIMITERS, *" :~^\\]`/*"])
def test_other_signs_do(delimiter: str) -> None:
    assert Dialect(delimiter=delimiter).delimiter == delimiter
