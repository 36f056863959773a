"""Our own method within the minutes: as many steps as fit, and settings over those of the table."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.csv
import pytest

from difflm.errors import ConfigError
from difflm_jobs.benchmark import difflm_run
from difflm_jobs.benchmark.cells import Bench, make_rows
from difflm_jobs.benchmark.difflm_run import Watch, configured
from difflm_jobs.benchmark.methods import read_methods
from difflm_jobs.benchmark.own import Job

TINY = [
    "decoder={hidden_size: 32, layers: 1, heads: 2, intermediate_size: 64}",
    "decoder_fit={steps: 60, batch_size: 32, clean_share: 0.1, copied_below: 0.999}",
    "autoencoder={steps: 30, encoder: {hidden_size: 16, layers: 1, heads: 2}}",
    "prior={steps: 50, width: 16, blocks: 1}",
]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A function that sets the seconds of the clock, which stands still otherwise."""
    now = [0.0]
    monkeypatch.setattr(difflm_run.time, "monotonic", lambda: now[0])

    def at(seconds: float) -> None:
        now[0] = seconds

    return at


def test_a_training_that_would_take_too_long_is_stopped_and_told_how_many_steps_fit(
    clock: Callable[[float], None],
) -> None:
    watch = Watch()
    watch.begin(60.0)
    with pytest.raises(KeyboardInterrupt), watch.stage("fit-decoder") as report:
        clock(5.0)
        report(10, 600, "")
        clock(6.0)
        report(20, 600, "")
        assert watch.fitting is None  # too early to tell
        clock(10.0)
        report(60, 600, "")  # 0.1 s a step: 64 s in all
        time.sleep(1)  # the interrupt comes before this ends
    assert watch.fitting == 450  # 50 s are left, of which 5 go before the first step again


def test_a_training_that_fits_is_left_alone(clock: Callable[[float], None]) -> None:
    watch = Watch()
    watch.begin(80.0)
    for stage in ("fit-decoder", "encode"):
        with watch.stage(stage) as report:
            for seconds, step in ((5.0, 10), (10.0, 60), (59.0, 550)):
                clock(seconds)
                report(step, 600, "")
    watch.begin(None)
    with watch.stage("fit-decoder") as report:
        report(1, 10**9, "")
    assert watch.fitting is None


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


def test_a_training_that_was_stopped_begins_again_with_the_steps_that_fit(
    clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Any]] = []

    def run(settings: dict[str, Any], job: Job, watch: Watch, *, last: str) -> tuple[None, Path]:
        asked.append((last, settings.get("prior")))
        if last == "train-diffusion" and watch.allowed_s is not None:
            assert watch.allowed_s == pytest.approx(45)  # all that is left but for the share of drawing
            watch.fitting = 70
            raise KeyboardInterrupt
        return None, Path("bundle")

    monkeypatch.setattr(difflm_run, "_run", run)
    job = _job("compact")
    assert difflm_run.fit(None, job) == (Path("bundle"), None)
    assert job.notes == ["train-diffusion: 70 steps"]
    assert asked == [
        ("fit-decoder", None),
        ("train-autoencoder", None),
        ("train-diffusion", None),
        ("train-diffusion", {"steps": 70}),
        ("assemble", {"steps": 70}),
    ]


def test_the_steps_of_dp_sgd_are_never_fewer(clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    def run(settings: dict[str, Any], job: Job, watch: Watch, *, last: str) -> tuple[None, Path]:
        asked.append((last, watch.allowed_s is not None))
        return None, Path("bundle")

    monkeypatch.setattr(difflm_run, "_run", run)
    difflm_run.fit(None, _job("compact", config={"privacy": {"epsilon": 3.0}}))  # type: ignore[arg-type]
    assert asked == [
        ("start-decoder", True),
        ("fit-decoder", False),
        ("train-autoencoder", True),
        ("train-diffusion", True),
        ("assemble", True),
    ]


def test_a_run_makes_rows(bench: Bench) -> None:
    (method,) = read_methods(["compact"], overrides=[f"compact.config.{setting}" for setting in TINY])
    cell = make_rows(bench, method, seed=0)
    assert cell.reason is None
    assert cell.rows is not None
    assert pyarrow.csv.read_csv(cell.rows).num_rows == 60
    assert cell.facts["notes"] == []
