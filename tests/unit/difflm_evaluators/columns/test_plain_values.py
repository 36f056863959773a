"""Plain values: tables that went through other programs are read as what they are, and other kinds are named."""

from __future__ import annotations

import pyarrow as pa
import pytest

from difflm.errors import DataError
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import DecimalField, SchemaConfig
from difflm_evaluators.columns.plain_values import plainly_read

TRAIN = pa.table(
    {
        "joined": ["2023-04-20", "2022-12-13", "2022-02-11"] * 20,
        "seen": ["2023-04-20 08:00:00", "2022-12-13 09:30:00", "2022-02-11 10:00:00"] * 20,
        "born": ["20/04/1990", "13/12/1985", "11/02/1970"] * 20,
        "zip": ["20095", "01067", "80331"] * 20,
        "kids": ["1", None, "3"] * 20,
        "price": ["1.50", "2.25", "3.00"] * 20,
        "active": ["False", "True", "True"] * 20,
        "typed": [True, False, True] * 20,
        "answer": ["yes", "no", "no"] * 20,
        "bit": ["1", "0", "1"] * 20,
    }
)
SCHEMA = infer_schema(TRAIN)


def read(told: list[str] | None = None, **columns: object) -> dict[str, list[object]]:
    table = TRAIN.slice(0, 3)
    for name, values in columns.items():
        given = values if isinstance(values, pa.Array) else pa.array(values)
        table = table.set_column(table.column_names.index(name), name, pa.chunked_array([given]))
    lines = [] if told is None else told
    made: dict[str, list[object]] = plainly_read(table, TRAIN, SCHEMA, "rows.csv", lines.append).to_pydict()
    return made


@pytest.mark.parametrize(
    ("column", "given", "wanted", "line"),
    [
        ("joined", ["2023-04-20 00:00:00", "2022-12-13T00:00:00.000000", None], ["2023-04-20", "2022-12-13", None],
         "rows.csv: column 'joined': '2023-04-20 00:00:00' is read as '2023-04-20', the form of the training table"),
        ("seen", ["2023-04-20", "2022-12-13T09:30:00", None], ["2023-04-20 00:00:00", "2022-12-13 09:30:00", None],
         "column 'seen'"),
        ("born", ["1990-04-20", "13/12/1985", None], ["20/04/1990", "13/12/1985", None], "column 'born'"),
        ("active", ["1", "0", None], ["True", "False", None], "'1' is read as 'True' (2 cells)"),
        ("active", [1, 0, None], ["True", "False", None], "column 'active'"),
        ("active", [1.0, 0.0, None], ["True", "False", None], "column 'active'"),
        ("active", ["true", "FALSE", None], ["true", "FALSE", None], None),
        ("answer", ["True", "False", None], ["yes", "no", None], "column 'answer'"),
        ("typed", ["1", "0", None], ["true", "false", None], "column 'typed'"),
        ("bit", [True, False, None], [1, 0, None], "true and false are read as 1 and 0"),
        ("kids", ["1.0", "3.00", None], ["1", "3", None], None),
        ("zip", ["1067", "20095", None], ["01067", "20095", None], "leading zeros are lost: '1067' is read as '01067'"),
        ("zip", [1067, 20095, None], ["01067", "20095", None], "(1 cells)"),
        ("zip", [1067.0, 20095.0, None], ["01067", "20095", None], "leading zeros"),
        ("zip", ["999", "99999", None], ["00999", "99999", None], "leading zeros"),
    ],
)  # fmt: skip
def test_what_is_plainly_the_same(column: str, given: list[object], wanted: list[object], line: str | None) -> None:
    told: list[str] = []
    assert read(told, **{column: given})[column] == wanted
    assert (line is None and not told) or (line is not None and len(told) == 1 and line in told[0])


@pytest.mark.parametrize(
    ("column", "given", "message"),
    [
        ("joined", ["2023-04-20 08:00:00", "2022-12-13", "2022-02-11"],
         r"rows.csv: column 'joined' has other values here and dates or times such as 2022-02-11 in the .*: 1 of 3"),
        ("kids", ["one", "2", "3"], r"here and whole numbers such as 1 in the training.*the first 'one' in record 1"),
        ("price", ["1.5", "x", "y"], r"here and numbers such as .*: 2 of 3 cells are none, the first 'x' in record 2"),
        ("active", ["3.7", "1.2", "8.1"], r"'active' has numbers here and truth values \(True, False\) in the"),
        ("active", ["1", "0", "2"], r"'active' has whole numbers here and truth values"),
    ],
)  # fmt: skip
def test_another_kind_is_named_with_both(column: str, given: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(**{column: given})
    assert "\n" not in str(caught.value)


def test_words_dresses_codes_and_further_formats_are_of_their_column() -> None:
    train = pa.table(
        {
            "fee": [f"{row}.500.000 \u20ac" for row in range(1, 59)] + ["n/d", "n/d"],
            "day": [f"2022-02-{1 + row % 28:02d}" for row in range(40)] + [f"{1 + row}.03.2022" for row in range(20)],
            "code": [f"00{row * 7 + 10:03d}" for row in range(60)],
        }
    )
    schema = infer_schema(train, config=SchemaConfig(kinds={"code": "code"}))
    assert [field.kind for field in schema.fields] == ["integer", "datetime", "code"]
    told: list[str] = []
    rows = train.slice(0, 60).set_column(2, "code", pa.array([row * 7 + 10 for row in range(60)]))
    assert plainly_read(rows, train, schema, "rows.csv", told.append).equals(train)
    assert len(told) == 1
    assert "leading zeros are lost: '10' is read as '00010'" in told[0]
    numbers = train.set_column(0, "fee", pa.array(range(60)))
    assert plainly_read(numbers, train, schema, "rows.csv", told.append).column("fee").to_pylist() == [*range(60)]
    wrong = train.set_column(0, "fee", pa.array([*train.column("fee").to_pylist()[1:], "5 kg"]))
    with pytest.raises(DataError, match="the first '5 kg' in record 60"):
        plainly_read(wrong, train, schema, "rows.csv", told.append)


@pytest.mark.parametrize("typed", [False, True])
def test_digits_that_the_schema_leaves_out_of_training_are_no_fault_of_other_rows(typed: bool) -> None:
    """Rows with all of their 12 decimals were none that fit, the training rows themselves among them."""
    texts = [f"{(row * 7919 % 1000) / 31 + 1:.12f}" for row in range(300)]
    train = pa.table({"x": [float(text) for text in texts] if typed else texts})
    schema = infer_schema(train)
    (field,) = schema.fields
    assert isinstance(field, DecimalField)
    assert field.decimals < 12
    made = plainly_read(train, train, schema, "rows.csv", lambda _: None)
    assert made["x"].to_pylist() == [round(float(text), field.decimals) for text in texts]


def test_more_digits_than_training_has_stay_a_fault() -> None:
    assert read(price=["1.5061", "2.25", "3.00"])["price"] == ["1.5061", "2.25", "3.00"]
