"""Private counts: how much noise they have, what they cost, and which values are never released."""

import numpy as np
import pytest
import torch

from difflm.privacy.measuring import Ledger, best_of, frequent_values, noisy_counts, scale_of, threshold_of
from difflm.privacy.secret_noise import poisson_sample, secret_normal


def test_noise_has_the_scale_that_rho_pays_for() -> None:
    ledger = Ledger()
    noisy = noisy_counts(np.full(3000, 100), rho=0.005, part="x", ledger=ledger)
    assert scale_of(0.005) == pytest.approx(10.0)
    assert np.std(noisy) == pytest.approx(10.0, rel=0.08)
    assert np.mean(noisy) == pytest.approx(100.0, abs=1.0)
    assert ledger.rho == pytest.approx(0.005)


def test_a_value_of_one_unit_is_not_released() -> None:
    counts = {"common": 5000, "canary": 1, **{f"rare {place}": 1 for place in range(2000)}}
    ledger = Ledger()
    found = frequent_values(counts, rho=0.005, delta=1e-9, part="x", ledger=ledger)
    assert list(found) == ["common"]
    assert found["common"] == pytest.approx(5000, abs=70)
    assert ledger.rho == pytest.approx(0.005)
    assert 0 < ledger.delta <= 1e-9


def test_a_stricter_delta_needs_more_units() -> None:
    assert threshold_of(10.0, 1e-9) > threshold_of(10.0, 1e-4) > 30


def test_the_best_of_clear_scores_is_chosen_and_paid_for() -> None:
    ledger = Ledger()
    assert best_of([0.0, 5000.0, 10.0], rho=0.01, part="x", ledger=ledger) == 1
    assert ledger.rho == pytest.approx(0.01)


def test_secret_noise_is_standard_normal_and_has_no_seed() -> None:
    torch.manual_seed(0)
    first = secret_normal(100_001)
    torch.manual_seed(0)
    second = secret_normal(100_001)
    assert not torch.equal(first, second)
    assert abs(float(first.mean())) < 0.02
    assert float(first.std()) == pytest.approx(1.0, abs=0.02)
    assert float((first**4).mean()) == pytest.approx(3.0, abs=0.2)
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.02


def test_every_unit_is_drawn_by_itself_at_the_rate() -> None:
    drawn = poisson_sample(200_000, 0.1)
    assert len(drawn) == pytest.approx(20_000, abs=800)
    assert len(drawn.unique()) == len(drawn)
    assert len(poisson_sample(0, 0.1)) == 0
