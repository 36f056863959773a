"""The accountant against figures that others published, and budgets that are too small."""

import math

import pytest

from difflm.errors import ConfigError
from difflm.privacy.budget import (
    Plan,
    PrivacyConfig,
    Spent,
    Steps,
    default_delta,
    epsilon_of,
    noise_for,
    refuse_too_small,
    rho_of,
)
from difflm.privacy.statement import promise


def test_the_published_figure_of_opacus_for_dp_sgd() -> None:
    """Opacus's own test of its accountant: noise 1.5, rate 0.04, 90 epochs, delta 1e-5."""
    assert epsilon_of(0.0, Steps(rate=0.04, noise=1.5, steps=2250), 1e-5) == pytest.approx(7.32911117143, rel=1e-3)


def test_the_published_noise_of_opacus_for_an_epsilon() -> None:
    """Opacus's own test: epsilon 8 with rate 0.04 over 90 epochs needs a noise of 1.416."""
    assert noise_for(8.0, 1e-5, rho=0.0, rate=0.04, steps=2250) == pytest.approx(1.416015625, abs=0.01)


def test_the_closed_form_of_zcdp_is_an_upper_bound() -> None:
    """Bun and Steinke (2016): rho is (rho + 2 sqrt(rho ln(1 / delta)), delta) private."""
    for rho in (1e-3, 0.05, 0.5):
        loose = rho + 2 * math.sqrt(rho * math.log(1e5))
        assert 0.7 * loose < epsilon_of(rho, None, 1e-5) <= loose


def test_parts_together_cost_more_than_any_and_less_than_their_sum() -> None:
    steps = Steps(rate=0.05, noise=1.2, steps=200)
    first, second = epsilon_of(0.02, None, 1e-5), epsilon_of(0.0, steps, 1e-5)
    assert max(first, second) < epsilon_of(0.02, steps, 1e-5) < first + second


def test_all_parts_come_to_the_epsilon_that_was_asked_for() -> None:
    config = PrivacyConfig(epsilon=3.0)
    plan = Plan.of(config, units=20_000, count_rho=1e-4)
    rho = 1e-4 + plan.columns_rho + plan.pairs_rho
    steps = Steps(rate=0.05, steps=160, noise=noise_for(3.0, plan.rest_delta, rho=rho, rate=0.05, steps=160))
    spent = [Spent(part="pairs", rho=rho, delta=plan.threshold_delta)]
    promised = promise(config, delta=plan.delta, spent=spent, steps=steps)
    assert promised["epsilon"] == 3.0
    assert 2.98 < float(str(promised["epsilon_spent"])) <= 3.0
    assert promised["delta"] == 1e-5


def test_small_budgets_are_spent_on_summaries_alone_unless_steps_are_asked_for() -> None:
    assert [PrivacyConfig(epsilon=epsilon).passes for epsilon in (1, 3, 5.9, 6, 10)] == [0, 0, 0, 8, 8]
    assert PrivacyConfig(epsilon=1, epochs=2).passes == 2
    assert PrivacyConfig(epsilon=10, epochs=0).passes == 0
    plan = Plan.of(PrivacyConfig(epsilon=3.0), units=20_000, count_rho=0.0)
    assert plan == Plan.of(PrivacyConfig(epsilon=3.0, epochs=0), units=20_000, count_rho=0.0)


def test_without_dp_sgd_the_summaries_have_it_all() -> None:
    plan = Plan.of(PrivacyConfig(epsilon=1.0, epochs=0), units=20_000, count_rho=0.0)
    assert plan.columns_rho + plan.pairs_rho == pytest.approx(0.999 * rho_of(1.0, plan.rest_delta))


def test_more_than_was_asked_for_is_never_promised() -> None:
    with pytest.raises(AssertionError, match=r"was spent of 1\.0"):
        promise(PrivacyConfig(epsilon=1.0), delta=1e-5, spent=[Spent(part="columns", rho=1.0)], steps=None)


def test_delta_falls_with_the_units() -> None:
    assert default_delta(1000) == 1e-5
    assert default_delta(10**7) == pytest.approx(1e-7 / 10**0.7)


def test_an_epsilon_too_small_says_what_would_do() -> None:
    config = PrivacyConfig(epsilon=0.1)
    with pytest.raises(ConfigError, match=r"0\.1 is too small for about 500 units of 15 columns.*need an epsilon of"):
        refuse_too_small(config, Plan.of(config, units=500, count_rho=0.0), 15, 0.0)
    enough = PrivacyConfig(epsilon=3.0)
    refuse_too_small(enough, Plan.of(enough, units=20_000, count_rho=0.0), 15, 0.0)


def test_noise_that_no_budget_allows_is_refused() -> None:
    with pytest.raises(ConfigError, match="leaves nothing for 1000 steps"):
        noise_for(0.5, 1e-5, rho=0.5, rate=0.1, steps=1000)


def test_shares_must_leave_something_for_dp_sgd() -> None:
    with pytest.raises(ValueError, match="leave nothing of the budget to DP-SGD"):
        PrivacyConfig(epsilon=10.0, columns=0.6, pairs=0.5)
