"""Few rows are told with other numbers near their own: shapes, zeros, steps, relations and words stay."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from difflm.records.json_codec import JsonRecordCodec
from difflm.records.kinds.inference import infer_schema
from difflm.records.protection.smoothing import FEW_ROWS, NEIGHBOURS, TOLD_ROWS, told_rows
from difflm.records.relations.model import Relations, Rule
from difflm.records.schema import RecordSchema

ROWS = 200


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Columns of many kinds, with atoms, gaps, words, round numbers and codes."""
    draw = np.random.default_rng(0)
    days = np.datetime64("2020-01-01") + draw.integers(0, 900, ROWS)
    pages = np.where(draw.random(ROWS) < 0.6, 0.0, draw.normal(50, 10, ROWS).round(2))
    return pa.table(
        {
            "pay": draw.normal(30_000, 8_000, ROWS).round(-2).astype(int),
            "score": [
                None if row % 9 == 0 else float(value) for row, value in enumerate(draw.normal(0, 1, ROWS).round(3))
            ],
            "day": [str(day) for day in days],
            "when": [f"2021-03-{1 + row % 27:02d} {row % 24:02d}:{(7 * row) % 60:02d}" for row in range(ROWS)],
            "price": [
                "n/d" if row % 10 == 0 else f"€ {value:,.2f}" for row, value in enumerate(draw.lognormal(6, 1, ROWS))
            ],
            "pages": pages,
            "grade": draw.integers(1, 6, ROWS),
            "town": draw.choice(["Bern", "Basel", "Chur"], ROWS),
            "unique": [f"note {row}" for row in range(ROWS)],
        }
    )


def fitted(table: pa.Table, relations: Relations | None = None) -> tuple[pa.Table, RecordSchema]:
    schema = infer_schema(table)
    if relations is not None:
        schema = schema.model_copy(update={"relations": relations})
    return JsonRecordCodec(schema).normalize_table(table).table, schema


def test_every_row_is_told_as_often_and_numbers_move_to_values_between_near_ones(table: pa.Table) -> None:
    rows, schema = fitted(table)
    told, copies = told_rows(rows, schema, most=10**9, seed=0)
    assert copies == TOLD_ROWS / ROWS
    assert told.num_rows == TOLD_ROWS
    assert told.schema == rows.schema
    ordered = np.sort(rows["pay"].to_numpy())
    for copy in range(0, copies, 7):
        part = told.slice(copy * ROWS, ROWS)
        for name in ("grade", "town", "unique"):
            assert part[name].to_pylist() == rows[name].to_pylist()
        for own, drawn in zip(rows["pay"].to_pylist(), part["pay"].to_pylist(), strict=True):
            first, behind = np.searchsorted(ordered, own, "left"), np.searchsorted(ordered, own, "right")
            low, high = max(0, first - 4 * NEIGHBOURS), min(ROWS, behind + 4 * NEIGHBOURS) - 1
            assert ordered[low] <= drawn <= ordered[high]  # values that up to four rows share are one place
    assert len(set(told["score"].to_pylist())) > 5 * len(set(rows["score"].to_pylist()))


def test_numbers_stay_as_the_column_writes_them(table: pa.Table) -> None:
    rows, schema = fitted(table)
    told, _ = told_rows(rows, schema, most=10**9, seed=0)
    assert JsonRecordCodec(schema).normalize_table(told).notices == ()
    assert all(value % 100 == 0 for value in told["pay"].to_pylist())
    assert all(str(value).startswith("2021-03-") for value in told["when"].to_pylist())
    words = [value == "n/d" for value in told["price"].to_pylist()]
    assert words == [value == "n/d" for value in rows["price"].to_pylist()] * (told.num_rows // ROWS)
    assert told["score"].null_count == rows["score"].null_count * (told.num_rows // ROWS)


def test_shapes_and_shared_values_stay(table: pa.Table) -> None:
    rows, schema = fitted(table)
    told, _ = told_rows(rows, schema, most=10**9, seed=0)
    zeros = np.mean(np.array(told["pages"].to_pylist()) == 0)
    assert abs(zeros - np.mean(table["pages"].to_numpy() == 0)) < 0.02
    for name in ("pay", "pages"):
        own, drawn = rows[name].to_numpy(), told[name].to_numpy()
        for share in (0.1, 0.25, 0.5, 0.75, 0.9):
            near = np.quantile(own, [max(0, share - 0.03), min(1, share + 0.03)])
            assert near[0] <= np.quantile(drawn, share) <= near[1]


def share(column: pa.ChunkedArray, ends: int, among: int, unit: float) -> float:
    """Return how many numbers end so."""
    return float(np.mean(np.mod(np.rint(column.to_numpy() / unit), among) == ends))


def test_last_digits_that_are_a_habit_stay() -> None:
    draw = np.random.default_rng(1)
    pay = np.where(
        draw.random(ROWS) < 0.8, draw.normal(30, 8, ROWS).round() * 1000, draw.normal(30_000, 8_000, ROWS).round()
    )
    price = draw.lognormal(3, 1, ROWS).round() + np.where(draw.random(ROWS) < 0.6, 0.99, draw.random(ROWS).round(2))
    table = pa.table({"pay": pay.astype(int), "price": price.round(2), "other": draw.normal(0, 1, ROWS).round(2)})
    rows, schema = fitted(table)
    told, _ = told_rows(rows, schema, most=10**9, seed=0)
    for name, ends, among, unit in (("pay", 0, 1000, 1.0), ("price", 99, 100, 0.01)):
        assert abs(share(told[name], ends, among, unit) - share(rows[name], ends, among, unit)) < 0.02
        assert len(set(told[name].to_pylist())) > 1.3 * len(set(rows[name].to_pylist()))
    assert share(told["other"], 0, 10, 0.01) == pytest.approx(share(rows["other"], 0, 10, 0.01), abs=0.1)


def test_relations_hold_in_what_is_told() -> None:
    draw = np.random.default_rng(0)
    low = draw.normal(0, 1, ROWS).round(2)
    table = pa.table(
        {"low": low, "high": (low + 0.05 + draw.random(ROWS).round(2)).round(2), "x": draw.normal(0, 1, ROWS).round(3)}
    )
    relation = Relations(kept=(Rule(text="low <= high", origin="asked"),))
    rows, schema = fitted(table, relation)
    told, _ = told_rows(rows, schema, most=10**9, seed=0)
    assert all(a <= b for a, b in zip(told["low"].to_pylist(), told["high"].to_pylist(), strict=True))
    free, _ = told_rows(*fitted(table), most=10**9, seed=0)
    assert any(a > b for a, b in zip(free["low"].to_pylist(), free["high"].to_pylist(), strict=True))
    assert told["low"].to_pylist()[:ROWS] != rows["low"].to_pylist()


def test_the_seed_says_what_is_drawn(table: pa.Table) -> None:
    rows, schema = fitted(table.select(["pay", "score", "town"]))
    (first, _), (again, _), (other, _) = (told_rows(rows, schema, most=10**9, seed=seed) for seed in (3, 3, 4))
    assert first.equals(again)
    assert not first.equals(other)
    assert all(not first.slice(a, ROWS).equals(first.slice(b, ROWS)) for a, b in pairwise(range(0, 5 * ROWS, ROWS)))


@pytest.mark.parametrize(("most", "copies"), [(1, 1), (ROWS, 1), (ROWS + 1, 2), (10**9, TOLD_ROWS // ROWS)])
def test_no_more_is_told_than_is_read(most: int, copies: int, table: pa.Table) -> None:
    rows, schema = fitted(table.select(["pay", "town"]))
    told, found = told_rows(rows, schema, most=most, seed=0)
    assert found == copies
    assert told.num_rows == copies * ROWS


def test_wide_tables_are_told_less_often() -> None:
    draw = np.random.default_rng(0)
    rows, schema = fitted(pa.table({f"c{place}": draw.normal(0, 1, 50).round(2) for place in range(100)}))
    told, copies = told_rows(rows, schema, most=10**9, seed=0)
    assert copies == 40
    assert told.num_rows == 40 * 50


@pytest.mark.parametrize("rows", [FEW_ROWS, FEW_ROWS + 1])
def test_many_rows_are_told_as_they_are(rows: int) -> None:
    given, schema = fitted(pa.table({"x": np.random.default_rng(0).normal(0, 1, rows)}))
    told, copies = told_rows(given, schema, most=10**9, seed=0)
    assert told is given
    assert copies == 1


@pytest.mark.parametrize("column", [["a", "b"] * 50, list(range(5)) * 20, [3] * 100, [None, 1.5] * 50])
def test_tables_of_codes_and_texts_are_told_as_they_are(column: list[object]) -> None:
    given, schema = fitted(pa.table({"x": column, "y": ["p", "q"] * 50}))
    told, copies = told_rows(given, schema, most=10**9, seed=0)
    assert told is given
    assert copies == 1


def test_huge_tiny_and_far_numbers_come_through() -> None:
    draw = np.random.default_rng(0)
    table = pa.table(
        {
            "huge": draw.normal(0, 1, ROWS) * 1e300,
            "tiny": draw.lognormal(0, 1, ROWS) * 1e-290,
            "ids": 2**60 + draw.integers(0, 2**40, ROWS),
            "sensor": np.where(draw.random(ROWS) < 0.1, -999, draw.normal(0, 1, ROWS).round(2)),
        }
    )
    rows, schema = fitted(table)
    told, copies = told_rows(rows, schema, most=10**9, seed=0)
    assert copies > 1
    assert JsonRecordCodec(schema).normalize_table(told).notices == ()
    assert abs(np.mean(told["sensor"].to_numpy() == -999) - np.mean(table["sensor"].to_numpy() == -999)) < 0.01
