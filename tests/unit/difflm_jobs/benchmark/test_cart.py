"""Trees: what a leaf hands out, and categories in an order that fits what is predicted."""

import numpy as np
import pyarrow as pa

from difflm_jobs.benchmark.cart import CodedColumn, code_column, draw_donors, ordered


def test_donors_come_from_the_leaf_that_the_row_falls_into() -> None:
    first = code_column(pa.chunked_array([[0] * 40 + [1] * 40]))
    second = code_column(pa.chunked_array([["low"] * 40 + ["high"] * 40]))
    donors = {"first": np.array([0, 79, 5])}
    drawn = draw_donors("second", {"first": first, "second": second}, donors, 3, 30, np.random.default_rng(0))
    assert (drawn < 40).tolist() == [True, False, True]


def test_leaves_are_never_smaller_than_asked_for() -> None:
    first = code_column(pa.chunked_array([list(range(90))]))
    second = code_column(pa.chunked_array([list(range(90))]))
    donors = {"first": np.zeros(3000, dtype=np.int64)}
    drawn = draw_donors("second", {"first": first, "second": second}, donors, 3000, 30, np.random.default_rng(0))
    assert len(set(drawn.tolist())) >= 30


def test_missing_numbers_are_predicted_as_well() -> None:
    kind = code_column(pa.chunked_array([["seen"] * 40 + ["unseen"] * 40]))
    number = code_column(pa.chunked_array([pa.array([1.5] * 40 + [None] * 40)]))
    assert number.response_N.tolist() == [1.5] * 40 + [0.5] * 40
    donors = {"kind": np.array([0, 79])}
    drawn = draw_donors("number", {"kind": kind, "number": number}, donors, 2, 30, np.random.default_rng(0))
    assert np.isnan(number.values_N[drawn]).tolist() == [False, True]


def test_categories_are_ordered_by_what_is_predicted() -> None:
    letters = CodedColumn(values_N=np.array([0.0, 0, 1, 1, 2, 2]), levels=3)
    numbers = CodedColumn(values_N=np.array([5.0, 7, 1, 1, 9, 9]), levels=0)
    assert ordered(letters, numbers).tolist() == [6.0, 6.0, 1.0, 1.0, 9.0, 9.0]
    classes = CodedColumn(values_N=np.array([0.0, 1, 0, 0, 1, 1]), levels=2)
    scores = ordered(letters, classes)
    shares = np.array([0.5, 0.5, 0.0, 0.0, 1.0, 1.0])
    assert abs(np.corrcoef(scores, shares)[0, 1]) > 0.999
    assert ordered(numbers, classes) is numbers.values_N
