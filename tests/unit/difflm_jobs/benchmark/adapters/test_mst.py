"""How MST's adapter codes columns, and the budget that it spends; the graphical model is the package's."""

import numpy as np
import pandas as pd
import pytest

from difflm.privacy import budget
from difflm_jobs.benchmark.adapters import mst


def test_whole_numbers_of_few_values_have_a_bin_each() -> None:
    codes, known = mst.coded(pd.Series([3, 5, 4, 3]), {"kind": "number", "whole": True}, 2)
    assert codes.tolist() == [0, 2, 1, 0]
    assert known == [[(3.0, 3.0)], [(4.0, 4.0)], [(5.0, 5.0)]]


def test_the_lowest_number_has_a_bin_of_its_own() -> None:
    codes, known = mst.coded(pd.Series([0.0, 0.0, 400.0, 1000.0, 1.0]), {"kind": "number", "whole": False}, 2)
    assert codes.tolist() == [0, 0, 1, 2, 1]
    assert np.array(known).squeeze().tolist() == [[0, 0], [0, 500], [500, 1000]]


def test_categories_keep_their_names() -> None:
    codes, known = mst.coded(pd.Series(["b", "a", "b"]), {"kind": "category"}, 2)
    assert codes.tolist() == [1, 0, 1]
    assert known == [["a"], ["b"]]


@pytest.mark.parametrize("epsilon", [1.0, 10.0])
def test_both_sides_of_the_comparison_turn_epsilon_into_the_same_budget(epsilon: float) -> None:
    assert mst.rho_of(epsilon, 1e-5) == pytest.approx(budget.rho_of(epsilon, 1e-5), rel=0.01)
