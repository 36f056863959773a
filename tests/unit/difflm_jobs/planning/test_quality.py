"""A quality is short for settings: multiples of those of presets and defaults, while those of a person stay."""

from pathlib import Path

import pytest

from difflm.errors import ConfigError
from difflm_jobs.loading import Settings, read_settings
from difflm_jobs.planning.quality import (
    LARGE,
    LENGTHENED,
    LEVELS,
    PLACES,
    expand,
    large_size,
    level_at,
    parse_span,
    span_text,
    value_of,
)
from difflm_jobs.planning.times import steps_of


def settings(tmp_path: Path, *overrides: str) -> Settings:
    return read_settings(str(tmp_path / "people.csv"), overrides=overrides)


def expanded(given: Settings, level: str) -> dict[str, object]:
    return dict(expand(given, given.experiment(), LEVELS[level], None, lengthened=None))


def test_levels_and_budgets_say_how_much_longer_a_fit_may_become(tmp_path: Path) -> None:
    given = settings(tmp_path)
    found = expand(given, given.experiment(), LEVELS["fast"], None, lengthened=LENGTHENED["fast"])
    assert found["decoder_fit.lengthened"] == 1.0
    assert "decoder_fit.lengthened" not in expand(given, given.experiment(), LEVELS["balanced"], None, lengthened=None)


def test_balanced_is_the_defaults(tmp_path: Path) -> None:
    given = settings(tmp_path, "conditions.enabled=true")
    assert expanded(given, "balanced") == {}
    assert given.experiment({}) == given.experiment()


def test_fast_and_best_multiply_the_steps_of_every_training(tmp_path: Path) -> None:
    given = settings(tmp_path)
    base = given.experiment()
    fast, best = expanded(given, "fast"), expanded(given, "best")
    assert set(fast) == {"decoder_fit.steps", "autoencoder.steps", "prior.steps"}
    assert fast["decoder_fit.steps"] == pytest.approx(0.33 * base.decoder_fit.steps, rel=0.05)
    assert best["decoder_fit.steps"] == pytest.approx(4 * base.decoder_fit.steps, rel=0.05)
    assert best["decoder_fit.epochs"] == 2 * base.decoder_fit.epochs
    made = given.experiment(best)
    for key, value in best.items():
        assert value_of(made, key) == value
    assert "conditions.steps" in expanded(settings(tmp_path, "conditions.enabled=true"), "fast")
    assert "prior.steps" not in expanded(settings(tmp_path, "prior={kind: gmm}"), "fast")


def test_what_a_person_gave_stays_and_what_a_preset_says_does_not(tmp_path: Path) -> None:
    assert "decoder_fit.steps" not in expanded(settings(tmp_path, "decoder_fit.steps=700"), "best")
    file = tmp_path / "mine.yaml"
    file.write_text("extends: tools\nprior: {steps: 100}\n", encoding="utf-8")
    given = read_settings(str(file))
    found = expanded(given, "fast")
    assert "prior.steps" not in found
    assert found["autoencoder.steps"] == given.experiment().autoencoder.steps // 2
    assert given.experiment(found).prior.steps == 100


def test_the_defaults_of_whole_records_are_multiplied_in_their_place(tmp_path: Path) -> None:
    given = settings(tmp_path, "autoencoder.encoder={kind: compact}", "autoencoder.kl={kind: adaptive}")
    base, made = given.experiment(), given.experiment(expanded(given, "fast"))
    assert made.autoencoder.steps == base.autoencoder.steps // 2
    assert made.autoencoder.injector == base.autoencoder.injector


def test_a_larger_decoder_is_for_tables_with_rows_enough(tmp_path: Path) -> None:
    given = settings(tmp_path)
    assert large_size(1000) is None
    (many, some) = LARGE
    assert large_size(many.rows) == many
    assert large_size(some.rows) == some
    found = expand(given, given.experiment(), LEVELS["best"], many, lengthened=None)
    made = given.experiment(found)
    assert (made.decoder.hidden_size, made.decoder.layers) == (192, 6)
    assert made.decoder_fit.loop.learning_rate < given.experiment().decoder_fit.loop.learning_rate
    fixed = settings(tmp_path, "decoder.layers=2")
    assert not [
        key
        for key in expand(fixed, fixed.experiment(), LEVELS["best"], many, lengthened=None)
        if key.startswith("decoder.")
    ]


def test_levels_lie_on_one_line() -> None:
    for name, place in PLACES.items():
        assert level_at(place).decoder == pytest.approx(LEVELS[name].decoder)
    places = [level_at(place / 10).decoder for place in range(31)]
    assert places == sorted(places)


def test_passes_bound_the_steps_but_not_below_a_floor() -> None:
    assert steps_of(most=1500, epochs=40, floor=400, rows=100_000, batch=128) == 1500
    assert steps_of(most=1500, epochs=40, floor=400, rows=2560, batch=128) == 800
    assert steps_of(most=1500, epochs=40, floor=400, rows=100, batch=100) == 400
    assert steps_of(most=60, epochs=40, floor=400, rows=100, batch=100) == 60


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600), ("1h30m", 5400), ("1.5H", 5400), (" 2m5s", 125)]
)
def test_spans_of_time_are_read(text: str, seconds: float) -> None:
    assert parse_span(text) == seconds
    assert parse_span(span_text(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "0s", "-5m", "10m1h", "soon", "9" * 400 + "h", "88000h"])
def test_what_is_no_span_of_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected a span of time, such as 90s, 10m, 1h or 1h30m"):
        parse_span(text)
