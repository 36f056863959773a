"""Tests between reports: p-values known in closed form, and Holm's correction of all of them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difflm_evaluators.report.significance import Counts, Paired, Repeats, ScoreWithError, holm, significance_of


def paired(*figures: float) -> Paired:
    return Paired(figures={f"c{place}": figure for place, figure in enumerate(figures)})


def test_eight_columns_that_all_got_worse_have_two_of_256_sign_flips_as_extreme() -> None:
    first, other = paired(*[0.1] * 8), paired(*[0.1 + 0.01 * n for n in range(1, 9)])
    found = significance_of(first, other)
    assert found.p_value == pytest.approx(2 / 2**8)
    assert found.method == "paired permutation test, 8 columns"
    assert significance_of(other, first).p_value == found.p_value


def test_columns_that_go_both_ways_show_no_difference() -> None:
    found = significance_of(paired(*[0.1] * 8), paired(*[0.1 + 0.01 * (-1) ** n for n in range(8)]))
    assert found.p_value == pytest.approx(1.0)


def test_few_or_equal_columns() -> None:
    assert significance_of(paired(1, 2, 3), paired(1, 2, 3)).p_value == 1.0
    found = significance_of(paired(*range(9)), paired(9, 9, 9, 9, 9, *range(5, 9)))
    assert found.p_value is None
    assert found.method == "undefined because only 5 columns differ; 6 are the fewest"
    assert significance_of(paired(), paired()).p_value is None


def test_welchs_t_test_of_seeds() -> None:
    # t = -2 / sqrt(1/3 + 1/3) = -2.449 with 4 degrees of freedom: p = 0.0705
    found = significance_of(Repeats(figures=[1, 2, 3], unit="seed"), Repeats(figures=[3, 4, 5], unit="seed"))
    assert found.p_value == pytest.approx(0.07048, abs=1e-5)
    assert found.method == "Welch's t-test, 3 and 3 seeds"


def test_one_seed_tells_nothing() -> None:
    found = significance_of(Repeats(figures=[0.9], unit="seed"), Repeats(figures=[0.8, 0.7], unit="seed"))
    assert found.p_value is None
    assert found.method == "undefined because of one seed; evaluate with two or more"
    constant = significance_of(Repeats(figures=[1, 1], unit="part"), Repeats(figures=[2, 2], unit="part"))
    assert constant.p_value is None
    assert significance_of(Repeats(figures=[1, 1], unit="part"), Repeats(figures=[1, 1], unit="part")).p_value == 1.0


def test_estimates_with_errors() -> None:
    # a difference of 1.96 standard errors of the difference
    error = 0.01 / math.sqrt(2)
    first, other = (
        ScoreWithError(value=0.5, standard_error=error),
        ScoreWithError(value=0.5 + 0.0195996, standard_error=error),
    )
    assert significance_of(first, other).p_value == pytest.approx(0.05, abs=1e-4)
    # the same numbers as three folds each: t = -2.449 again
    folds = [ScoreWithError(value=value, standard_error=1 / math.sqrt(3), repeats=3) for value in (2.0, 4.0)]
    assert significance_of(*folds).p_value == pytest.approx(0.07048, abs=1e-5)
    exact = [ScoreWithError(value=value, standard_error=0.0) for value in (1.0, 1.0, 2.0)]
    assert significance_of(exact[0], exact[1]).p_value == 1.0
    assert significance_of(exact[0], exact[2]).p_value is None


def test_counts_by_fishers_exact_test() -> None:
    # the lady tasting tea, two-sided: (1 + 16 + 16 + 1) / 70
    found = significance_of(Counts(hits=3, rows=4), Counts(hits=1, rows=4))
    assert found.p_value == pytest.approx(34 / 70)
    assert significance_of(Counts(hits=0, rows=0), Counts(hits=1, rows=4)).p_value is None


def test_one_number_or_two_kinds_have_no_test() -> None:
    assert significance_of(None, None).p_value is None
    assert "one number" in significance_of(None, Counts(hits=1, rows=2)).method
    assert significance_of(Counts(hits=1, rows=2), Repeats(figures=[1, 2], unit="seed")).p_value is None


def test_holm_by_hand() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = [p for p in holm(p_values) if p is not None]
    assert all(p <= new <= 1 for p, new in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    assert [adjusted[place] for place in order] == sorted(adjusted)
