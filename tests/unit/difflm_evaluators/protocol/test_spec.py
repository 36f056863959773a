"""The protocol's kinds and splits: known tables, inferred ones, numpy's shuffle, names that are wrong."""

import numpy as np
import pyarrow as pa
import pytest

from difflm.errors import ConfigError, DataError
from difflm_evaluators.protocol import DATASETS, ProtocolSpec, infer_spec, named_spec, protocol_split
from difflm_evaluators.protocol.spec import FIRST_SEED

CODED = ProtocolSpec(target="y", task="classification", categorical=("code", "y"), numeric=("x",))


def table(rows: int) -> pa.Table:
    return pa.table(
        {
            "x": [str(n * 7 % 13) for n in range(rows)],
            "code": [str(n % 3) for n in range(rows)],
            "y": [str(n % 2) for n in range(rows)],
        }
    )


@pytest.mark.parametrize(
    ("name", "numbers", "categories"),
    [("adult", 6, 9), ("default", 14, 10), ("shoppers", 10, 8), ("magic", 10, 1), ("beijing", 7, 5)],
)
def test_the_tables_have_the_published_numbers_of_columns(name: str, numbers: int, categories: int) -> None:
    spec = DATASETS[name]
    assert (len(spec.numeric), len(spec.categorical)) == (numbers, categories)
    assert spec.target in (spec.categorical if spec.task == "classification" else spec.numeric)
    assert len(set(spec.columns)) == numbers + categories


def test_an_unknown_table_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"adlt: no table of the protocol; did you mean 'adult'\?.*--train"):
        named_spec("adlt")


def test_codes_are_categories_of_the_schema_and_what_reads_as_one_is_not_named() -> None:
    kinds = {field.name: field.kind for field in CODED.schema(table(40)).fields}
    assert kinds == {"x": "integer", "code": "categorical", "y": "categorical"}
    assert CODED.coded(table(40)) == ("code", "y")


def test_a_number_that_is_none_is_an_error_naming_the_column() -> None:
    spec = ProtocolSpec(target=None, task=None, categorical=(), numeric=("x",))
    with pytest.raises(DataError, match="column 'x' is to be a number but reads as categorical"):
        spec.schema(pa.table({"x": ["a", "b"] * 10}))


def test_kinds_of_any_table_are_inferred_and_those_given_win() -> None:
    spec = infer_spec(table(40), target="y", categorical=["code"])
    assert (spec.name, spec.task, spec.numeric, spec.categorical) == (
        *(None, "classification", ("x",)),
        ("code", "y"),
    )
    assert infer_spec(table(40)).numeric == ("x", "code", "y")
    with pytest.raises(ConfigError, match="'x' is named as categorical and as numeric"):
        infer_spec(table(40), categorical=["x"], numeric=["x"])
    with pytest.raises(DataError, match=r"no column 'cod'; did you mean 'code'\?"):
        infer_spec(table(40), categorical=["cod"])


def test_the_split_is_numpys_shuffle_of_seed_1234() -> None:
    order_N = np.arange(50)
    np.random.RandomState(FIRST_SEED).shuffle(order_N)
    whole = table(50)
    train, test, seed = protocol_split(whole, CODED)
    assert seed == FIRST_SEED
    assert train.equals(whole.take(pa.array(order_N[:45])))
    assert test.equals(whole.take(pa.array(order_N[45:])))


def test_the_split_is_drawn_again_until_every_category_is_learned() -> None:
    order_N = np.arange(50)
    np.random.RandomState(FIRST_SEED).shuffle(order_N)
    codes = ["0"] * 50
    codes[order_N[-1]] = "rare"  # held out by the first shuffle
    rare = table(50).set_column(1, "code", pa.array(codes))
    train, test, seed = protocol_split(rare, CODED)
    assert seed > FIRST_SEED
    assert "rare" in train.column("code").to_pylist()
    assert train.num_rows + test.num_rows == 50
    with pytest.raises(DataError, match="1 rows cannot be split"):
        protocol_split(table(1), CODED)
