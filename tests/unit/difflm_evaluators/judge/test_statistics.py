"""Estimates and agreement of a judge's answers, against values computed by hand and published ones."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difflm_evaluators.judge.statistics import agreement, mean_estimate, share_estimate


def test_a_mean_has_students_interval() -> None:
    found = mean_estimate([2, 4, 4, 6], 0, 10)
    # s = sqrt(8 / 3), standard error s / 2, t(0.975, 3) = 3.18245
    assert found.value == 4
    assert found.standard_error == pytest.approx(math.sqrt(8 / 3) / 2)
    assert found.interval == pytest.approx(
        (4 - 3.18245 * math.sqrt(8 / 3) / 2, 4 + 3.18245 * math.sqrt(8 / 3) / 2), 1e-5
    )


def test_one_observation_has_no_error_and_an_interval_stays_on_the_scale() -> None:
    assert mean_estimate([7], 0, 10).interval is None
    assert mean_estimate([7], 0, 10).standard_error is None
    assert mean_estimate([10, 10, 9], 0, 10).interval[1] == 10  # type: ignore[index]


def test_a_share_has_wilsons_interval() -> None:
    found = share_estimate(5, 10)
    assert found.value == 50
    assert found.standard_error == pytest.approx(100 * math.sqrt(0.025))
    assert found.interval == pytest.approx((23.659, 76.341), abs=1e-3)  # of 5 in 10, as tables have it
    none = share_estimate(0, 5)
    assert none.standard_error is None
    assert none.interval == pytest.approx((0, 43.448), abs=1e-3)


def test_alpha_is_that_of_krippendorffs_own_example() -> None:
    # Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section C: four observers, twelve units.
    missing = None
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, missing, missing, missing],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, missing, 3],
        [missing, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, missing],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, missing],
    ]
    units = list(zip(*observers, strict=True))
    assert agreement(units, "nominal").alpha == pytest.approx(0.743, abs=5e-4)
    assert agreement(units, "interval").alpha == pytest.approx(0.849, abs=5e-4)
    assert agreement(units, "interval").equal_share == pytest.approx(8 / 11)


def test_without_repeats_or_variation_agreement_is_undefined_and_says_why() -> None:
    once = agreement([[3], [None, 4]], "interval")
    assert once.alpha is None
    assert "--repeats" in (once.undefined_because or "")
    same = agreement([[3, 3], [3, 3]], "nominal")
    assert same.alpha is None
    assert same.equal_share == 1
    assert "same" in (same.undefined_because or "")


@given(st.lists(st.integers(0, 10), min_size=2, max_size=30))
def test_an_estimate_lies_inside_its_interval_on_the_scale(values: list[int]) -> None:
    found = mean_estimate(values, 0, 10)
    low, high = found.interval or (math.nan, math.nan)
    assert -1e-9 <= low <= found.value + 1e-9
    assert found.value - 1e-9 <= high <= 10 + 1e-9
