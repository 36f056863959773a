"""Soft tokens through the vocabulary: known drafts, expected embeddings, and that a draft is learned."""

import torch

from difflm.models.autoencoder import PosteriorHead
from difflm.models.encoder import CompactEncoder, CompactEncoderConfig
from difflm.models.field_slots import DigitTokens, NumberFeatures, SlotLayout
from difflm.models.injection.vocabulary import (
    VocabularyConfig,
    VocabularyInjector,
    exact_fields,
    used_tokens,
)
from difflm.records.tokenization import GridLayout
from difflm.training.draft_task import DraftModel

PAD = 3
LAYOUT = SlotLayout(grid=GridLayout(widths=(1, 3)), cells_per_slot=2)
GRID = torch.tensor([[9, 5, 7, PAD], [8, 7, 5, 9], [9, 5, PAD, PAD]])


def injector(temperature: float = 1.0) -> VocabularyInjector:
    torch.manual_seed(0)
    tokens_U = used_tokens(GRID, pad_id=PAD)
    config = VocabularyConfig(hidden_size=32, temperature=temperature)
    return VocabularyInjector(config, LAYOUT, tokens_U, torch.randn(len(tokens_U), 16), latent_per_slot=4)


def test_used_tokens_begin_with_the_padding() -> None:
    assert used_tokens(GRID, pad_id=PAD).tolist() == [PAD, 5, 7, 8, 9]


def test_a_token_counts_once_for_each_row_that_has_it() -> None:
    assert used_tokens(GRID, pad_id=PAD, rows=2).tolist() == [PAD, 5, 7, 9]
    assert used_tokens(torch.tensor([[5, 5, 5], [6, PAD, 6], [7, 6, 7]]), pad_id=PAD, rows=2).tolist() == [PAD, 6]


def test_a_draft_is_the_tokens_of_each_slot_and_nothing_behind_them() -> None:
    drafted = injector().draft(torch.tensor([[9, 5, 7, PAD], [8, 6, 5, 9]]))
    assert drafted.tolist() == [[[4, 0], [1, 2], [0, 0]], [[3, 0], [-100, 1], [4, 0]]]


def test_soft_tokens_lie_among_the_embeddings_and_on_them_when_it_is_cold() -> None:
    latents = torch.randn(2, 12)
    warm, cold = injector(), injector(temperature=1e-4)
    soft, hard = (one.prompt(latents).embeds_BKD for one in (warm, cold))
    assert soft.shape == (2, warm.positions, 16) == (2, 6, 16)
    torch.testing.assert_close(hard, cold.embeddings_UD[cold(latents).argmax(dim=-1)].flatten(1, 2))
    torch.testing.assert_close(soft, (warm(latents).softmax(dim=-1) @ warm.embeddings_UD).flatten(1, 2))
    assert warm.prompt(latents).positions == 6


def test_the_decoders_embeddings_are_in_no_artifact_and_take_no_gradient() -> None:
    one = injector()
    assert "embeddings_UD" not in one.state_dict()
    assert "embeddings_UD" not in dict(one.named_parameters())


def test_fields_are_exact_where_all_their_slots_are() -> None:
    wanted = injector().draft(GRID)
    drafted = wanted.clone()
    drafted[1, 2, 0] = 0
    drafted[2, 0, 0] = 1
    assert exact_fields(drafted, wanted, LAYOUT.field_S).tolist() == [[True, True], [True, False], [False, True]]


def test_a_draft_is_learned_without_a_language_model() -> None:
    digits = DigitTokens(value_V=torch.full((12,), -1.0), base_V=torch.ones(12), minus_id=0)
    numbers = NumberFeatures(((), ()), LAYOUT.grid, LAYOUT.field_S, digits=digits)
    config = CompactEncoderConfig(hidden_size=16, layers=1, heads=2, latent_per_slot=4)
    writer = injector()
    encoder = CompactEncoder(config, LAYOUT, vocabulary_size=12, pad_id=PAD, numbers=numbers)
    model = DraftModel(encoder=encoder, head=PosteriorHead(16, 4), injector=writer)
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(120):
        figures = model(grid_BG=GRID, beta=torch.tensor(0.001))
        adam.zero_grad()
        figures["loss"].backward()
        adam.step()
    assert float(figures["right"]) == 1.0
    assert float(figures["draft_nats"].detach()) < 1.0


def test_training_asks_some_empty_places_which_count_for_all() -> None:
    writer = injector()
    head = PosteriorHead(16, 4)
    model = DraftModel(encoder=torch.nn.Identity(), head=head, injector=writer)
    hidden_BSH = torch.zeros(64, 3, 16)
    with torch.no_grad():
        head.linear.bias[4:] = -30.0  # no noise to speak of: only the choice of places differs
    grid_BG = GRID[[2]].expand(64, -1)  # three of its six places are empty
    inputs = {"grid_BG": grid_BG, "beta": torch.tensor(0.0), "input": hidden_BSH}
    exact = model.eval()(**inputs)
    model.train()
    asked = [model(**inputs) for _ in range(100)]
    nats = torch.stack([one["draft_nats"] for one in asked]).detach()
    assert float(nats.std()) > 0
    torch.testing.assert_close(nats.mean(), exact["draft_nats"].detach(), rtol=0.03, atol=0.0)
    torch.testing.assert_close(asked[0]["right"], exact["right"])
