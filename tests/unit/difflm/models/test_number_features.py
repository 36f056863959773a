"""Number features: the value that a field's digits spell, and its place among the training values."""

import torch

from difflm.models.compact import fit_compact_tokenizer
from difflm.models.field_slots import BINS, DigitTokens, NumberFeatures, fit_knots, spelled_values
from difflm.records.number_tokens import number_tokens
from difflm.records.tokenization import GridLayout, RecordTokenizer

MINUS, POINT, PAD, OTHER, PAIR, FIRST_OF_FRACTION = 10, 11, 12, 13, 14, 15
DIGITS = DigitTokens(
    value_V=torch.tensor([*range(10), -1, -1, -1, -1, 7, 50], dtype=torch.float64),
    base_V=torch.tensor([10] * 10 + [1] * 4 + [100, 100], dtype=torch.float64),
    minus_id=MINUS,
)
"""With tokens for 07 and .50."""
LAYOUT = GridLayout(widths=(4, 1, 3))
GRID = torch.tensor([[1, 2, POINT, 5, OTHER, 7, PAD, PAD], [MINUS, 3, POINT, 0, PAD, 1, 0, 0]])


def test_digits_are_read_from_left_to_right_with_their_sign() -> None:
    values = spelled_values(GRID, LAYOUT, DIGITS)
    assert values.tolist() == [[125.0, 0.0, 7.0], [-30.0, 0.0, 100.0]]


def test_an_encoding_fills_the_bins_below_the_value() -> None:
    knots = ((0.0, 100.0, 200.0), (), (0.0, 10.0))
    features = NumberFeatures(knots, LAYOUT, torch.tensor([0, 1, 2]), digits=DIGITS)(GRID)
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
    assert spelled_values(grid, GridLayout(widths=(4,)), DIGITS).tolist() == [[27.0], [-27.0]]


def test_a_token_of_several_digits_counts_with_all_its_places() -> None:
    grid = torch.tensor([[MINUS, 3, PAIR, FIRST_OF_FRACTION], [2, PAIR, PAIR, PAD]])  # -307.50 and 20707
    assert spelled_values(grid, GridLayout(widths=(4,)), DIGITS).tolist() == [[-30750.0], [20707.0]]


def test_what_the_tokens_of_a_tokenizer_count() -> None:
    names = number_tokens(whole_digits=3, decimals=2)
    fixed = ['{"a": ', "}"]
    fitted = fit_compact_tokenizer(fixed_texts=fixed, category_literals=[], texts=[], numbers=names)
    tokenizer = RecordTokenizer(fitted, kinds=["decimal"], fixed_texts=fixed)
    literals = ["0.05", "-12.50", "907.00", "7.10"]
    grid = torch.from_numpy(tokenizer.encode([literals], tokenizer.layout([literals])).grid_NG)
    values = spelled_values(grid, tokenizer.layout([literals]), DigitTokens.of(tokenizer))
    assert values.flatten().tolist() == [5.0, -1250.0, 90700.0, 710.0]
