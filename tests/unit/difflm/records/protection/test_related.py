"""Tables of relations hold only entries that enough rows have, and messages quote nothing of single rows."""

from __future__ import annotations

import pyarrow as pa
import pytest

from difflm.records.kinds.columns import conform_table
from difflm.records.kinds.inference import infer_schema
from difflm.records.protection.masking import RARE, masked
from difflm.records.protection.related import breaking_rows, common_relations, public_words, without_quotes
from difflm.records.protection.rounding import rounded_edges
from difflm.records.protection.settings import Protected
from difflm.records.relations.model import Combinations, Lookup, Relations, Rule
from difflm.records.schema import RecordSchema


def table() -> pa.Table:
    rows = [("Rome", "IT", 1), ("Oslo", "NO", 2)] * 20 + [("Oslo", "SE", 3)]
    return pa.table({"town": [r[0] for r in rows], "land": [r[1] for r in rows], "n": [r[2] for r in rows]})


def test_entries_of_few_rows_are_left_out() -> None:
    schema = infer_schema(table())
    pairs = (("Rome", "IT"), ("Oslo", "NO"), ("Oslo", "SE"))
    relations = Relations(
        kept=(
            Rule(text="n <= 3"),
            Lookup(column="land", sources=("town",), rows=pairs[:2]),
            Lookup(column="land", sources=("n",), rows=((3, "SE"),)),
            Combinations(columns=("town", "land"), rows=pairs, origin="asked"),
        )
    )
    kept = common_relations(relations, table(), schema, 8)
    assert kept.kept == (
        relations.kept[0],
        relations.kept[1],
        Combinations(columns=("town", "land"), rows=pairs[:2], origin="asked"),
    )
    assert breaking_rows(kept, table(), schema).nonzero()[0].tolist() == [40]


def test_a_found_list_that_would_cost_many_rows_is_dropped() -> None:
    pairs = (("Rome", "IT"), ("Oslo", "NO"), ("Oslo", "SE"))
    relations = Relations(kept=(Combinations(columns=("town", "land"), rows=pairs),))
    assert not common_relations(relations, table(), infer_schema(table()), 8)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("column 'town': row 7 has 'Zug'; give more", "column 'town': row 7 has '…'; give more"),
        ("""found ("it's", 'Oslo', ';')""", """found ("…", 'Oslo', ';')"""),
        ("the source's own, of a column's values", "the source's own, of a column's values"),
        ("is a date ('%Y-%m-%d'), such as '2020-01-01'", "is a date ('%Y-%m-%d'), such as '…'"),
        ("""set data.read.missing_in='{"town": [""]}'""", """set data.read.missing_in='{"…": [""]}'"""),
    ],
)  # fmt: skip
def test_quoted_values_are_hidden_unless_they_are_public(message: str, shown: str) -> None:
    schema = infer_schema(table())
    assert without_quotes(message, public_words(schema)) == shown.replace('"…": [', '"town": [')


def protected_schema() -> RecordSchema:
    found = infer_schema(
        pa.table({"town": ["Rome", "Oslo"] * 20, "n": [1, 2] * 20, "day": ["2020-01-01", "2020-02-01"] * 20})
    )
    return found.model_copy(update={"protected": Protected(threshold=8)})


def test_real_rows_are_shown_with_what_the_schema_says() -> None:
    schema = protected_schema()
    real = pa.table({"town": ["Rome", "Zug", None], "n": [1, None, 99], "day": ["1871-01-01", None, "2020-01-05"]})
    shown = masked(conform_table(real, schema), schema)
    assert shown.to_pydict() == {
        "town": ["Rome", RARE, None],
        "n": [1, None, 2],
        "day": ["2020-01-01", None, "2020-01-05"],
    }
    open_schema = schema.model_copy(update={"protected": None})
    assert masked(conform_table(real, open_schema), open_schema) == conform_table(real, open_schema)


def test_what_is_published_counts_no_rows() -> None:
    shown = protected_schema().published()
    assert shown.field("town").counts == (0, 0)  # type: ignore[union-attr]
    assert shown.field("town").values == ("Oslo", "Rome")  # type: ignore[union-attr]
    many = protected_schema().model_copy(update={"row_count": 32_561})
    assert many.published().row_count == 30_000


def test_edges_of_bins_are_rounded_within_them() -> None:
    edges = (12345.0, 20011.0, 20017.0, 99999.0)
    assert rounded_edges(edges) == (12345.0, 20011.0, 20017.0, 99999.0)
    assert rounded_edges((0.0, 1234.0, 23456.0, 99999.0)) == (0.0, 1200.0, 23000.0, 99999.0)
