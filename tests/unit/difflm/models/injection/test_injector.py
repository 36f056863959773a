"""Injectors: shapes, and soft tokens of the scale of the decoder's own."""

import pytest
import torch

from difflm.models.injection.injector import (
    AddedEmbedding,
    KeysAndValues,
    MemoryShape,
    PooledInjector,
    PromptForm,
    SlotInjector,
    SoftTokens,
)

MEMORY = MemoryShape(layers=3, heads=2, head_size=4)
SCALES = torch.linspace(0.1, 0.6, 6).reshape(3, 2, 1)


def _slots(form: PromptForm, prefix: int = 0) -> SlotInjector:
    torch.manual_seed(0)
    return SlotInjector(form, slots=5, latent_per_slot=2, hidden_size=16, learned_prefix=prefix)


def _root(vectors: torch.Tensor) -> torch.Tensor:
    return vectors.square().mean(dim=-1).sqrt()


@pytest.mark.parametrize("prefix", [0, 3])
def test_one_soft_token_per_slot_of_the_embeddings_scale(prefix: int) -> None:
    injector = _slots(SoftTokens(size=32, scale=0.07), prefix)
    prompt = injector.prompt(torch.randn(4, 10)).embeds_BKD
    assert prompt.shape == (4, 5 + prefix, 32)
    assert injector.positions == 5 + prefix
    roots = _root(prompt[:, prefix:])
    torch.testing.assert_close(roots, torch.full_like(roots, 0.07), rtol=1e-2, atol=0)


def test_a_slot_of_the_latent_moves_only_its_own_soft_token() -> None:
    injector = _slots(SoftTokens(size=32, scale=1.0))
    latents = torch.randn(1, 10)
    moved = latents.clone()
    moved[0, 4:6] += 1.0
    difference = (injector.prompt(latents).embeds_BKD - injector.prompt(moved).embeds_BKD).abs().amax(dim=-1)[0]
    assert (difference > 1e-4).tolist() == [False, False, True, False, False]


def test_pooled_latents_make_as_many_soft_tokens_as_configured() -> None:
    torch.manual_seed(0)
    form = SoftTokens(size=32, scale=0.5)
    injector = PooledInjector(form, latent_size=9, vectors=6, hidden_size=16, learned_prefix=2)
    prompt = injector.prompt(torch.randn(3, 9)).embeds_BKD
    assert prompt.shape == (3, 8, 32)
    assert injector.positions == 8
    roots = _root(prompt[:, 2:])
    torch.testing.assert_close(roots, torch.full_like(roots, 0.5), rtol=1e-2, atol=0)
    torch.testing.assert_close(prompt[0, :2], prompt[1, :2])


@pytest.mark.parametrize("prefix", [0, 2])
def test_a_memory_has_keys_and_values_of_every_layer_at_their_own_scale(prefix: int) -> None:
    injector = _slots(KeysAndValues(size=32, shape=MEMORY, scale=SCALES), prefix)
    prompt = injector.prompt(torch.randn(4, 10))
    assert prompt.embeds_BKD.shape == (4, 0, 32)
    assert prompt.memory_BLXHKE is not None
    assert prompt.memory_BLXHKE.shape == (4, 3, 2, 2, 5 + prefix, 4)
    assert injector.positions == prompt.positions == 5 + prefix
    vectors_BLXKW = prompt.memory_BLXHKE.transpose(3, 4).flatten(4)[:, :, :, prefix:]
    roots = _root(vectors_BLXKW)
    torch.testing.assert_close(roots, SCALES.expand_as(roots), rtol=1e-2, atol=0)


def test_what_is_added_to_embeddings_takes_no_position() -> None:
    torch.manual_seed(0)
    form = AddedEmbedding(size=32, shape=MEMORY, scale=0.3)
    injector = PooledInjector(form, latent_size=9, vectors=1, hidden_size=16, learned_prefix=0)
    prompt = injector.prompt(torch.randn(3, 9))
    assert injector.positions == prompt.positions == 0
    assert prompt.added_BD is not None
    torch.testing.assert_close(_root(prompt.added_BD), torch.full((3,), 0.3), rtol=1e-2, atol=0)
    assert not torch.allclose(prompt.added_BD[0], prompt.added_BD[1])
