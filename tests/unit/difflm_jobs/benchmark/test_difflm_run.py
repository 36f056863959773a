"""Our own method within the minutes: as many steps as fit, and settings over those of the table."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.csv
import pytest

from difflm.errors import ConfigError
from difflm_jobs.benchmark import difflm_run, own
from difflm_jobs.benchmark.cells import Bench, make_rows
from difflm_jobs.benchmark.difflm_run import configured
from difflm_jobs.benchmark.methods import read_methods
from difflm_jobs.benchmark.own import Job

TINY = [
    "decoder={hidden_size: 32, layers: 1, heads: 2, intermediate_size: 64}",
    "decoder_fit={steps: 60, batch_size: 32, clean_share: 0.1, copied_below: 0.999}",
    "autoencoder={steps: 30, encoder: {hidden_size: 16, layers: 1, heads: 2}}",
    "prior={steps: 50, width: 16, blocks: 1}",
]


def _job(name: str, **settings: Any) -> Job:
    (method,) = read_methods([name], overrides=())
    return Job(
        method=name,
        rows=1,
        seed=3,
        minutes=1.0,
        settings={**method.settings, **settings},
        schema=None,  # type: ignore[arg-type]
        config={"data": {"train": "a.csv"}, "schema": {"task": "regression"}},
        folder=Path(),
        started=0.0,
    )


def test_settings_of_the_method_lie_over_those_of_the_table() -> None:
    found = configured(_job("compact", config={"prior": {"steps": 5}}))
    assert found == {
        "data": {"train": "a.csv"},
        "schema": {"task": "regression"},
        "prior": {"steps": 5},
        "name": "fit",
        "seed": 3,
    }
    assert configured(_job("llm", model="m"))["decoder"] == {"kind": "pretrained", "model": "m"}
    with pytest.raises(ConfigError, match=r"llm steers a pretrained model; name one with --set llm\.model=NAME"):
        configured(_job("llm"))


def made(**facts: Any) -> SimpleNamespace:
    """What a stage made, as far as the method looks at it."""
    return SimpleNamespace(path=Path("bundle"), manifest=SimpleNamespace(facts=facts))


def test_each_training_gets_its_part_of_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, float]]] = []

    def run(settings: dict[str, Any], job: Job, *, last: str) -> tuple[None, SimpleNamespace]:
        sections = ("decoder_fit", "autoencoder", "prior")
        asked.append((last, {name: settings[name]["loop"]["most_seconds"] for name in sections if name in settings}))
        stopped = "time" if last == "train-diffusion" else "complete"
        return None, made(steps=70, stopped=stopped)

    monkeypatch.setattr(difflm_run, "_run", run)
    monkeypatch.setattr(own.time, "monotonic", lambda: 0.0)  # no time passes, so each part is of the whole
    job = _job("compact")
    assert difflm_run.fit(None, job) == (Path("bundle"), None)
    assert job.notes == ["train-diffusion: 70 steps"]
    parts = {"decoder_fit": 0.75 * 42, "autoencoder": 42 * 0.12 / 0.25, "prior": 42.0}  # of 60 s, 18 are for drawing
    assert [(last, sorted(limits)) for last, limits in asked] == [
        ("fit-decoder", ["decoder_fit"]),
        ("train-autoencoder", ["autoencoder", "decoder_fit"]),
        ("train-diffusion", ["autoencoder", "decoder_fit", "prior"]),
        ("assemble", ["autoencoder", "decoder_fit", "prior"]),
    ]
    assert asked[-1][1] == pytest.approx(parts)


def test_the_steps_of_dp_sgd_are_never_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, list[str]]] = []

    def run(settings: dict[str, Any], job: Job, *, last: str) -> tuple[None, SimpleNamespace]:
        asked.append((last, sorted(name for name in settings if "most_seconds" in str(settings[name]))))
        return None, made(steps=1, stopped="complete")

    monkeypatch.setattr(difflm_run, "_run", run)
    monkeypatch.setattr(own.time, "monotonic", lambda: 0.0)
    difflm_run.fit(None, _job("compact", config={"privacy": {"epsilon": 3.0}}))  # type: ignore[arg-type]
    assert asked == [
        ("start-decoder", ["decoder_fit"]),
        ("fit-decoder", ["decoder_fit"]),
        ("train-autoencoder", ["autoencoder", "decoder_fit"]),
        ("train-diffusion", ["autoencoder", "decoder_fit", "prior"]),
        ("assemble", ["autoencoder", "decoder_fit", "prior"]),
    ]


def test_a_run_makes_rows(bench: Bench) -> None:
    (method,) = read_methods(["compact"], overrides=[f"compact.config.{setting}" for setting in TINY])
    cell = make_rows(bench, method, seed=0)
    assert cell.reason is None
    assert cell.rows is not None
    assert pyarrow.csv.read_csv(cell.rows).num_rows == 60
    assert cell.facts["notes"] == []


def test_a_frozen_language_model_gets_most_of_the_time_and_its_draft_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def run(settings: dict[str, Any], job: Job, *, last: str) -> tuple[None, SimpleNamespace]:
        asked.append(settings)
        return None, made(steps=1, stopped="complete")

    monkeypatch.setattr(difflm_run, "_run", run)
    monkeypatch.setattr(own.time, "monotonic", lambda: 0.0)
    section = {
        "encoder": {"kind": "bag"},
        "injector": {"kind": "prefix", "words": 2},
        "kl": {"kind": "capacity", "nats": 8},
        "draft": {"steps": 10},
    }
    difflm_run.fit(None, _job("llm", model="m", config={"autoencoder": section}))
    assert [sorted(set(settings) & {"decoder_fit", "autoencoder", "prior"}) for settings in asked] == [
        ["autoencoder"],
        ["autoencoder", "prior"],
        ["autoencoder", "prior"],
    ]
    trained = asked[0]["autoencoder"]
    assert trained["loop"]["most_seconds"] == pytest.approx(42 * 0.8 * 0.75)
    assert trained["draft"]["loop"]["most_seconds"] == pytest.approx(42 * 0.8 * 0.25)
    assert trained["injector"]["words"] == 2
