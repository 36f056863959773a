"""Plans for a decoder that writes in any order: no conditional prior, the same records, and what is asked for first."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from difflm.errors import BundleError, ConfigError, DataError, ModelError
from difflm.records.schema import Record, read_schema
from difflm.synthesis.bundle import Bundle, load_bundle, writes_in_any_order
from difflm.synthesis.plans.conditions import parse_condition
from difflm.synthesis.plans.draw_plans import DrawPlan, DrawPlans
from difflm.synthesis.plans.latent_sources import PriorLatents, VariedLatents
from difflm.synthesis.plans.request import Between, GivenRecords, Impute, PlanRequest, Vary
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.testing.bundles import TINY_POOLED_SHAPE, StageFolders, untrained_stages

SAMPLING = SamplingConfig(steps=3, precision="float32", batch_size=8, text_tokens=10, attempts=1)
WHERE = 'age >= 30 and age < 60 and city in ["Lyon", "Oslo"] and day >= "2020-03-15" and day < "2020-05-02" and member'


@pytest.fixture(scope="module")
def bundle(any_order_stages: StageFolders) -> Bundle:
    return load_bundle(any_order_stages.bundle, solver=SAMPLING.solver_settings())


@pytest.fixture(scope="module")
def plans(bundle: Bundle) -> DrawPlans:
    return DrawPlans(bundle, text_tokens=SAMPLING.text_tokens)


@pytest.fixture(scope="module")
def table(bundle: Bundle, any_order_stages: StageFolders) -> pa.Table:
    return bundle.codec.normalize_table(pq.read_table(any_order_stages.prepared / "train.parquet")).table


def _drawn(bundle: Bundle, plan: DrawPlan, indices: list[int], *, batch_size: int = 8) -> dict[int, Record]:
    config = SAMPLING.model_copy(update={"batch_size": batch_size})
    draws = Synthesizer(bundle, config, plan=plan).draw(indices, seed=4, attempt=0)
    assert {draw.reason for draw in draws if draw.record is None} <= {"length"}
    return {draw.index: draw.record for draw in draws if draw.record is not None}


def test_a_condition_holds_and_is_written_first(bundle: Bundle, plans: DrawPlans) -> None:
    condition = parse_condition(WHERE, bundle.schema)
    plan = plans.where(condition)
    assert plan.latents is None
    assert plan.records.first is not None
    left = {"day": 47, "city": 2 / 4, "member": 1 / 2, "age": 30}
    names = [bundle.schema.names[place] for place in plan.records.first]
    assert set(names) == set(left)
    assert names[0] == "day"  # of its many days least is left
    assert names.index("age") < names.index("city")
    records = _drawn(bundle, plan, list(range(40)))
    assert len(records) > 30
    assert condition.rows(bundle.codec.table_of(records.values()), bundle.schema).all()
    assert all(tuple(record) == bundle.schema.names for record in records.values())
    assert len({str(record) for record in records.values()}) > 20
    assert _drawn(bundle, plan, [7, 31], batch_size=1) == {i: records[i] for i in (7, 31) if i in records}


def test_a_condition_that_always_holds_is_a_plain_draw(bundle: Bundle, plans: DrawPlans) -> None:
    plan = plans.where(parse_condition("age > 0", bundle.schema))
    assert isinstance(plan.latents, PriorLatents)
    assert plan.records.first is None
    assert _drawn(bundle, plan, list(range(6))) == _drawn(bundle, plans.plain(), list(range(6)))


def test_classes_are_equal_and_within_a_condition(bundle: Bundle, plans: DrawPlans) -> None:
    records = _drawn(bundle, plans.balanced("city"), list(range(40)))
    assert len(Counter(record["city"] for record in records.values())) == 4
    assert all(
        record["city"] == records[index % 4]["city"] for index, record in records.items() if index % 4 in records
    )
    condition = parse_condition('city != "Oslo" and age > 40', bundle.schema)
    plan = plans.balanced("city", condition)
    assert set(plan.records.restriction) == {"age"}
    within = _drawn(bundle, plan, list(range(30)))
    assert set(Counter(record["city"] for record in within.values())) == {"Lyon", "Łódź", "São Paulo"}
    assert all(int(str(record["age"])) > 40 for record in within.values())
    with pytest.raises(ConfigError, match="no column 'town'"):
        plans.balanced("town")


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
    whole = _drawn(bundle, plans.imputed(table.slice(0, 3), ["age"]), [0, 1, 2])
    assert [record["age"] for record in whole.values()] == table.column("age").to_pylist()[:3]
    ages = pa.array([None] * len(rows), gaps.schema.field("age").type)
    with pytest.raises(DataError, match="row 0, column 'age': missing, which training never had; fill it in too"):
        plans.imputed(gaps.set_column(0, gaps.schema.field("age"), ages), ["city"])


def test_the_empty_prompt_is_the_same_for_all(bundle: Bundle, any_order_stages: StageFolders) -> None:
    prompt = bundle.autoencoder.empty_prompt(3).embeds_BKD
    assert prompt is not None
    torch.testing.assert_close(prompt, prompt[:1].expand_as(prompt))
    injected = bundle.autoencoder.inject(torch.zeros(1, bundle.prior.noise_size)).embeds_BKD
    assert not torch.allclose(prompt[:1], injected)


def test_a_whole_latent_has_no_empty_prompt(tiny_stages: StageFolders) -> None:
    with pytest.raises(ModelError, match=r"no empty prompt.*autoencoder\.injector\.empty=true"):
        load_bundle(tiny_stages.bundle).autoencoder.empty_prompt(1)


def test_variations_and_ways_are_still_of_latents(bundle: Bundle, plans: DrawPlans, table: pa.Table) -> None:
    assert isinstance(plans.varied(table.slice(0, 3), strength=0.3).latents, VariedLatents)
    assert len(_drawn(bundle, plans.path(table.slice(0, 2), count=4), list(range(4)))) > 2


def test_what_is_asked_for_is_not_refused(any_order_stages: StageFolders, tmp_path: Path) -> None:
    folder, schema = any_order_stages.bundle, read_schema(any_order_stages.bundle)
    assert not (folder / "conditional").exists()
    for request in (
        PlanRequest(where="age >= 40"),
        PlanRequest(balance="label"),
        PlanRequest(given=GivenRecords(use=Impute(), sha256="0" * 64)),
        PlanRequest(given=GivenRecords(use=Vary(strength=0.5), sha256="0" * 64)),
        PlanRequest(given=GivenRecords(use=Between(count=3), sha256="0" * 64)),
    ):
        request.check(folder, schema)


@pytest.mark.parametrize(
    ("facts", "able"), [({"any_order": True}, True), ({"any_order": False}, False), ({}, False), ([], False)]
)
def test_a_bundle_says_whether_it_writes_in_any_order(facts: object, able: bool, tmp_path: Path) -> None:
    (tmp_path / "decoder").mkdir()
    assert not writes_in_any_order(tmp_path)
    (tmp_path / "decoder" / "decoder.json").write_text(json.dumps(facts))
    assert writes_in_any_order(tmp_path) == able
    (tmp_path / "decoder" / "decoder.json").write_text("{")
    assert not writes_in_any_order(tmp_path)


def test_a_bundle_of_the_tables_order_still_needs_a_conditional_prior(
    any_order_stages: StageFolders, tiny_stages: StageFolders, tmp_path: Path
) -> None:
    assert writes_in_any_order(any_order_stages.bundle)
    assert not writes_in_any_order(tiny_stages.bundle)
    bundle = Path(shutil.copytree(tiny_stages.bundle, tmp_path / "bundle"))
    shutil.rmtree(bundle / "conditional")
    with pytest.raises(BundleError, match="no conditional prior"):
        PlanRequest(where="age >= 40").check(bundle, read_schema(bundle))


def test_a_table_of_one_column_needs_no_other_order_and_no_conditional_prior(tmp_path: Path) -> None:
    cities = ["Rome", "Oslo", "Lima", "Bonn"]
    folder = untrained_stages(tmp_path, pa.table({"city": cities * 60}), shape=TINY_POOLED_SHAPE).bundle
    bundle = load_bundle(folder, solver=SAMPLING.solver_settings())
    assert not bundle.parts.any_order
    plans = DrawPlans(bundle, text_tokens=SAMPLING.text_tokens)
    where = PlanRequest(where='city in ["Rome", "Oslo"]')
    where.check(folder, bundle.schema)
    assert {record["city"] for record in _drawn(bundle, where.plan(plans), [*range(30)]).values()} == {"Rome", "Oslo"}
    equal = _drawn(bundle, plans.balanced("city"), [*range(12)])
    assert Counter(record["city"] for record in equal.values()) == dict.fromkeys(cities, 3)
    filled = _drawn(bundle, plans.imputed(pa.table({"city": ["Rome", None]})), [*range(8)])
    assert {record["city"] for index, record in filled.items() if index % 2 == 0} == {"Rome"}
    assert len({record["city"] for index, record in filled.items() if index % 2}) > 1
