"""Singling out, linkability and attribute inference where the answer is known: copies, fresh rows, and by hand."""

import json

import numpy as np
import pyarrow as pa
import pytest

from difflm.records.kinds.inference import infer_schema
from difflm_evaluators.base import Evaluation
from difflm_evaluators.columns.columns import read_columns
from difflm_evaluators.privacy.attacks import AttacksConfig, by_neighbours, evaluate_attacks
from difflm_evaluators.privacy.risks import AttackedColumn, Rate, Risk, attacked_columns
from difflm_evaluators.privacy.singling_out import singling_out

CONFIG = AttacksConfig(attacks=300)
PACKAGE = (0.15489442161976935, 0.10640851765019943, 0.20338032558933927)
NAMES = ("singling_out", "linkability", "attribute_inference")


def _people(rows: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    age = random.integers(18, 90, rows)
    return pa.table(
        {
            "age": age,
            "pay": np.round(random.lognormal(8, 1, rows), 2),
            "height": np.round(random.normal(170, 10, rows), 1),
            "city": random.choice(["Rome", "Oslo", "Lima", "Bern"], rows).tolist(),
            "retired": np.where(age > 65, "yes", "no").tolist(),
        }
    )


def _attacked(
    synthetic: pa.Table, train: pa.Table, test: pa.Table | None, config: AttacksConfig = CONFIG
) -> Evaluation:
    schema = infer_schema(train)
    tables = [read_columns(table, schema, "t") if table is not None else None for table in (synthetic, train, test)]
    return evaluate_attacks(*tables, config)  # type: ignore[arg-type]


def _numbers(rows: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    return pa.table({name: np.round(random.normal(size=rows), 6) for name in "abcdef"})


def test_copies_of_the_training_rows_give_nearly_everything_away() -> None:
    train = _numbers(400, 0)
    found = _attacked(train, train, _numbers(400, 1))
    for name, least in zip(NAMES, (0.5, 0.98, 0.98), strict=True):  # some predicates are true of test rows as well
        score = found.score(name)
        assert score.value is not None
        assert score.value > least, name
        assert score.interval is not None
        assert score.interval[0] > least - 0.15, name
    assert found.details["worst"]["interval"][0] > 0.95  # type: ignore[call-overload,index]
    json.dumps(found.to_json(), allow_nan=False)


def test_rows_that_know_nothing_of_the_training_rows_give_nothing_away() -> None:
    risks = [_attacked(_people(500, 10 + seed), _people(500, 20 + seed), _people(300, 30 + seed)) for seed in range(3)]
    for name in NAMES:
        intervals = [found.score(name).interval for found in risks]
        assert sum(interval[0] > 0 for interval in intervals if interval is not None) <= 1, name
        assert all(interval[0] < 0.05 for interval in intervals if interval is not None), name


def test_half_of_the_rows_copied_is_about_half_of_the_links() -> None:
    train, fresh = _numbers(400, 0), _numbers(400, 5)
    half = pa.concat_tables([train.slice(0, 200), fresh.slice(0, 200)])
    found = _attacked(half, train, _numbers(400, 1), AttacksConfig(attacks=400))
    assert found.score("linkability").value == pytest.approx(0.5, abs=0.05)


def test_the_same_seed_finds_the_same() -> None:
    tables = (_people(300, 0), _people(300, 1), _people(200, 2))
    assert _attacked(*tables).to_json() == _attacked(*tables).to_json()


def test_risk_is_that_of_the_package() -> None:
    # anonymeter 1.1.0: EvaluationResults(n_attacks=500, n_success=120, n_baseline=10, n_control=50).risk()
    risk = Risk(attack=Rate.of(120, 500), control=Rate.of(50, 500))
    assert risk.value == pytest.approx(PACKAGE[0], abs=1e-9)
    assert risk.interval() == pytest.approx(PACKAGE[1:], abs=1e-9)


def _column(name: str, synthetic: list[float], train: list[float], test: list[float]) -> AttackedColumn:
    arrays = [np.array(values, dtype=np.float64) for values in (synthetic, train, test)]
    return AttackedColumn(
        name=name, numeric=True, distance=True, synthetic_R=arrays[0], train_N=arrays[1], test_M=arrays[2]
    )


def test_neighbours_by_hand() -> None:
    # row 0 of train lies at synthetic row 0 in both columns; row 1 at row 0 in x and at row 1 in y, as both of test do
    x = _column("x", [0, 100], [1, 2], [3, 4])
    y = _column("y", [0, 100], [2, 99], [98, 97])
    linked, told, secrets = by_neighbours([x, y], AttacksConfig(attacks=50))
    assert linked.attack == Rate.of(1, 2)
    assert linked.control == Rate.of(0, 2)
    assert secrets["x"].attack == Rate.of(0, 2)  # 0 and 100 in place of 1 and 2
    assert secrets["y"].attack == Rate.of(0, 2)
    assert told.attack.attacks == 4


def test_a_secret_is_told_where_it_is_the_same_or_nearly() -> None:
    known = _column("known", [0, 50, 100], [0, 50, 100], [0, 50, 100])
    secret = _column("secret", [100, 200, np.nan], [104, 211, np.nan], [100, 100, 100])
    _, _, secrets = by_neighbours([known, secret], AttacksConfig(attacks=50))
    assert secrets["secret"].attack == Rate.of(2, 3)  # 100 for 104, missing for missing
    assert secrets["secret"].control == Rate.of(1, 3)


@pytest.mark.parametrize("seed", range(3))
def test_dates_years_and_columns_that_anybody_guesses_give_nothing_away(seed: int) -> None:
    """Of years every guess is within 5 %, and with few test rows that was taken for a leak."""

    def rows(count: int, number: int) -> pa.Table:
        random = np.random.default_rng((seed, number))
        days = np.datetime64("2022-01-01") + random.integers(0, 700, count)
        return pa.table(
            {
                "year": random.integers(1990, 2024, count),
                "day": pa.array(days),
                "nearly": np.where(random.random(count) < 0.005, "b", "a"),
                "income": random.normal(30_000, 9_000, count).round(2),
                "city": random.choice(["Rome", "Oslo", "Lima"], count),
            }
        )

    found = _attacked(rows(1600, 0), rows(1600, 1), rows(200, 2))
    for name in NAMES:
        score = found.score(name)
        assert score.interval is None or score.interval[0] < 0.05, name
    secrets = found.details["secrets"]
    assert isinstance(secrets, dict)
    assert "nearly" not in secrets, "it is right for nearly everybody"
    assert {"year", "day"} <= set(secrets)
    for name in ("year", "day"):
        told = secrets[name]
        assert isinstance(told, dict)
        assert isinstance(told["control"], float)
        assert told["control"] < 0.3, name


def test_copied_years_are_told() -> None:
    random = np.random.default_rng(0)
    train, test = (
        pa.table({"year": random.integers(1990, 2024, 400), "a": random.normal(size=400), "b": random.normal(size=400)})
        for _ in range(2)
    )
    found = _attacked(train, train, test)
    secrets = found.details["secrets"]
    assert isinstance(secrets, dict)
    told = secrets["year"]
    assert isinstance(told, dict)
    assert isinstance(told["risk"], float)
    assert told["risk"] > 0.9


def test_a_risk_beside_a_control_that_is_nearly_always_right_is_none() -> None:
    assert not Risk(attack=Rate.of(1000, 1000), control=Rate.of(199, 200)).measured
    assert Risk(attack=Rate.of(1000, 1000), control=Rate.of(150, 200)).measured


def test_predicates_that_single_out_by_hand() -> None:
    # the only predicates are the ends: x <= 1 and x >= 9 of the synthetic rows
    column = _column("x", [1, 5, 5, 9], [0, 0, 5, 9], [5, 5, 5, 5])
    risk, predicates = singling_out([column], 4, 100, np.random.default_rng(0))
    assert predicates == 2
    assert risk.attack.value == 0.5  # two are <= 1, one is >= 9
    assert risk.control.value == 0.0


def test_the_sizes_of_the_splits_are_no_risk() -> None:
    values = [
        _attacked(_people(1500, 10 + seed), _people(1500, 20 + seed), _people(250, 30 + seed)) for seed in range(3)
    ]
    intervals = [found.score("singling_out").interval for found in values]
    assert all(interval is not None and interval[0] < 0.05 for interval in intervals)


def test_hits_on_one_row_count_as_one_in_the_error() -> None:
    x, y = _column("x", [1, 5, 5, 9], [0, 5, 5, 5], [5] * 4), _column("y", [1, 5, 5, 9], [0, 5, 5, 5], [5] * 4)
    risk, predicates = singling_out([x, y], 8, 100, np.random.default_rng(0))
    assert predicates >= 4
    hits = round(risk.attack.value * predicates)
    assert hits >= 2  # all on the first row of train
    assert risk.attack.error == pytest.approx(1.96 * hits / predicates, rel=1e-3)


def test_what_cannot_be_attacked_says_why() -> None:
    people = _people(200, 0)
    reasons = {score.undefined_because for score in _attacked(people, people, None).scores}
    assert reasons == {"there is no control: the test split is missing or empty"}
    assert "there are 20 synthetic, training or test rows; an attack takes 50 of each" in {
        score.undefined_because for score in _attacked(people.slice(0, 20), people, people).scores
    }
    one = people.select(["city"])
    assert "two columns" in str(_attacked(one, one, one).score("linkability").undefined_because)
    assert "only 0 predicates" in str(_attacked(one, one, one).score("singling_out").undefined_because)
    same = pa.table({"x": [1] * 100})
    assert {score.value for score in _attacked(same, same, same).scores} == {None}


def test_missing_numbers_and_texts_take_part() -> None:
    train = _people(300, 0)
    gaps = pa.array([None if place % 3 == 0 else place * 1.5 for place in range(300)])
    notes = pa.array([f"a note that only row {place} has, of several words" for place in range(300)])
    train = train.append_column("gap", gaps).append_column("note", notes)
    schema = infer_schema(train)
    columns = read_columns(train, schema, "t")
    found = {column.name: column for column in attacked_columns(columns, columns, columns)}
    assert not found["note"].distance
    assert np.isnan(found["gap"].train_N).sum() == 100
    scores = evaluate_attacks(columns, columns, read_columns(train.slice(0, 100), schema, "t"), CONFIG)
    # Its test rows are training rows, and all of them are told.
    assert "control is right" in str(scores.score("linkability").undefined_because)
