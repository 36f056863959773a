"""Choosing for a budget, at a made-up speed: what fits is taken, the least is told, and a command chooses once."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest
from rich.console import Console

from difflm.errors import ConfigError
from difflm_jobs.cli.plan import print_plan
from difflm_jobs.cli.summary import choice_line, expected_line
from difflm_jobs.config import ExperimentConfig
from difflm_jobs.loading import read_settings
from difflm_jobs.pipeline.runlog import StageRecord
from difflm_jobs.planning.choice import FILE, Choice, Chooser, Wish
from difflm_jobs.planning.speed import Speed, StepSpeed, TableSample
from difflm_jobs.planning.times import STARTING, predict, whole

ROWS = 400


class Machine:
    """A machine on which a step takes a time by the size of the decoder; counts how often it was asked."""

    def __init__(self, seconds: float = 0.2) -> None:
        self.seconds, self.asked = seconds, 0

    def __call__(self, config: ExperimentConfig, sample: TableSample) -> Speed:
        self.asked += 1
        decoder: Any = config.decoder
        seconds = self.seconds * decoder.layers * decoder.hidden_size / (4 * 128)
        each = StepSpeed(seconds=seconds, rows=128.0)
        return Speed(decoder=each, autoencoder=each, prior=StepSpeed(seconds=0.02, rows=512.0))


@pytest.fixture
def people(tmp_path: Path) -> str:
    ages = list(range(ROWS))
    pa.csv.write_csv(pa.table({"age": ages, "city": [f"c{age % 3}" for age in ages]}), tmp_path / "people.csv")
    return str(tmp_path / "people.csv")


def chooser(given: str, *overrides: str, machine: Machine | None = None, in_process: bool = False) -> Chooser:
    settings = read_settings(given, overrides=overrides)
    runs = Path(given).parent / "runs"
    return Chooser(settings=settings, runs=runs, speedometer=machine or Machine(), in_process=in_process)


def chosen(given: str, *overrides: str, quality: str | None = None, budget: str | None = None) -> Choice:
    return chooser(given, *overrides).choose(Wish(quality=quality, budget=budget), keep=False)


def test_without_a_wish_nothing_is_chosen_or_measured(people: str) -> None:
    machine = Machine()
    choice = chooser(people, machine=machine).choose(Wish(), keep=True)
    assert choice == Choice(experiment=read_settings(people).experiment())
    assert machine.asked == 0
    assert not (Path(people).parent / "runs").exists()


@pytest.mark.parametrize("budget", ["4m", "8m", "20m"])
def test_what_is_chosen_fits_into_the_budget_and_uses_it(people: str, budget: str) -> None:
    choice = chosen(people, budget=budget)
    limit = Wish(budget=budget).budget_s
    assert limit is not None
    assert 0.85 * limit < whole(choice.times) <= limit or choice == chosen(people, quality="best")
    assert choice.experiment.decoder_fit.steps == choice.chosen["decoder_fit.steps"]


def test_more_time_gives_more_steps_up_to_the_best(people: str) -> None:
    steps = [chosen(people, budget=budget).experiment.decoder_fit.steps for budget in ("2m", "3m", "10m", "9h")]
    assert steps == sorted(steps)
    assert steps[0] < steps[-1]
    assert chosen(people, budget="9h").chosen == chosen(people, quality="best").chosen


def test_a_quality_bounds_what_a_budget_gives(people: str) -> None:
    assert chosen(people, quality="fast", budget="9h").chosen == chosen(people, quality="fast").chosen


def test_the_decoder_becomes_smaller_only_where_it_must(people: str) -> None:
    assert "decoder.layers" not in chosen(people, budget="4m").chosen
    assert chosen(people, budget="100s").experiment.decoder.layers < 4
    with pytest.raises(ConfigError, match="is the least"):
        chosen(people, "decoder.layers=4", budget="100s")


def test_a_budget_too_small_for_anything_says_the_least_one_which_is_enough(people: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^budget 5s: too little for people on this machine: (\d\S*) is the least"
    ) as e:
        chosen(people, budget="5s")
    least = str(e.value).rpartition(" ")[2]
    assert whole(chosen(people, budget=least).times) <= (Wish(budget=least).budget_s or 0)


def test_settings_of_a_person_win_over_a_budget(people: str) -> None:
    choice = chosen(people, "decoder_fit.steps=321", budget="6m")
    assert choice.experiment.decoder_fit.steps == 321
    assert "decoder_fit.steps" not in choice.chosen
    with pytest.raises(ConfigError, match=r"is the least with decoder_fit\.steps, decoder_fit\.epochs as given; give"):
        chosen(people, "decoder_fit.steps=100000", "decoder_fit.epochs=100000.0", budget="6m")


def test_constraints_are_a_persons_own_and_hold_in_what_is_chosen(people: str) -> None:
    plain, settings = read_settings(people), read_settings(people, constraints=["age >= 0"])
    assert (plain.fixed("relations"), settings.fixed("relations")) == (False, True)
    runs, wish = Path(people).parent / "runs", Wish(quality="fast")
    first = Chooser(settings=settings, runs=runs, speedometer=Machine()).choose(wish, keep=True)
    assert first.experiment.relations == ("auto", "age >= 0")
    assert first.experiment.decoder_fit.steps == first.chosen["decoder_fit.steps"]
    assert Chooser(settings=settings, runs=runs, speedometer=Machine()).choose(wish, keep=True).kept
    assert not Chooser(settings=plain, runs=runs, speedometer=Machine()).choose(wish, keep=True).kept


@pytest.mark.parametrize(("quality", "budget", "message"), [
    ("great", None, "quality 'great': no such level; give one of fast, balanced, best"),
    (None, "10", "budget '10': expected a span of time"),
])  # fmt: skip
def test_what_is_no_wish_is_refused(quality: str | None, budget: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Wish(quality=quality, budget=budget)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["runtime.cluster.address='10.0.0.1:6379'"], "it runs on a cluster"),
        (["decoder={kind: pretrained, model: x/y}"], "only compact decoders"),
    ],
)
def test_a_budget_needs_a_run_that_can_be_tried_out(people: str, overrides: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=f"is not known before it ran: {reason}"):
        chosen(people, *overrides, budget="10m")
    assert chosen(people, *overrides, quality="fast").times == {}


def test_the_same_command_goes_on_with_what_was_chosen_on_a_faster_machine_too(people: str) -> None:
    wish = Wish(budget="5m")
    first = chooser(people, machine=Machine(0.2)).choose(wish, keep=True)
    faster = Machine(0.05)
    again = chooser(people, "sampling.temperature=0.9", machine=faster).choose(wish, keep=True)
    assert (again.chosen, again.times, again.kept) == (first.chosen, first.times, True)
    assert faster.asked == 0
    assert again.experiment.decoder_fit == first.experiment.decoder_fit
    assert again.experiment.sampling.temperature == 0.9
    assert "earlier run" in choice_line(again)


def test_another_command_chooses_anew_and_the_first_is_not_forgotten(people: str) -> None:
    wish = Wish(budget="130s")
    first = chooser(people).choose(wish, keep=True)
    for other in (
        chooser(people, machine=Machine(0.5)).choose(Wish(budget="200s"), keep=True),
        chooser(people, "autoencoder.steps=7", machine=Machine(0.5)).choose(wish, keep=True),
    ):
        assert not other.kept
        assert other.chosen != first.chosen
    assert chooser(people, machine=Machine(0.5)).choose(wish, keep=True).chosen == first.chosen
    table = Path(people)
    table.write_bytes(table.read_bytes() + b"41,c1\n")
    assert not chooser(people).choose(wish, keep=True).kept, "another table under the same name"


def test_a_plan_keeps_nothing(people: str) -> None:
    chooser(people).choose(Wish(budget="5m"), keep=False)
    assert not (Path(people).parent / "runs" / "people" / FILE).exists()


@pytest.mark.parametrize(
    "text", ["[{", "7", "[7]", '[{"request": {}}]', '[{"request": {}, "chosen": [], "times": {}}]', "[" * 9000]
)
def test_a_damaged_file_of_choices_is_named(people: str, text: str) -> None:
    path = Path(people).parent / "runs" / "people" / FILE
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"quality\.json: cannot be read .* remove it"):
        chosen(people, budget="5m")


def test_every_stage_has_a_time_and_ray_costs_some_of_it(people: str) -> None:
    ray, here = (
        chooser(people, in_process=in_process).choose(Wish(quality="fast"), keep=False) for in_process in (False, True)
    )
    assert set(ray.times) == {STARTING, *here.times}
    assert whole(ray.times) > whole(here.times)
    assert all(seconds > 0 for name, seconds in ray.times.items() if name != "assemble")


def test_a_prior_that_is_fitted_at_once_takes_no_time(people: str) -> None:
    config = read_settings(people, overrides=["prior={kind: gmm}"]).experiment()
    speed = StepSpeed(seconds=1.0, rows=128.0)
    sample: Any = type("Sample", (), {"rows": 10, "columns": 2, "seconds": 0.0})
    times = predict(
        config, sample, Speed(decoder=speed, autoencoder=speed, prior=None), ["train-diffusion"], in_process=False
    )
    assert times["train-diffusion"] == 0.0


def test_the_plan_shows_the_time_of_each_stage(people: str) -> None:
    console = Console(width=160, record=True, quiet=False)
    print_plan(chooser(people), Wish(quality="fast"), console)
    shown = console.export_text()
    assert "chosen: decoder_fit.steps=" in shown
    assert "time: about " in shown
    plain = Console(width=160, record=True)
    print_plan(chooser(people), Wish(), plain)
    assert "time: about " in plain.export_text()
    assert "chosen" not in plain.export_text()


def test_a_plan_without_the_data_has_no_time(tmp_path: Path) -> None:
    console = Console(width=200, record=True)
    print_plan(chooser(str(tmp_path / "missing.csv")), Wish(), console)
    assert "time: not known before it ran: data.train:" in console.export_text()


def test_what_was_expected_stands_beside_what_it_took() -> None:
    common: dict[str, Any] = {"compute_seconds": 1.0, "peak_rss_mib": {}, "artifact": "a"}
    ran = StageRecord(stage="fit-decoder", status="ran", seconds=30.0, predicted_seconds=20.0, **common)
    reused = StageRecord(stage="prepare", status="reused", seconds=0.0, **common)
    assert expected_line([reused, ran]) == "expected 20.0 s for these stages, which took 30.0 s (1.50)."
    assert expected_line([reused]) is None
