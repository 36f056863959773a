"""Rows that fit the schema, by hand, and the account of draws."""

import pyarrow as pa
import pytest

from difflm.errors import DataError
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import RecordSchema
from difflm.synthesis.draws import PRIVACY
from difflm_evaluators.columns.columns import read_columns
from difflm_evaluators.scores.validity import HELD_BACK, SynthesisAccount, column_faults, draws_score, evaluate_validity


def _faults(train: list[object], other: list[object]) -> dict[str, list[bool]]:
    table = pa.table({"x": train})
    schema = infer_schema(table)
    column = read_columns(pa.table({"x": pa.array(other)}), schema, "t")["x"]
    return {reason: mask.tolist() for reason, mask in column_faults(column, schema.field("x")).items()}


@pytest.mark.parametrize(
    ("train", "other", "expected"),
    [
        ([1, 5, 9, 3], [1, 9, 10, None], {"range": [0, 0, 1, 0], "missing": [0, 0, 0, 1]}),
        ([1, 5, None, 3], [1.0, 2.5, None], {"type": [0, 1, 0]}),
        ([1.25, 5.5, 2.75], [1.25, 5.51, 2.001, 3.0], {"range": [0, 1, 0, 0], "decimals": [0, 0, 1, 0]}),
        (["a", "b", "a", "b"] * 9, ["a", "c", "b"], {"category": [0, 1, 0]}),
        (["TRUE", "FALSE"] * 9, ["TRUE", "maybe"], {"type": [0, 1]}),
        (["2020-01-01", "2020-02-01", "2020-01-05"] * 9, ["2020-01-31", "2021-01-01"], {"range": [0, 1]}),
        ([7, 7, 7], [7, 8], {"constant": [0, 1]}),
        ([0.1, 0.2, 0.3, 0.7], [0.3, 0.1 + 0.2, 0.7], {}),
    ],
)
def test_faults_by_hand(train: list[object], other: list[object], expected: dict[str, list[int]]) -> None:
    found = _faults(train, other)
    assert found == {reason: [bool(flag) for flag in flags] for reason, flags in expected.items()}


def test_training_rows_conform_and_each_bad_row_counts_once(
    train: pa.Table, test: pa.Table, schema: RecordSchema
) -> None:
    columns = read_columns(train, schema, "t")
    assert evaluate_validity(columns, None, schema, None).score("conforming_share").value == 100.0
    ages = train.column("age").to_pylist()
    labels = train.column("label").to_pylist()
    ages[0], labels[0], ages[1] = 500, "perhaps", -1
    bad = train.set_column(0, "age", pa.array(ages)).set_column(6, "label", pa.array(labels))
    evaluation = evaluate_validity(read_columns(bad, schema, "t"), read_columns(test, schema, "t"), schema, None)
    assert evaluation.score("conforming_share").value == pytest.approx(100 * 598 / 600)
    assert evaluation.details["faults"] == {"age": {"range": 2}, "label": {"type": 1}}
    assert evaluation.score("conforming_share").baseline is not None


def test_the_share_of_valid_draws(train: pa.Table, schema: RecordSchema) -> None:
    columns = read_columns(train, schema, "t")
    account = SynthesisAccount(rows_asked=90, rows_emitted=90, attempts=100, rejections={"range": 10})
    assert evaluate_validity(columns, None, schema, account).score("valid_draw_share").value == 90.0
    assert HELD_BACK == PRIVACY
    held_back = SynthesisAccount(rows_asked=90, rows_emitted=90, attempts=120, rejections={"range": 10, HELD_BACK: 20})
    assert draws_score(held_back).value == pytest.approx(100 * 110 / 120)
    nothing = SynthesisAccount(rows_asked=0, rows_emitted=0, attempts=0, rejections={})
    assert evaluate_validity(columns, None, schema, nothing).score("valid_draw_share").value is None
    wrong = SynthesisAccount(rows_asked=9, rows_emitted=9, attempts=3, rejections={})
    with pytest.raises(DataError, match="9 rows from 3 attempts"):
        evaluate_validity(columns, None, schema, wrong)
