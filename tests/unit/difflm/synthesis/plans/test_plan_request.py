"""What is asked for as text becomes a plan, or is refused before a bundle is loaded."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from difflm.errors import BundleError, ConfigError
from difflm.records.schema import read_schema
from difflm.synthesis.bundle import load_bundle
from difflm.synthesis.plans.draw_plans import DrawPlans
from difflm.synthesis.plans.latent_sources import ConditionedLatents, PathLatents, PriorLatents, VariedLatents
from difflm.synthesis.plans.request import Between, GivenRecords, Impute, PlanRequest, Use, Vary
from difflm.testing.bundles import StageFolders


def test_what_is_asked_for_chooses_the_plan(tiny_stages: StageFolders) -> None:
    plans = DrawPlans(load_bundle(tiny_stages.bundle), text_tokens=8)
    assert isinstance(PlanRequest().plan(plans).latents, PriorLatents)
    assert isinstance(PlanRequest(where="age >= 40").plan(plans).latents, ConditionedLatents)
    both = PlanRequest(where="age >= 40", balance="label").plan(plans).records
    assert set(both.restriction) == {"age"}
    assert both.cells is not None


def test_what_the_schema_lacks_is_refused(tiny_stages: StageFolders) -> None:
    schema = read_schema(tiny_stages.bundle)
    PlanRequest(where="age >= 40", balance="label").check(tiny_stages.bundle, schema)
    with pytest.raises(ConfigError, match="agee"):
        PlanRequest(where="agee >= 40").check(tiny_stages.bundle, schema)
    with pytest.raises(ConfigError, match="column 'wage' is decimal; only categories and booleans"):
        PlanRequest(balance="wage").check(tiny_stages.bundle, schema)


def test_a_bundle_without_conditional_prior_is_refused(tiny_stages: StageFolders) -> None:
    schema, other = read_schema(tiny_stages.bundle), tiny_stages.prior
    with pytest.raises(BundleError, match=r"no conditional prior.*conditions\.enabled=true"):
        PlanRequest(where="age >= 40").check(other, schema)
    PlanRequest().check(other, schema)


def _given(use: Use) -> PlanRequest:
    request = PlanRequest(given=GivenRecords(use=use, sha256="0" * 64))
    return PlanRequest.model_validate(json.loads(json.dumps(request.model_dump(mode="json"))))


def test_given_records_choose_the_plan(tiny_stages: StageFolders) -> None:
    bundle = load_bundle(tiny_stages.bundle)
    table = bundle.codec.normalize_table(pq.read_table(tiny_stages.prepared / "train.parquet").slice(0, 2)).table
    plans = DrawPlans(bundle, text_tokens=12)
    assert isinstance(_given(Vary(strength=0.5)).plan(plans, table).latents, VariedLatents)
    assert isinstance(_given(Between(count=3)).plan(plans, table).latents, PathLatents)
    imputed = _given(Impute(columns=("age",))).plan(plans, table)
    assert imputed.records.cells is not None
    assert set(imputed.records.cells(1)) == set(range(table.num_columns))


def test_what_a_bundle_cannot_make_of_given_records_is_refused(tiny_stages: StageFolders, tmp_path: Path) -> None:
    schema, bundle = read_schema(tiny_stages.bundle), tmp_path / "bundle"
    _given(Impute()).check(tiny_stages.bundle, schema)
    with pytest.raises(ConfigError, match="there is no column 'agee'"):
        _given(Impute(columns=("agee",))).check(tiny_stages.bundle, schema)
    shutil.copytree(tiny_stages.bundle, bundle)
    shutil.rmtree(bundle / "conditional")
    with pytest.raises(BundleError, match="no conditional prior"):
        _given(Impute()).check(bundle, schema)
    prior = bundle / "prior" / "prior.json"
    _given(Vary(strength=0.5)).check(bundle, schema)
    prior.write_text(json.dumps({**json.loads(prior.read_text()), "kind": "gmm"}))
    for use in (Vary(strength=0.5), Between(count=3)):
        with pytest.raises(BundleError, match=r"need a diffusion prior.*prior\.kind=diffusion"):
            _given(use).check(bundle, schema)


def test_given_records_and_conditions_exclude_each_other(tiny_stages: StageFolders) -> None:
    given = GivenRecords(use=Vary(strength=0.5), sha256="0" * 64)
    with pytest.raises(ConfigError, match="neither a condition nor a column to balance"):
        PlanRequest(given=given, where="age > 3").check(tiny_stages.bundle, read_schema(tiny_stages.bundle))
