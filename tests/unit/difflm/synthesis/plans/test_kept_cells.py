"""Kept cells: given cells are written as they were given, whatever the column's numbers look like."""

import io
import math
from decimal import Decimal

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pytest

from difflm.artifacts.formats import encode_table
from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.columns import arrow_schema
from difflm.records.kinds.inference import infer_schema
from difflm.synthesis.plans.kept_cells import kept_cells, put_back
from difflm.synthesis.plans.request import table_with_gaps

TRAIN = pa.table(
    {
        "price": [f"${value}.50" for value in range(40)],
        "size": [f"{value}.25" for value in range(40)],
        "phone": [f"+4917{value % 20:06d}" for value in range(40)],
        "count": [str(value % 7) for value in range(40)],
        "member": ["TRUE", "FALSE"] * 20,
    }
)


def test_given_cells_come_back_byte_for_byte() -> None:
    schema = infer_schema(TRAIN)
    codec = JsonRecordCodec(schema)
    given = pa.table(
        {
            "price": ["$7.5", None],
            "size": [None, "3.1234567"],
            "phone": ["+4917000003", None],
            "count": [None, "3"],
            "member": ["true", None],
        }
    )
    drawn = codec.normalize_table(TRAIN.slice(0, 2)).table
    gaps = table_with_gaps(given, schema, name="gaps.csv")
    assert gaps.column("price").to_pylist() == ["$7.50", None]
    made = put_back(drawn, [2, 1], kept_cells(given, schema))
    table = arrow_csv.read_csv(
        io.BytesIO(encode_table(made, "csv")),
        convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(TRAIN.column_names, pa.string())),
    )
    assert table.to_pylist() == [
        {"price": "$7.5", "size": "0.25", "phone": "+4917000003", "count": "0", "member": "true"},
        {"price": "$1.50", "size": "3.1234567", "phone": "+4917000001", "count": "3", "member": "FALSE"},
    ]


def test_numbers_stay_numbers_where_they_are_printed_as_given() -> None:
    schema = infer_schema(TRAIN)
    given = TRAIN.slice(3, 4)
    assert kept_cells(given, schema).column("size").type == pa.float64()
    respelled = given.set_column(1, "size", pa.array(["3.250", None, None, None]))
    assert kept_cells(respelled, schema).column("size").to_pylist() == ["3.250", None, None, None]
    assert kept_cells(respelled, schema, spelling=False).column("size").to_pylist() == [3.25, None, None, None]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (pa.array([30.5, None]), [30.5, 1.0]),
        (pa.array([30.0, None]), [30, 1]),
        (pa.array([math.inf, None]), [math.inf, 1.0]),
        (pa.array([Decimal("2.25"), None]), [2.25, 1.0]),
        (pa.array([1e300, None]), [1e300, 1.0]),
    ],
)
def test_numbers_that_are_none_of_the_columns_stay_what_they_are(given: pa.Array, kept: list[object]) -> None:
    schema = infer_schema(pa.table({"count": [value % 9 for value in range(60)], "other": list(range(60))}))
    drawn = pa.table({"count": pa.array([7, 1]), "other": pa.array([1, 2])}, schema=arrow_schema(schema))
    cells = pa.table({"count": given, "other": pa.array([None, None], pa.int64())})
    made = put_back(drawn, [0, 1], kept_cells(cells, schema))
    assert made.column("count").to_pylist() == kept
    assert made.column("other").to_pylist() == [1, 2]
