"""Mining: known answers on made tables, nothing that holds by chance, and nothing that validation rows break."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from difflm.records.kinds.inference import infer_schema
from difflm.records.relations.categories import broken_by
from difflm.records.relations.mining import Mined, mine_relations
from difflm.records.relations.model import Rule
from difflm.records.relations.rules import compile_rule
from difflm.records.relations.values import TableValues
from difflm.records.relations.words import describe, name_of
from difflm.records.schema import RecordSchema
from difflm.testing.related import RELATIONS, related_table
from difflm.testing.tables import mixed_table, odd_tables, small_table


def _mined(train: pa.Table, validation: pa.Table | None = None) -> Mined:
    return mine_relations(train, train if validation is None else validation, infer_schema(train))


def _names(mined: Mined) -> list[str]:
    return [name_of(relation) for relation in mined.relations.kept]


def _columns(rows: int = 400, seed: int = 3) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.integers(1, 500, rows) for name in ("a", "b", "c")} | {
        "x": random.gamma(3.0, 9.0, rows).round(2) + 0.01,
        "y": random.gamma(2.0, 20.0, rows).round(2) + 0.01,
    }


def _table(columns: dict[str, np.ndarray]) -> pa.Table:
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def test_known_relations_are_found_and_no_others() -> None:
    mined = _mined(related_table(800), related_table(100, seed=1))
    assert set(_names(mined)) == set(RELATIONS)
    assert mined.notices == ()


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda t: t["a"] + t["b"], "z == a + b"),
        (lambda t: t["a"] - t["b"], "a == b + z"),
        (lambda t: (t["x"] + t["y"]).round(2), "z == x + y"),
        (lambda t: (t["x"] + t["y"]).round(1), "z == x + y"),
        (lambda t: t["a"] * t["b"], "z == a * b"),
        (lambda t: (t["a"] * t["x"]).round(2), "z == a * x"),
        (lambda t: (t["x"] * t["y"]).round(2), "z == x * y"),
        (lambda t: (t["y"] / t["a"]).round(5), "z == y / a"),
        (lambda t: t["a"] + t["b"] + t["c"], "z == a + b + c"),
        (lambda t: t["a"] + t["b"] - t["c"], "z == a + b - c"),
        (lambda t: t["a"] * t["b"] * t["c"], "z == a * b * c"),
        (lambda t: t["a"] + 100_000, "z == a + 100000"),
        (lambda t: t["a"] * 100, "z == a * 100"),
        (lambda t: (t["x"] * 1.8 + 32).round(2), "z == x * 1.8 + 32"),
        (lambda t: 1000 - t["a"], "z == 1000 - a"),
        (lambda t: t["x"], "z == x"),
        (lambda t: t["a"] + np.random.default_rng(1).integers(0, 50, 400), "a <= z"),
    ],
)
def test_an_equation_is_found_in_the_decimals_of_its_column(made, expected) -> None:  # type: ignore[no-untyped-def]
    columns = _columns()
    columns["z"] = made(columns)
    assert _names(_mined(_table(columns))) == [expected]


def test_no_relation_is_found_between_columns_that_have_none() -> None:
    random = np.random.default_rng(0)
    rows = 3_000
    columns = {
        "age": random.integers(17, 90, rows),
        "salary": random.integers(12_000, 90_000, rows),
        "score": random.normal(0, 1, rows).round(3),
        "rare": (random.random(rows) < 0.003).astype(int),
        "kind": random.choice(["a", "b", "c"], rows),
        "place": random.choice([f"p{place}" for place in range(40)], rows),
        "flag": random.choice(["yes", "no"], rows),
    }
    assert _names(_mined(_table(columns))) == []
    assert _names(_mined(small_table(500))) == []
    assert _names(_mined(mixed_table(300))) == []


def test_few_rows_are_no_evidence() -> None:
    assert _names(_mined(related_table(25))) == []


def test_odd_tables_can_be_searched_and_what_is_found_holds_in_them() -> None:
    for table in odd_tables().values():
        schema = infer_schema(table)
        for relation in mine_relations(table, table, schema).relations.kept:
            assert _broken(relation, table, schema) == 0


@pytest.mark.parametrize("seed", range(6))
def test_what_was_found_holds_in_every_row(seed: int) -> None:
    random = np.random.default_rng(seed)
    columns = _columns(rows=int(random.integers(100, 2_000)), seed=seed)
    names = list(columns)
    for place in range(4):
        one, other = random.choice(names, 2, replace=False)
        made = (columns[one] + columns[other], columns[one] * columns[other], np.minimum(columns[one], columns[other]))
        columns[f"z{place}"] = made[int(random.integers(3))].round(2)
    gaps = random.random(len(columns["a"])) < 0.2
    table = _table(columns).append_column("gappy", pa.array(columns["a"] // 7, mask=gaps))
    train, validation = table.slice(len(table) // 5), table.slice(0, len(table) // 5)
    schema = infer_schema(train)
    for relation in mine_relations(train, validation, schema).relations.kept:
        assert _broken(relation, table, schema) == 0


def _broken(relation, table: pa.Table, schema: RecordSchema) -> int:  # type: ignore[no-untyped-def]
    values = TableValues(table, schema)
    broken_N = (
        compile_rule(relation, schema).broken(values) if isinstance(relation, Rule) else broken_by(relation, values)
    )
    return int(broken_N.sum())


def test_what_validation_rows_break_is_dropped_and_said() -> None:
    train, held_out = related_table(400), related_table(60, seed=1)
    wrong = held_out.set_column(5, "total", pa.array(["1.00", *held_out.column("total").to_pylist()[1:]]))
    wrong = wrong.set_column(6, "state", pa.array(["Hesse"] * 60))
    mined = _mined(train, wrong)
    assert set(_names(mined)) == set(RELATIONS) - {"total == n * unit", "determines(city, state)"}
    assert [(notice.code, notice.column) for notice in mined.notices] == [("relation", None), ("relation", "state")]
    assert "total == n * unit holds in all 400 training rows, but 1 of 60 validation rows break it" in (
        mined.notices[0].message
    )


def test_values_that_training_has_not_seen_break_no_function() -> None:
    random = np.random.default_rng(0)
    codes = random.integers(0, 9, 400)
    table = pa.table({"code": [f"c{code}" for code in codes], "name": [f"n{code // 2}" for code in codes]})
    held_out = pa.table({"code": ["c1", "unknown"], "name": ["n0", "n9"]})
    assert _names(_mined(table, held_out)) == ["determines(code, name)"]


def test_a_column_follows_from_two() -> None:
    random = np.random.default_rng(0)
    one, other = random.integers(0, 5, 900), random.integers(0, 4, 900)
    table = pa.table(
        {
            "one": [f"a{value}" for value in one],
            "other": [f"b{value}" for value in other],
            "both": [f"c{(3 * x + 2 * y + x * y) % 7}" for x, y in zip(one, other, strict=True)],
        }
    )
    assert _names(_mined(table)) == ["determines(one, other, both)"]


def test_combinations_that_never_mix_are_found() -> None:
    random = np.random.default_rng(0)
    pairs = [
        ("DE", "Berlin"),
        ("DE", "Frankfurt"),
        ("US", "Frankfurt"),
        ("US", "Paris"),
        ("FR", "Paris"),
        ("FR", "Lyon"),
    ]
    chosen = random.integers(0, len(pairs), 600)
    table = pa.table({"country": [pairs[i][0] for i in chosen], "city": [pairs[i][1] for i in chosen]})
    (relation,) = _mined(table).relations.kept
    assert name_of(relation) == "fixed(country, city)"
    assert set(relation.rows) == set(pairs)  # type: ignore[union-attr]


def test_of_two_columns_that_follow_from_each_other_the_first_decides() -> None:
    codes = np.random.default_rng(0).integers(0, 16, 500)
    table = pa.table({"education": [f"grade {code}" for code in codes], "education-num": codes})
    assert _names(_mined(table)) == ["determines(education, `education-num`)"]


def test_chains_of_orders_are_told_link_by_link() -> None:
    random = np.random.default_rng(0)
    ordered = np.sort(random.integers(0, 50, (4, 500)), axis=0)
    table = _table({name: ordered[place] for place, name in enumerate("abcd")})
    assert _names(_mined(table)) == ["a <= b", "b <= c", "c <= d"]


def test_hours_between_two_moments() -> None:
    random = np.random.default_rng(0)
    begin = np.datetime64("2021-01-01T00:00") + random.integers(0, 500_000, 400)
    hours = random.integers(1, 40, 400)
    end = begin + hours * np.timedelta64(60, "m")
    shown = [[str(moment).replace("T", " ") for moment in moments] for moments in (begin, end)]
    table = pa.table({"begin": shown[0], "end": shown[1], "hours": hours})
    assert _names(_mined(table)) == ["hours == (end - begin) * 24", "begin < end"]


def test_missing_values_of_copies_come_together() -> None:
    random = np.random.default_rng(0)
    values = [None if random.random() < 0.2 else int(value) for value in random.integers(0, 500, 300)]
    (relation,) = _mined(pa.table({"one": values, "two": values})).relations.kept
    assert relation == Rule(text="two == one", missing_together=True)


def test_relations_are_described_in_words() -> None:
    train = related_table(400).append_column("kind", pa.array(["stay"] * 400))
    schema = infer_schema(train)
    told = describe(mine_relations(train, train, schema).relations, schema)
    assert told[0] == "kind is always 'stay'"
    assert "state follows from city (5 values)" in told
    assert "low <= high" in told


def test_a_schema_without_relations_is_written_as_before_and_one_with_them_reads_back() -> None:
    train = related_table(400)
    schema = infer_schema(train)
    assert "relations" not in schema.to_json()
    related = schema.model_copy(update={"relations": mine_relations(train, train, schema).relations})
    assert RecordSchema.from_json(related.to_json()) == related


def test_columns_of_many_levels_take_no_dense_table() -> None:
    draw = np.random.default_rng(0)
    cells = {name: [f"level {value}" for value in draw.integers(0, 3_000, 16_000)] for name in ("a", "b")}
    table = pa.table(cells)
    schema = infer_schema(table)
    assert {field.kind for field in schema.fields} == {"categorical"}
    tracemalloc.start()
    mined = mine_relations(table, table.slice(0, 10), schema)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not mined.relations.kept
    assert peak < 40 * 2**20  # two tables of 3,000 times 3,000 doubles are 137 MiB
