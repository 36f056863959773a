"""Draw plans with an untrained bundle: conditions hold, classes are equal, given cells stand, draws are addressed."""

from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from difflm.diffusion.priors import GaussianPrior
from difflm.errors import BundleError, ConfigError, DataError
from difflm.records.schema import Record
from difflm.synthesis.bundle import Bundle, load_bundle
from difflm.synthesis.plans.conditions import parse_condition
from difflm.synthesis.plans.draw_plans import DrawPlan, DrawPlans
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.testing.bundles import StageFolders

SAMPLING = SamplingConfig(steps=3, precision="float32", batch_size=8, text_tokens=10, attempts=1)
WHERE = 'age >= 30 and age < 60 and city in ["Lyon", "Oslo"] and day >= "2020-03-15" and day < "2020-05-02" and member'


@pytest.fixture(scope="module")
def bundle(tiny_stages: StageFolders) -> Bundle:
    return load_bundle(tiny_stages.bundle, solver=SAMPLING.solver_settings())


@pytest.fixture(scope="module")
def plans(bundle: Bundle) -> DrawPlans:
    return DrawPlans(bundle, text_tokens=SAMPLING.text_tokens)


@pytest.fixture(scope="module")
def table(bundle: Bundle, tiny_stages: StageFolders) -> pa.Table:
    return bundle.codec.normalize_table(pq.read_table(tiny_stages.prepared / "train.parquet")).table


def _drawn(bundle: Bundle, plan: DrawPlan, indices: list[int], *, batch_size: int = 8) -> dict[int, Record]:
    config = SAMPLING.model_copy(update={"batch_size": batch_size})
    draws = Synthesizer(bundle, config, plan=plan).draw(indices, seed=4, attempt=0)
    assert {draw.reason for draw in draws if draw.record is None} <= {"length"}
    return {draw.index: draw.record for draw in draws if draw.record is not None}


def test_a_condition_holds_for_every_draw_and_other_latents_are_drawn(bundle: Bundle, plans: DrawPlans) -> None:
    condition = parse_condition(WHERE, bundle.schema)
    plan = plans.where(condition)
    records = _drawn(bundle, plan, list(range(40)))
    assert condition.rows(bundle.codec.table_of(records.values()), bundle.schema).all()
    noise = torch.zeros(2, plan.latents.noise_size)
    assert not torch.allclose(plan.latents.latents([0, 1], noise), plans.plain().latents.latents([0, 1], noise))
    assert _drawn(bundle, plan, [7, 31], batch_size=1) == {i: records[i] for i in (7, 31) if i in records}


def test_a_condition_that_always_holds_needs_no_conditional_prior(bundle: Bundle) -> None:
    plans = DrawPlans(replace(bundle, conditional=None), text_tokens=8)
    everything = plans.where(parse_condition("age > 0", bundle.schema))
    assert _drawn(bundle, everything, list(range(6))) == _drawn(bundle, plans.plain(), list(range(6)))
    with pytest.raises(BundleError, match=r"no conditional prior.*conditions\.enabled=true"):
        plans.where(parse_condition("age > 40", bundle.schema))


def test_classes_are_equal_and_within_a_condition(bundle: Bundle, plans: DrawPlans) -> None:
    records = _drawn(bundle, plans.balanced("city"), list(range(40)))
    assert len(Counter(record["city"] for record in records.values())) == 4
    assert all(
        record["city"] == records[index % 4]["city"] for index, record in records.items() if index % 4 in records
    )
    condition = parse_condition('city != "Oslo" and age > 40', bundle.schema)
    within = _drawn(bundle, plans.balanced("city", condition), list(range(30)))
    assert set(Counter(record["city"] for record in within.values())) == {"Lyon", "Łódź", "São Paulo"}
    assert all(int(str(record["age"])) > 40 for record in within.values())
    assert _drawn(bundle, plans.balanced("label"), [0, 1])[0]["label"] is not None


@pytest.mark.parametrize(
    ("column", "message"), [("age", "is integer; only categories"), ("town", "no column 'town'; columns are 'age'")]
)
def test_what_cannot_be_balanced_is_named(column: str, message: str, plans: DrawPlans) -> None:
    with pytest.raises(ConfigError, match=message):
        plans.balanced(column)


def test_missing_cells_are_filled_in_and_the_others_stand(bundle: Bundle, plans: DrawPlans, table: pa.Table) -> None:
    gaps = table.slice(0, 12)
    for name, every in (("age", 2), ("city", 3), ("day", 4), ("note", 5), ("label", 6)):
        place = gaps.schema.get_field_index(name)
        cells = [None if row % every == 0 else value for row, value in enumerate(gaps.column(name).to_pylist())]
        gaps = gaps.set_column(place, gaps.schema.field(name), pa.array(cells, gaps.schema.field(name).type))
    given = list(bundle.codec.records_of(gaps))
    records = _drawn(bundle, plans.imputed(gaps), list(range(24)))
    assert len(records) >= 20
    for index, record in records.items():
        for name, value in given[index % 12].items():
            assert record[name] == value if value is not None else record[name] is not None


def test_only_the_named_columns_are_filled_in(bundle: Bundle, plans: DrawPlans, table: pa.Table) -> None:
    rows = [row for row, city in enumerate(table.column("city").to_pylist()) if city is None][:3]
    gaps = table.take(rows)
    records = _drawn(bundle, plans.imputed(gaps, ["age"]), list(range(len(rows))))
    assert {record["city"] for record in records.values()} == {None}
    ages = pa.array([None] * len(rows), gaps.schema.field("age").type)
    with pytest.raises(DataError, match="row 0, column 'age': missing, which training never had; fill it in too"):
        plans.imputed(gaps.set_column(0, gaps.schema.field("age"), ages), ["city"])


def test_variations_begin_at_the_records_and_are_addressed(bundle: Bundle, plans: DrawPlans, table: pa.Table) -> None:
    given = table.slice(0, 5)
    none = plans.varied(given, strength=0.0)
    noise = torch.randn(10, none.latents.noise_size, generator=torch.Generator().manual_seed(0))
    latents = none.latents.latents(list(range(10)), noise)
    torch.testing.assert_close(latents[:5], latents[5:])
    some = plans.varied(given, strength=0.7)
    varied = some.latents.latents(list(range(10)), noise)
    assert not torch.allclose(varied, latents)
    torch.testing.assert_close(some.latents.latents([3], noise[3:4]), varied[3:4], atol=1e-4, rtol=1e-4)
    with pytest.raises(ConfigError, match="strength is 2"):
        plans.varied(given, strength=2)


def test_the_way_between_two_records_ignores_the_noise(bundle: Bundle, plans: DrawPlans, table: pa.Table) -> None:
    way = plans.path(table.slice(0, 2), count=4)
    zeros, ones = (torch.full((4, way.latents.noise_size), value) for value in (0.0, 1.0))
    torch.testing.assert_close(way.latents.latents(range(4), zeros), way.latents.latents(range(4), ones))
    with pytest.raises(DataError, match="has 3 rows, give 2"):
        plans.path(table.slice(0, 3), count=4)


def test_other_priors_have_no_flow_to_follow(bundle: Bundle, table: pa.Table) -> None:
    plans = DrawPlans(replace(bundle, prior=GaussianPrior(latent_size=bundle.prior.noise_size)), text_tokens=8)
    with pytest.raises(BundleError, match="need a diffusion prior"):
        plans.varied(table.slice(0, 1), strength=0.5)


def test_a_given_text_that_does_not_fit_is_named(bundle: Bundle, table: pa.Table) -> None:
    message = r"row 0, column 'note': its text has \d+ tokens, sampling\.text_tokens allows 3; raise it"
    with pytest.raises(ConfigError, match=message):
        DrawPlans(bundle, text_tokens=3).imputed(table.slice(0, 2), ["age"])
