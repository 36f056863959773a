"""Sums of the decoder's own embeddings: known sums, standardised, and what is passed over."""

import torch

from difflm.models.bag_encoder import BagEncoder, BagEncoderConfig
from difflm.records.tokenization import GridLayout

PAD = 3
LAYOUT = GridLayout(widths=(1, 3))
TOKENS = torch.tensor([PAD, 5, 7, 9])
EMBEDDINGS = torch.tensor([[100.0, 100.0], [1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])


def encoder() -> BagEncoder:
    torch.manual_seed(0)
    return BagEncoder(BagEncoderConfig(hidden_size=8, dropout=0.5), LAYOUT, TOKENS, EMBEDDINGS).eval()


def test_a_field_is_the_sum_of_its_tokens_over_the_root_of_their_number() -> None:
    bags = encoder().bags(torch.tensor([[9, 5, 7, PAD], [PAD, PAD, PAD, PAD]]))
    torch.testing.assert_close(bags[0], torch.tensor([[3.0, 3.0], [2**-0.5, 2 * 2**-0.5]]))
    assert not bags[1].any()


def test_tokens_that_training_lacks_are_passed_over() -> None:
    made = encoder()
    torch.testing.assert_close(made.bags(torch.tensor([[8, 5, 6, PAD]])), made.bags(torch.tensor([[PAD, 5, PAD, PAD]])))


def test_numbers_of_training_records_are_standardised() -> None:
    made, grid = encoder(), torch.tensor([[9, 5, 7, PAD], [5, 7, 7, 7], [7, 9, PAD, PAD]])
    made.begin(grid)
    standard = (made.bags(grid) - made.mean_FD) * made.scale_FD
    torch.testing.assert_close(standard.mean(dim=0), torch.zeros(2, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard.std(dim=0, correction=0), torch.ones(2, 2), atol=1e-2, rtol=0)
    assert made(grid).shape == (3, 1, 8)


def test_the_embeddings_are_in_no_artifact() -> None:
    assert "embeddings_UD" not in encoder().state_dict()
    assert {name for name, _ in encoder().named_parameters()} == {
        "mean_FD",
        "scale_FD",
        "hidden.0.weight",
        "hidden.0.bias",
    }
