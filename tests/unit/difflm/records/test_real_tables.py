"""Real tables: all five go in as they are, encode exactly and fast enough."""

from collections.abc import Callable
from pathlib import Path

import pytest

from difflm.records.files.reading import ReadConfig, read_table
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.inference import infer_schema
from difflm.records.schema import CategoricalField, IdentifierField
from difflm.records.splits import GivenSplit, HashSplit, split_table

CASES = [
    ("adult/train.csv.gz", "income", "classification", 32561, 15),
    ("beijing/PRSA_data_2010.1.1-2014.12.31.csv.gz", "pm2.5", "regression", 41757, 13),
    ("default/UCI_Credit_Card.csv.gz", "default.payment.next.month", "classification", 30000, 25),
    ("magic/magic04.csv.gz", "class", "classification", 19020, 11),
    ("shoppers/online_shoppers_intention.csv.gz", "Revenue", "classification", 12330, 18),
]


@pytest.mark.parametrize(("path", "target", "task", "rows", "columns"), CASES)
def test_real_tables_come_back_exactly(
    real_data: Callable[[str], Path], path: str, target: str, task: str, rows: int, columns: int
) -> None:
    table = read_table(real_data(path))
    splits = split_table(table, HashSplit(seed=1), target=target)
    assert splits.train.num_rows + splits.validation.num_rows + splits.test.num_rows == rows
    schema = infer_schema(splits.train, target=target)
    assert (schema.task, len(schema.fields)) == (task, columns)
    codec = JsonRecordCodec(schema)
    train = codec.normalize_table(splits.train)
    assert train.notices == ()
    literals = codec.value_literals(train.table)
    assert [len(column) for column in literals] == [splits.train.num_rows] * columns
    sample = train.table.slice(0, 1500)
    records = list(codec.records_of(sample))
    unnamed = {field.name: 0 for field in schema.fields if isinstance(field, IdentifierField)}
    for record, text in zip(records, codec.encode_table(sample), strict=True):
        decoded = codec.decode(text)
        assert getattr(decoded, "record", decoded) == {**record, **unnamed}
    assert codec.table_of(records).equals(sample.combine_chunks())
    test = codec.normalize_table(splits.test).table
    assert all(hasattr(codec.decode(text), "record") for text in codec.encode_table(test.slice(0, 300)))


def test_adults_given_test_file_has_the_same_labels(real_data: Callable[[str], Path]) -> None:
    config = ReadConfig(strip_suffix={"income": "."})
    train = read_table(real_data("adult/train.csv.gz"), config)
    test = read_table(real_data("adult/test.csv.gz"), config)
    splits = split_table(train, GivenSplit(), target="income", test=test)
    assert splits.test.num_rows == 16281
    schema = infer_schema(splits.train, target="income")
    field = schema.field("income")
    assert isinstance(field, CategoricalField)
    assert field.values == ("<=50K", ">50K")
    assert set(splits.test.column("income").to_pylist()) == {"<=50K", ">50K"}


def test_spelling_survives_in_shoppers(real_data: Callable[[str], Path]) -> None:
    table = read_table(real_data("shoppers/online_shoppers_intention.csv.gz"))
    codec = JsonRecordCodec(infer_schema(table, target="Revenue"))
    back = codec.table_of(codec.records_of(table))
    for name in ("Weekend", "Revenue", "Month", "VisitorType"):
        assert back.column(name).to_pylist() == table.column(name).to_pylist()
