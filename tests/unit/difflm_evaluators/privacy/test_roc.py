"""ROC areas and points against hand-made ones, their definition and their uncertainty."""

import numpy as np
import pytest
from scipy.stats import norm

from difflm_evaluators.privacy.membership import NORMAL_95, RocFigure, area, true_positive_rate
from difflm_evaluators.scores.boosting import binary_auc


def test_area_and_its_error_by_hand() -> None:
    # positives 3 and 2 outrank 1 and 0.75 of the negatives 1 and 2, which are outranked by 1 and 0.75 of the positives
    found = area(np.array([3.0, 2.0]), np.array([1.0, 2.0]))
    variance = np.var([1.0, 0.75], ddof=1)
    assert found.value == pytest.approx(0.875)
    assert found.standard_error == pytest.approx(np.sqrt(variance / 2 + variance / 2))
    assert area(np.ones(3), np.zeros(4)) == RocFigure(value=1.0, standard_error=0.0)
    assert area(np.ones(3), np.ones(4)) == RocFigure(value=0.5, standard_error=0.0)


def test_the_area_is_that_of_the_boosted_trees_and_its_interval_covers_the_true_one() -> None:
    assert norm.ppf(0.975) == pytest.approx(NORMAL_95)
    random = np.random.default_rng(0)
    truth, covered = norm.cdf(1 / np.sqrt(2)), 0
    for _ in range(400):
        positive, negative = random.normal(1, 1, 40), random.normal(0, 1, 60)
        found = area(positive, negative)
        ranking, is_positive = np.concatenate([positive, negative]), np.arange(100) < 40
        assert found.value == pytest.approx(binary_auc(is_positive, ranking))
        covered += found.interval[0] <= truth <= found.interval[1]
    assert 0.92 <= covered / 400 <= 0.98


def test_rate_of_true_positives_by_hand() -> None:
    negative = np.arange(100.0)  # one in a hundred is 99 alone
    assert true_positive_rate(np.array([200.0, 99.5, 98.5, 3.0]), negative, 0.01).value == 0.75
    # at a false positive rate of 0 two are found, at 1 in 100 three: half way between them 2.5 of 4
    assert true_positive_rate(np.array([200.0, 99.5, 98.5, 3.0]), negative, 0.005).value == pytest.approx(0.625)
    # where everything ties a coin decides
    assert true_positive_rate(np.ones(10), np.ones(50), 0.01).value == pytest.approx(0.01)


def test_the_error_of_a_rate_is_about_its_spread() -> None:
    random = np.random.default_rng(1)
    found = [true_positive_rate(random.normal(1, 1, 2000), random.normal(0, 1, 2000), 0.01) for _ in range(200)]
    spread = np.std([estimate.value for estimate in found], ddof=1)
    assert np.mean([estimate.standard_error for estimate in found]) == pytest.approx(spread, rel=0.35)
    truth = 1 - norm.cdf(norm.ppf(0.99) - 1)
    assert np.mean([estimate.value for estimate in found]) == pytest.approx(truth, abs=0.01)


def test_intervals_of_shares_end_at_0_and_1() -> None:
    assert RocFigure(value=0.99, standard_error=0.1).interval == (pytest.approx(0.99 - 0.1 * NORMAL_95), 1.0)
    assert RocFigure(value=0.0, standard_error=0.1).interval[0] == 0.0
