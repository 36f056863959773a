"""Number features: the value that a field's digits spell, and its place among the training values."""

import torch

from difflm.models.field_slots import BINS, NumberFeatures, fit_knots, spelled_values
from difflm.records.tokenization import GridLayout

MINUS, POINT, PAD, OTHER = 10, 11, 12, 13
DIGIT_V = torch.tensor([*range(10), -1, -1, -1, -1], dtype=torch.float64)
LAYOUT = GridLayout(widths=(4, 1, 3))
GRID = torch.tensor([[1, 2, POINT, 5, OTHER, 7, PAD, PAD], [MINUS, 3, POINT, 0, PAD, 1, 0, 0]])


def test_digits_are_read_from_left_to_right_with_their_sign() -> None:
    values = spelled_values(GRID, LAYOUT, DIGIT_V, MINUS)
    assert values.tolist() == [[125.0, 0.0, 7.0], [-30.0, 0.0, 100.0]]


def test_an_encoding_fills_the_bins_below_the_value() -> None:
    knots = ((0.0, 100.0, 200.0), (), (0.0, 10.0))
    features = NumberFeatures(knots, LAYOUT, torch.tensor([0, 1, 2]), digit_V=DIGIT_V, minus_id=MINUS)(GRID)
    assert features.shape == (2, 3, BINS)
    assert features[0, 0, :3].tolist() == [1.0, -0.5, 0.0]  # 125: the first bin full, a quarter of the second
    assert features[1, 0, :2].tolist() == [-1.0, -1.0]  # below the range
    assert features[:, 1].abs().sum() == 0  # not a number
    assert torch.allclose(features[0, 2, 0], torch.tensor(0.4))  # 7 of 10


def test_knots_are_distinct_quantiles_of_numeric_fields_only() -> None:
    values = torch.stack([torch.arange(1000, dtype=torch.float64), torch.zeros(1000, dtype=torch.float64)], dim=1)
    knots = fit_knots(values, [True, False])
    assert knots[1] == ()
    assert knots[0][0] == 0.0
    assert knots[0][-1] == 999.0
    assert len(knots[0]) == BINS + 1
    assert fit_knots(values, [True, True])[1] == (0.0,)


def test_few_rows_give_few_knots() -> None:
    rows = torch.arange(30, dtype=torch.float64)[:, None]
    assert len(fit_knots(rows, [True])[0]) == 3 + 1
    assert len(fit_knots(rows[:5], [True])[0]) == 1 + 1


def test_a_minus_behind_the_first_place_is_no_sign() -> None:
    grid = torch.tensor([[2, OTHER, MINUS, 7], [MINUS, 2, OTHER, 7]])  # 2e-7 and -2e7
    assert spelled_values(grid, GridLayout(widths=(4,)), DIGIT_V, MINUS).tolist() == [[27.0], [-27.0]]
