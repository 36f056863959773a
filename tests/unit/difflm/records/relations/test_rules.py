"""Rules: what can be written, what it says of values, and what cannot be read."""

import numpy as np
import pyarrow as pa
import pytest

from difflm.errors import ConfigError
from difflm.records.kinds.inference import infer_schema
from difflm.records.relations.expressions import Column, interval, shown, solved
from difflm.records.relations.model import Rule
from difflm.records.relations.rules import Comparison, compile_rule, read_constraint
from difflm.records.relations.values import TableValues
from difflm.testing.related import related_table

SCHEMA = infer_schema(related_table(200))


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("start <= end", ["start <= end"]),
        ("end >= start", ["start <= end"]),
        ("total > unit", ["unit < total"]),
        ("low <= high < total", ["low <= high", "high < total"]),
        ("low <= high and n != 3", ["low <= high", "n != 3"]),
        ("total == n * unit", ["total == n * unit"]),
        ("total == n*(unit + 1) - -2", ["total == n * (unit + 1) - -2"]),
        ("`default.payment` <= `a b`", ["`default.payment` <= `a b`"]),
        ("default.payment <= x", ["`default.payment` <= x"]),
        ("fixed(state, city)", ["fixed(state, city)"]),
        ("determines(city, state)", ["determines(city, state)"]),
    ],
)
def test_constraints_are_read(text: str, read: list[str]) -> None:
    assert [str(each) for each in read_constraint(text)] == read
    assert [str(each) for each in read_constraint(" and ".join(read))] == read


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("start <=", "cannot be read"),
        ("start", "is no comparison"),
        ("start <= end or n < 3", "is no comparison"),
        ("not n < 3", "is no comparison"),
        ("n in [1, 2]", "is no comparison"),
        ("1 < 2", "about no column"),
        ("total == 1 / 0", "divides by 0"),
        ("total == n / -0.0", "divides by 0"),
        ("total == __import__('os')", "none of columns"),
        ("total == n ** unit", "none of columns"),
        ("unti <= total", "did you mean 'unit'?"),
        ("fixed(city)", "two columns or more"),
        ("determines(city, city)", "two columns or more"),
        ("fixed(city, 3)", "there is no column '3'"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"constraint ") as caught:
        read_constraint(text, SCHEMA.names)
    assert message in str(caught.value)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("start <= n", "start is a date and n a number"),
        ("start + end == start", "a date and a date have no '+'"),
        ("city <= state", "has no order"),
        ("city == n", "a text and n a number"),
        ("start >= 'soon'", "'soon' is no date"),
        ("n == n + 1", "stands on both sides"),
    ],
)
def test_what_cannot_be_compared_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_rule(Rule(text=str(read_constraint(text, SCHEMA.names)[0])), SCHEMA)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("start <= end", [False, False, False]),
        ("start < end", [True, False, False]),
        ("nights == end - start", [False, False, True]),
        ("end == start + nights", [False, False, True]),
        ("total == n * unit", [False, True, False]),
        ("start >= '2020-01-02'", [True, True, False]),
        ("n != 2", [False, True, False]),
        ("city != state", [False, False, True]),
        ("city == 'Bremen'", [True, True, False]),
        ("total / n >= unit", [False, True, False]),
        ("low - high <= 0", [False, False, False]),
    ],
)
def test_rules_say_which_rows_break_them(text: str, broken: list[bool]) -> None:
    table = pa.table(
        {
            "start": ["2020-01-01", "2020-01-01", "2020-03-01"],
            "end": ["2020-01-01", "2020-01-03", "2020-03-05"],
            "nights": ["0", "2", "3"],
            "n": ["1", "2", "3"],
            "unit": ["0.10", "0.20", "0.10"],
            "total": ["0.10", "0.39", "0.30"],
            "state": ["Hesse", "Hesse", "Bremen"],
            "city": ["Kassel", "Fulda", "Bremen"],
            "low": ["1", "2", "3"],
            "high": ["1", "2", "3"],
        }
    )
    (comparison,) = read_constraint(text, SCHEMA.names)
    rule = compile_rule(Rule(text=str(comparison)), SCHEMA)
    assert rule.broken(TableValues(table, SCHEMA)).tolist() == broken


def test_missing_values_break_nothing() -> None:
    table = related_table(3)
    gaps = table.set_column(1, "end", pa.array([None, "2000-01-01", None], pa.string()))
    rule = compile_rule(Rule(text="start <= end"), SCHEMA)
    assert rule.broken(TableValues(gaps, SCHEMA)).tolist() == [False, True, False]


def test_equations_are_solved_for_their_columns() -> None:
    (equation,) = read_constraint("d == a - (b + c) * 2")
    assert isinstance(equation, Comparison)
    for name, expected in (("a", "d + (b + c) * 2"), ("b", "(a - d) / 2 - c")):
        found = solved(equation.right, name, equation.left)
        assert found is not None
        assert shown(found[0]) == expected
    assert solved(read_constraint("a == b * b")[0].right, "b", Column("a")) is None  # type: ignore[union-attr]


def test_ranges_of_expressions() -> None:
    of = {"a": (1.0, 2.0), "b": (-3.0, 4.0)}
    for text, expected in (
        ("x == a + b", (-2.0, 6.0)),
        ("x == a - b", (-3.0, 5.0)),
        ("x == a * b", (-6.0, 8.0)),
        ("x == b / a", (-3.0, 4.0)),
        ("x == a / b", (-np.inf, np.inf)),
    ):
        (equation,) = read_constraint(text)
        assert isinstance(equation, Comparison)
        assert interval(equation.right, of) == expected


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("n * 1e308 * 1e308 <= total", False),
        ("total == n * 1e308 * 1e308", False),
        ("n * -1e308 * 1e308 <= total", True),
        ("n * 1e308 * 1e308 != total", True),
        ("n * 1e308 * 1e308 >= total", True),
        ("n * 1e308 * 1e308 - n * 1e308 * 1e308 <= total", False),
    ],
)
def test_nothing_is_as_near_to_what_overflows(text: str, holds: bool) -> None:
    """A side that overflowed made the slack of the comparison infinite: every row kept such a constraint."""
    (parsed,) = read_constraint(text, SCHEMA.names)
    rule = compile_rule(Rule(text=str(parsed), origin="asked"), SCHEMA)
    assert bool(rule.holds({"n": 3.0, "total": 7.0})) is holds
    with np.errstate(all="ignore"):
        found = rule.holds({"n": np.asarray([3.0, 4.0]), "total": np.asarray([7.0, 8.0])})
    assert found.tolist() == [holds, holds]


@pytest.mark.parametrize(
    "text",
    ["+".join(["a"] * 1000) + " <= 1", "-" * 1900 + "a <= 1", "(" * 90 + "a" + "+1)" * 90 + "*2" * 50 + " <= 1"],
    ids=["sum", "signs", "both"],
)
def test_operations_that_lie_too_deep_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"constraint .*(more than 100 operations one inside another|cannot be read)"):
        read_constraint(text)
