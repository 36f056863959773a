"""Words of z: known likelihoods, known choices, and nothing where nothing is told."""

import math

import pytest
import torch

from difflm.models.injection.vocabulary import used_tokens
from difflm.models.injection.words import COUNTED_TOKENS, FieldWords
from difflm.records.tokenization import GridLayout

PAD = 3
LAYOUT = GridLayout(widths=(1, 3))
GRID = torch.tensor([[9, 5, 7, PAD], [8, 7, 5, 9], [9, 5, PAD, PAD]])
MARK = torch.full((4,), 0.5)


def words(layout: GridLayout = LAYOUT, count: int = 2) -> FieldWords:
    torch.manual_seed(0)
    tokens_U = used_tokens(GRID, pad_id=PAD)  # 3, 5, 7, 8, 9
    made = FieldWords(tokens_U, torch.randn(len(tokens_U), 4), count=count, latent_size=2, layout=layout)
    made.begin(torch.nn.functional.pad(GRID, (0, layout.size - GRID.shape[1]), value=PAD), MARK)
    return made


def test_what_is_usual_are_the_shares_of_training() -> None:
    half = torch.tensor([0.5, 0.5, 0.5, 1.5, 2.5])
    torch.testing.assert_close(words().usual_FU[0].exp(), half / half.sum())
    torch.testing.assert_close(words().marks_FD.detach(), MARK.expand(2, 4))


def test_tokens_count_in_any_order_and_unknown_ones_not_at_all() -> None:
    made = words()
    likely = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25]).log()
    scores = [likely.expand(2, 5), likely.expand(2, 5)]
    nats = made.nats(scores, torch.tensor([[9, 5, 7, PAD], [6, 7, 5, PAD]]))
    both = -math.log(0.2) - math.log(0.3)
    torch.testing.assert_close(nats, torch.tensor([both - math.log(0.25), both]))


def test_a_long_text_counts_as_so_many_tokens() -> None:
    width = 2 * int(COUNTED_TOKENS)
    made = words(GridLayout(widths=(1, width)))
    likely = torch.full((1, 5), 0.2).log()
    long = torch.cat([torch.tensor([[PAD]]), torch.full((1, width), 5)], dim=1)
    torch.testing.assert_close(made.nats([likely, likely], long), torch.tensor([-COUNTED_TOKENS * math.log(0.2)]))


def test_the_words_are_what_z_makes_likelier_and_not_what_is_frequent() -> None:
    made = words(count=1)
    usual = made.usual_FU.data
    usual.copy_(torch.tensor([0.04, 0.6, 0.16, 0.1, 0.1]).log())
    told = torch.tensor([[0.04, 0.5, 0.16, 0.2, 0.1]]).log()
    assert made.chosen([told, usual[1:2]])[0, 0].tolist() == [3]  # twice as likely as usual, though 5 is likeliest
    padding = torch.tensor([[0.9, 0.02, 0.02, 0.03, 0.03]]).log()
    assert 0 not in made.chosen([padding, padding])


def test_the_decoder_reads_the_words_own_embeddings_behind_a_mark() -> None:
    made = words()
    latents = torch.randn(3, 2)
    read = made(latents).detach()
    assert read.shape == (3, made.positions, 4) == (3, 6, 4)
    chosen = made.chosen(made.scores(latents))
    for field in range(2):
        torch.testing.assert_close(read[:, 3 * field], MARK.expand(3, 4))
        torch.testing.assert_close(read[:, 3 * field + 1 : 3 * field + 3], made.embeddings_UD[chosen[:, field]])


def test_where_nothing_is_told_there_are_marks_alone() -> None:
    made = words()
    read = made(torch.randn(2, 2), torch.tensor([False, True])).detach()
    torch.testing.assert_close(read[0], MARK.expand(6, 4))
    assert not torch.equal(read[1], read[0])


@pytest.mark.parametrize("count", [1, 4, 9])
def test_there_are_no_more_words_than_tokens(count: int) -> None:
    made = words(count=count)
    assert made(torch.randn(1, 2)).shape[1] == made.positions == 2 * (1 + min(count, 4))
