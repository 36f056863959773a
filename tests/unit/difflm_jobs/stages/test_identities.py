"""What a stage may read is hashed: it holds sections of a configuration, and every key of them is in its identity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from difflm.artifacts import ArtifactStore
from difflm.testing.bundles import write_prepared
from difflm.testing.tables import mixed_table
from difflm_jobs.config import ExperimentConfig, MapConfig, RuntimeConfig
from difflm_jobs.loading import load_experiment
from difflm_jobs.pipeline.stage import Stage, StageContext, section
from difflm_jobs.stages import autoencoder, synthesize
from difflm_jobs.stages.autoencoder import Encode
from difflm_jobs.stages.stages import build_stages
from difflm_jobs.stages.synthesize import Synthesize
from difflm_jobs.studies.downstream import downstream_stages
from difflm_jobs.studies.downstream_config import DownstreamConfig

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
"""Keys are changed to values of any type: no run is made of them."""

EXPERIMENTS = {
    "compact": load_experiment("demo", overrides=["conditions.enabled=true", "data.test=test.csv"]),
    "private": load_experiment("demo", overrides=["privacy.epsilon=3.0", "data.test=test.csv"]),
    "pretrained": load_experiment("paper/beijing"),
    "tools": load_experiment("tools", overrides=["data.train=tools.json"]),
    "code": load_experiment("paper/code", overrides=["data.train=code.jsonl"]),
}
COMPARISON = DownstreamConfig.model_validate(
    {
        "name": "x",
        **{key: f"{key}.jsonl" for key in ("real", "synthetic", "held_out")},
        "scratch": {"texts": "scratch.jsonl"},
        "pass_at_k": {"problems": "problems.jsonl"},
    }
)
BY_CONTENT = {"data.train", "data.test"}
"""Sources whose content is hashed, and not where it lies."""
LIMITS = {"data.read.max_unpacked_mib"}
"""What ends a run or changes nothing."""
BORDERS = {"runtime.encoding.rows_per_shard": "encode", "runtime.synthesis.rows_per_shard": "synthesize"}
"""What of `runtime` an artifact depends on: where its parts begin."""
NEVER_HELD = (ExperimentConfig, DownstreamConfig, RuntimeConfig, MapConfig)


def _leaves(config: BaseModel, above: str = "") -> Iterator[str]:
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield above + name


def _changed(config: Any, key: str) -> Any:
    """The configuration with another value under one key, whether that could be used or not."""
    name, _, rest = key.partition(".")
    value = getattr(config, name)
    return config.model_copy(update={name: _changed(value, rest) if rest else _other(value)})


def _other(value: object) -> object:
    if value in ("table", "tools", "code"):
        return "code" if value != "code" else "tools"
    if value == "soft_prompt":
        return value  # no stage is built of an injector of another kind's settings
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return 2 * value or 1  # so that heads still divide widths
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, Mapping):
        return {**value, "another": "x"}
    return (*value, "another") if isinstance(value, Sequence) else "another"


def _hashed(stages: Sequence[Stage]) -> dict[str, dict[str, Any]]:
    return {stage.name: section(stage) for stage in stages}


def _held(stages: Sequence[Stage]) -> dict[str, dict[str, Any]]:
    """What each stage holds, and so may read."""
    return {stage.name: {each.name: getattr(stage, each.name) for each in fields(stage)} for stage in stages}


def _unhashed(config: BaseModel, build: Callable[[Any], Sequence[Stage]]) -> dict[str, set[str]]:
    """Keys of a configuration that a stage holds and does not hash, by the name of the stage."""
    held, hashed = _held(build(config)), _hashed(build(config))
    found: dict[str, set[str]] = {}
    for key in _leaves(config):
        stages = build(_changed(config, key))
        for name, values in _held(stages).items():
            if name in held and values != held[name] and _hashed(stages)[name] == hashed[name]:
                found.setdefault(name, set()).add(key)
    return found


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_key_that_a_stage_holds_is_in_its_identity(name: str) -> None:
    found = _unhashed(EXPERIMENTS[name], build_stages)
    (reading,) = found
    assert reading == ("rows" if name == "private" else "prepare")
    assert all(any(key.startswith(source) for source in BY_CONTENT | LIMITS) for key in found[reading])


def test_every_key_that_a_stage_of_the_downstream_comparison_holds_is_in_its_identity() -> None:
    sources = ("real", "synthetic", "held_out", "scratch.texts")
    found = _unhashed(COMPARISON, downstream_stages)
    assert set(found) == {"texts", "base-model"}
    assert all(key.startswith(sources) for keys in found.values() for key in keys)


def test_a_key_that_is_held_and_not_hashed_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = section
    monkeypatch.setitem(
        globals(), "section", lambda stage: {key: value for key, value in hashed(stage).items() if key != "sampling"}
    )
    assert "sampling.temperature" in _unhashed(EXPERIMENTS["compact"], build_stages)["synthesize"]


@pytest.mark.parametrize("name", [*EXPERIMENTS, "downstream"])
def test_stages_hold_sections_and_never_a_whole_configuration(name: str) -> None:
    stages = downstream_stages(COMPARISON) if name == "downstream" else build_stages(EXPERIMENTS[name])
    held = [value for values in _held(stages).values() for value in values.values()]
    assert not [type(value).__name__ for value in held if isinstance(value, NEVER_HELD)]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_all_that_a_report_shows_makes_another_report_and_where_it_ran_makes_none(name: str) -> None:
    config = EXPERIMENTS[name]
    before = _hashed(build_stages(config))
    for key in _leaves(config):
        after = _hashed(build_stages(_changed(config, key)))
        changed = {stage for stage in before if after.get(stage) != before[stage]}
        if key == "autoencoder.injector.kind":
            continue
        if key.startswith("runtime."):
            assert changed == ({BORDERS[key]} if key in BORDERS else set()), key
        else:
            assert "evaluate" in changed, key


def test_another_gate_or_published_figure_makes_another_report() -> None:
    row = {"method": "m", "score": "shape_error", "value": 1.0, "source": "s"}
    settings = ([], ["gates=['shape < 3']"], [f"published=[{row}]"], [f"published=[{ {**row, 'value': 2.0} }]"])
    reports = [_hashed(build_stages(load_experiment("demo", overrides=given)))["evaluate"] for given in settings]
    assert all(one != other for place, one in enumerate(reports) for other in reports[:place])


def test_the_notices_of_a_pretrained_decoder_depend_on_the_encoder() -> None:
    """Only an encoder of cells reads the first tokens of a value alone, and only then the decoder's stage says so."""
    pretrained = EXPERIMENTS["pretrained"]
    compact = load_experiment("paper/beijing", overrides=["autoencoder.encoder={kind: compact}"])
    one, other = (_hashed(build_stages(config))["fit-decoder"] for config in (pretrained, compact))
    assert one != other


class _EnoughError(Exception):
    """What was looked for has been seen."""


@pytest.mark.parametrize("stage", ["encode", "synthesize"])
def test_borders_of_parts_are_those_that_are_hashed(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[MapConfig] = []

    def run_shards(*_: object, config: MapConfig, **__: object) -> None:
        seen.append(config)
        raise _EnoughError

    monkeypatch.setattr(autoencoder, "run_shards", run_shards)
    monkeypatch.setattr(synthesize, "run_shards", run_shards)
    store, rows = ArtifactStore(tmp_path), mixed_table(20)
    made = {}
    for name in ("prepare", "fit-decoder", "train-autoencoder", "assemble"):
        with store.create(name, name, version=1, config={}, inputs={}) as draft:
            write_prepared(draft.path, rows.slice(0, 16), rows.slice(16))
        made[name] = store.find(name, name)
    config = EXPERIMENTS["compact"]
    runs = (
        Encode(rows_per_shard=7)
        if stage == "encode"
        else Synthesize(sampling=config.sampling, rows=9, rows_per_shard=7, seed=1)
    )
    runtime = RuntimeConfig(encoding=MapConfig(timeout_s=5.0), synthesis=MapConfig(timeout_s=5.0))
    context = StageContext(
        inputs={name: artifact for name, artifact in made.items() if artifact is not None},
        output=tmp_path,
        work=tmp_path,
        report=lambda done, total, text: None,
        runtime=runtime,
        start_cluster=lambda: None,
    )
    with pytest.raises(_EnoughError):
        runs.run(context)
    assert [(config.rows_per_shard, config.timeout_s) for config in seen] == [(7, 5.0)]
