"""Conditions: what they leave of each column, and what is said of those that cannot be used."""

import ast
from datetime import date, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difflm.errors import ConfigError
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.codes import whole_domain
from difflm.records.kinds.inference import infer_schema
from difflm.records.relations import expressions
from difflm.records.schema import Record
from difflm.synthesis.plans.conditions import parse_condition
from difflm.testing.tables import mixed_table


def _table() -> pa.Table:
    table = mixed_table(120)
    ages = [None if row % 9 == 0 else text for row, text in enumerate(table.column("age").to_pylist())]
    table = table.set_column(0, "age", pa.array(ages))
    return table.rename_columns(["age", "wage", "city", "day", "member", "note", "the unit", "label-1"])


CODEC = JsonRecordCodec(infer_schema(_table()))
SCHEMA = CODEC.schema
TABLE = CODEC.normalize_table(_table()).table
RECORDS = list(CODEC.records_of(TABLE))


def _chosen(text: str) -> list[Record]:
    rows = parse_condition(text, SCHEMA).rows(TABLE, SCHEMA)
    return [record for record, chosen in zip(RECORDS, rows, strict=True) if chosen]


def _present(record: Record, name: str) -> float:
    value = record[name]
    return float(value) if isinstance(value, int | float) else float("nan")


def _oslo_members(record: Record) -> bool:
    return record["member"] is True and record["city"] == "Oslo"


CASES = [
    ("age >= 40 and age < 60", lambda r: 40 <= _present(r, "age") < 60),
    ("40 <= age < 60", lambda r: 40 <= _present(r, "age") < 60),
    ("age > 39.5 and age <= 59.5", lambda r: 40 <= _present(r, "age") < 60),
    ("60 > age", lambda r: _present(r, "age") < 60),
    ("age < 30 or age > 70 or age == 50", lambda r: r["age"] in [50, *range(30), *range(71, 99)]),
    ("age != 50 and age is not null", lambda r: r["age"] not in (50, None)),
    ("not age == 50", lambda r: r["age"] not in (50, None)),
    ("not (age >= 30 and age <= 70)", lambda r: _present(r, "age") < 30 or _present(r, "age") > 70),
    ("age is null", lambda r: r["age"] is None),
    ("age is None or age > 60", lambda r: r["age"] is None or _present(r, "age") > 60),
    ("not (age is null)", lambda r: r["age"] is not None),
    ('city in ["Lyon", "Łódź"]', lambda r: r["city"] in ("Lyon", "Łódź")),
    ('city not in ["Lyon"]', lambda r: r["city"] not in ("Lyon", None)),
    ('"Oslo" == city', lambda r: r["city"] == "Oslo"),
    ("city == 'São Paulo' or city is null", lambda r: r["city"] in ("São Paulo", None)),
    ("wage >= 30.005", lambda r: _present(r, "wage") >= 30.005),
    ("wage < 30", lambda r: _present(r, "wage") < 30),
    ("member", lambda r: r["member"] is True),
    ("not member", lambda r: r["member"] is False),
    ("member == false", lambda r: r["member"] is False),
    ('member == "FALSE"', lambda r: r["member"] is False),
    ('day >= "2021-01-01" and day < "2021-03-01"', lambda r: "2021-01-01" <= str(r["day"]) < "2021-03-01"),
    ('`label-1` == "yes" and `the unit` == "kg"', lambda r: r["label-1"] is True),
    ('label-1 == "yes"', lambda r: r["label-1"] is True),
    ('(age >= 40 and (member and city == "Oslo"))', lambda r: _oslo_members(r) and _present(r, "age") >= 40),
    ("age >= 0", lambda r: r["age"] is not None),
    ("wage > -1e9", lambda r: True),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), CASES, ids=[text for text, _ in CASES])
def test_rows_that_satisfy_it(text: str, wanted) -> None:  # type: ignore[no-untyped-def]
    chosen = _chosen(text)
    assert chosen == [record for record in RECORDS if wanted(record)]
    assert chosen


def test_what_holds_for_all_restricts_nothing() -> None:
    assert parse_condition("wage > -1", SCHEMA).allowed == {}
    assert set(parse_condition("wage > -1 and age > 20", SCHEMA).allowed) == {"age"}


OPERATORS = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(OPERATORS)), st.integers(-20, 1100), st.booleans())
def test_any_date_and_comparison(operator: str, days: int, negated: bool) -> None:
    bound = (date(2020, 1, 1) + timedelta(days=days)).isoformat()
    text = f'{"not " if negated else ""}(day {operator} "{bound}")'
    wanted = [record for record in RECORDS if OPERATORS[operator](str(record["day"]), bound) is not negated]
    if wanted:
        assert _chosen(text) == wanted
    else:  # either no training row has such a day, or no day is left at all
        try:
            assert _chosen(text) == []
        except ConfigError as error:
            message = str(error)
            assert "no value of 'day' satisfies it; training has 2020-01-" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("agee > 3", "there is no column 'agee'; did you mean 'age'?"),
        ("zzz == 1", "there is no column 'zzz'; columns are 'age', 'wage'"),
        ("age > 60 and age < 40", "no value of 'age' satisfies it; training has 17 to 89, or missing"),
        ("age == 200", "no value of 'age' satisfies it"),
        ("age == 40.5", "no value of 'age' satisfies it"),
        ("wage == 1.005", "'wage' is written with 2 decimals"),
        ('city == "lyon"', "'city' has no category 'lyon' in training; did you mean 'Lyon'?"),
        ("city == 3", "'city' holds text, not 3; write the category in quotes"),
        ('city > "Lyon"', "'city' (categorical) has no order for '>'"),
        ('age > "old"', "'age' holds numbers, not 'old'; training has 17 to 89"),
        ("age == true", "'age' holds numbers, not True"),
        ("age == null", "write 'is null' or 'is not null'"),
        ("wage is null", "'wage' was never missing in training"),
        ('note == "a"', "'note' is free text"),
        ('day > "March"', "'day': 'March' is no date that can be read; write it like '2020-"),
        ("day > 2020", "'day' holds dates; write them in quotes"),
        ('day > "2020-03-01" and day < "2020-03-02"', "no value of 'day' satisfies it"),
        ("member == 2", "'member' is true or false, not 2"),
        ("age > 3 or wage > 3", "'age' and 'wage' are joined by 'or'"),
        ("age in 3", "'in' goes with a list"),
        ("age in []", "'in' goes with a list"),
        ("age in [wage]", "'wage' in the list of 'age' is no value"),
        ("age is 3", "'is' only goes with null"),
        ("age > wage", "'wage' is no value that 'age' can be compared with"),
        ("age > __import__('os').getpid()", "is no value that 'age' can be compared with"),
        ("age", "'age' is not a test"),
        ("print(age)", "is not a test"),
        ("age >", "cannot be read"),
        ("", "cannot be read"),
        ("a" * 10 + "\x00", "cannot be read"),
        ("not " * 5000 + "member", "cannot be read"),
        ('`the unit` == "g"', "no value of 'the unit' satisfies it; it is always 'kg'"),
    ],
)
def test_what_cannot_be_used_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_condition(text, SCHEMA)
    assert message in str(raised.value)
    assert str(raised.value).startswith("condition ")
    assert "\n" not in str(raised.value)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="age wcityn()[]<>=!`'\"0123.andorotis,", max_size=40))
def test_no_text_breaks_it(text: str) -> None:
    try:
        condition = parse_condition(text, SCHEMA)
    except ConfigError:
        return
    for name, allowed in condition.allowed.items():
        assert allowed & whole_domain(SCHEMA.field(name)) == allowed
        assert allowed


def test_what_pythons_parser_fails_at_is_an_error_that_names_it_and_one_text_is_parsed_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    locked: list[bool] = []

    def broken(*_: object, **__: object) -> None:
        locked.append(expressions._PARSING.locked())
        raise SystemError("AST constructor recursion depth mismatch")

    for read in (lambda: parse_condition("age > 3", SCHEMA), expressions.Reader("age > 3", None).tree):
        with monkeypatch.context() as patched, pytest.raises(ConfigError, match="cannot be read"):
            patched.setattr(ast, "parse", broken)
            read()
    assert locked == [True, True]
