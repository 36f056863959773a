"""One contract for every decoding engine: valid records of what was asked for, addressed draws, counted rejections."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from difflm.config import apply_overrides, validate
from difflm.errors import ConfigError
from difflm.records.codec import Accepted
from difflm.records.schema import CategoricalField
from difflm.synthesis.bundle import Bundle, load_bundle
from difflm.synthesis.decoding.engines import BuiltinEngineConfig, EngineConfig
from difflm.synthesis.decoding.vllm import VllmEngineConfig
from difflm.synthesis.draws import Draw, DrawAccount
from difflm.synthesis.grammar.constraint import RecordSet
from difflm.synthesis.plans.conditions import parse_condition
from difflm.synthesis.plans.draw_plans import DrawPlan, DrawPlans
from difflm.synthesis.synthesizer import SamplingConfig, Synthesizer
from difflm.testing.bundles import TINY_DECODER, TINY_POOLED_SHAPE, untrained_stages
from difflm.testing.tables import mixed_table

ENGINES: dict[str, EngineConfig] = {
    "automaton": BuiltinEngineConfig(),
    "any_order": BuiltinEngineConfig(),
    "llguidance": BuiltinEngineConfig(constraint="llguidance"),
    "vllm": VllmEngineConfig(requests=5),
}
TEXT_TOKENS = 10
ONE_DAY = 'moment >= "2021-06-01 00:00+0000" and moment < "2021-06-02 00:00+0000"'


def _zoned_table(rows: int) -> pa.Table:
    """Moments of four years, each with a zone, beside columns of other kinds."""
    random = np.random.default_rng(0)
    minutes = np.datetime64("2019-01-01T00:00") + random.integers(0, 4 * 365 * 24 * 60, rows)
    zones = np.array(["+0000", "-0530", "+0100", "+1200"])[random.integers(0, 4, rows)]
    moments = [str(minute).replace("T", " ") + str(zone) for minute, zone in zip(minutes, zones, strict=True)]
    return mixed_table(rows).select(["age", "city", "note", "label"]).add_column(1, "moment", pa.array(moments))


@pytest.fixture(scope="module")
def spelled(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    decoder = TINY_DECODER.model_copy(update={"number_pairs": False})
    return load_bundle(untrained_stages(tmp_path_factory.mktemp("zoned"), _zoned_table(60), decoder=decoder).bundle)


@pytest.fixture(scope="module")
def any_order(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("any_order")
    return load_bundle(untrained_stages(folder, _zoned_table(60), shape=TINY_POOLED_SHAPE).bundle)


@pytest.fixture
def bundle(request: pytest.FixtureRequest, spelled: Bundle) -> Bundle:
    """The one that the engine of the test draws from."""
    name = request.node.callspec.params.get("engine")
    return request.getfixturevalue("any_order") if name == "any_order" else spelled


@pytest.fixture
def plans(bundle: Bundle) -> DrawPlans:
    return DrawPlans(bundle, text_tokens=TEXT_TOKENS)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> EngineConfig:
    if request.param == "vllm":
        request.getfixturevalue("vllm_installed")
    return ENGINES[request.param]


def _synthesizer(
    bundle: Bundle, engine: EngineConfig, plan: DrawPlan | None = None, *, batch_size: int = 4, attempts: int = 3
) -> Synthesizer:
    config = SamplingConfig(
        steps=2,
        precision="float32",
        batch_size=batch_size,
        text_tokens=TEXT_TOKENS,
        attempts=attempts,
        engine=engine,
    )
    return Synthesizer(bundle, config, plan=plan)


def test_what_is_drawn_is_valid_and_within_its_condition_and_the_rest_is_counted(
    bundle: Bundle, plans: DrawPlans, engine: EngineConfig
) -> None:
    """No grammar sees more of a zone than a day, so this condition needs the last look at every record."""
    condition = parse_condition(f"{ONE_DAY} and age < 60", bundle.schema)
    synthesizer, indices = _synthesizer(bundle, engine, plans.where(condition)), range(100, 114)
    account, attempts = DrawAccount(), dict[int, list[Draw]]()
    for draw in synthesizer.stream(indices, seed=1):
        account.add(draw, attempts=3)
        attempts.setdefault(draw.index, []).append(draw)
    assert sorted(attempts) == list(indices)
    for draws in attempts.values():
        assert [draw.attempt for draw in draws] == list(range(len(draws)))
        assert all(draw.record is None and draw.reason is not None for draw in draws[:-1])
        assert draws[-1].record is not None or len(draws) == 3
    records = [record for draws in attempts.values() if (record := draws[-1].record) is not None]
    assert account.attempts == len(records) + account.rejections.total()
    assert len(indices) == len(records) + len(account.given_up)
    assert account.rejections["condition"] > 0
    assert set(account.rejections) <= {"condition", "length", "unfinished"}
    assert len(records) > 3
    assert all(isinstance(bundle.codec.decode(bundle.codec.encode(record)), Accepted) for record in records)
    assert condition.rows(bundle.codec.table_of(records), bundle.schema).all()


def test_a_draw_depends_on_its_address_only(bundle: Bundle, engine: EngineConfig) -> None:
    together = _synthesizer(bundle, engine).draw(range(9), seed=2, attempt=0)
    assert [draw.index for draw in together] == list(range(9))
    fewer = engine.model_copy(update={"requests": 2}) if isinstance(engine, VllmEngineConfig) else engine
    some = _synthesizer(bundle, fewer, batch_size=2).draw([7, 0, 3], seed=2, attempt=0)
    assert some == [together[index] for index in (7, 0, 3)]
    assert len({str(draw.record) for draw in together if draw.record is not None}) > 3
    assert _synthesizer(bundle, engine).draw(range(9), seed=2, attempt=1) != together


def test_classes_are_equal_within_a_condition(bundle: Bundle, plans: DrawPlans, engine: EngineConfig) -> None:
    condition = parse_condition('city != "Oslo" and age > 40', bundle.schema)
    drawn, account = _synthesizer(bundle, engine, plans.balanced("city", condition)).draw_valid(range(12), seed=0)
    assert len(drawn) == 12 - len(account.given_up) >= 8
    field = bundle.schema.field("city")
    assert isinstance(field, CategoricalField)
    classes = [city for city in field.values if city != "Oslo"]
    assert all(record["city"] == classes[index % 3] and int(str(record["age"])) > 40 for index, record in drawn)


def test_given_cells_stand_however_they_are_spelled(bundle: Bundle, plans: DrawPlans, engine: EngineConfig) -> None:
    """No grammar has zones of seven minutes; what is given is written all the same."""
    given = bundle.codec.normalize_table(_zoned_table(3)).table
    odd = pa.array(["2020-03-05 7:8+0107", "2020-3-05 07:08Z", None], pa.string())
    ages = pa.array([None, 44, 45], given.schema.field("age").type)
    table = given.set_column(1, "moment", odd).set_column(0, "age", ages)
    drawn, account = _synthesizer(bundle, engine, plans.imputed(table)).draw_valid(range(9), seed=0)
    assert len(drawn) == 9 - len(account.given_up) >= 6
    for index, record in drawn:
        for name, value in table.slice(index % 3, 1).to_pylist()[0].items():
            wanted = {"yes": True, "no": False}.get(value, value) if name == "label" else value
            assert record[name] == wanted if value is not None else record[name] is not None


def test_a_prompt_that_is_not_finite_costs_its_own_record_only(
    bundle: Bundle, plans: DrawPlans, engine: EngineConfig
) -> None:
    class SickLatents:
        noise_size = bundle.prior.noise_size

        def latents(self, indices: Sequence[int], noise_NM: Tensor) -> Tensor:
            latents_NZ = bundle.prior.sample(noise_NM)
            latents_NZ[[index == 2 for index in indices]] = torch.nan
            return latents_NZ

    whole = _synthesizer(bundle, engine).draw(range(5), seed=2, attempt=0)
    found = _synthesizer(bundle, engine, replace(plans.plain(), latents=SickLatents())).draw(
        range(5), seed=2, attempt=0
    )
    assert found[2].reason == "not_finite"
    assert [draw for draw in found if draw.index != 2] == [draw for draw in whole if draw.index != 2]


def _settings(*overrides: str) -> SamplingConfig:
    return validate(SamplingConfig, apply_overrides({}, overrides), "--set", overrides)


def test_the_engine_is_chosen_by_its_kind() -> None:
    assert _settings().engine == BuiltinEngineConfig()
    assert _settings("engine.constraint=llguidance").engine == BuiltinEngineConfig(constraint="llguidance")
    assert _settings("engine.kind=vllm", "engine.requests=7").engine == VllmEngineConfig(requests=7)
    written = [
        _settings(*given).model_dump_json() for given in ([], ["engine.constraint=llguidance"], ["engine.kind=vllm"])
    ]
    assert all(one != other for one, other in pairwise(written))
    with pytest.raises(ConfigError, match=r"engine\.kind: expected one of 'builtin', 'vllm'; found 'fast'"):
        _settings("engine.kind=fast")
    with pytest.raises(ConfigError, match=r"engine\.constraint: expected 'automaton' or 'llguidance'"):
        _settings("engine.constraint=regex")


@pytest.mark.parametrize("temperature", [0.001, 2.5])
def test_temperatures_that_vllm_changes_or_refuses_are_named(temperature: float) -> None:
    assert _settings(f"temperature={temperature}").temperature == temperature
    with pytest.raises(ConfigError, match=r"engine vllm takes 0\.01 to 2\.0"):
        _settings(f"temperature={temperature}", "engine.kind=vllm")


@pytest.mark.usefixtures("vllm_installed")
@pytest.mark.parametrize("engine", [ENGINES["llguidance"], ENGINES["vllm"]], ids=["llguidance", "vllm"])
def test_what_only_the_automaton_knows_is_refused_by_the_others(
    any_order: Bundle, spelled: Bundle, engine: EngineConfig
) -> None:
    with pytest.raises(ConfigError, match=r"in pairs of digits.*constraint=automaton.*decoder\.number_pairs=false"):
        _synthesizer(any_order, engine)
    first = replace(DrawPlans(spelled, text_tokens=TEXT_TOKENS).plain(), records=RecordSet(first=(1,)))
    with pytest.raises(ConfigError, match=r"are written first, which llguidance and vLLM cannot do.*automaton"):
        _synthesizer(spelled, engine, first)


@pytest.mark.usefixtures("vllm_installed")
@pytest.mark.parametrize("engine", [ENGINES["llguidance"], ENGINES["vllm"]], ids=["llguidance", "vllm"])
def test_names_that_are_read_with_values_are_refused_by_the_others_without_numbers_too(
    engine: EngineConfig, tmp_path: Path
) -> None:
    table = mixed_table(60).select(["city", "label"])
    bundle = load_bundle(untrained_stages(tmp_path, table, shape=TINY_POOLED_SHAPE).bundle)
    assert bundle.parts.joined_V is not None
    with pytest.raises(ConfigError, match=r"reads a field's name together.*constraint=automaton.*number_pairs=false"):
        _synthesizer(bundle, engine)
