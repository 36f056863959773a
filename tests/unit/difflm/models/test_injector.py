"""Injectors: shapes, and soft tokens of the scale of the decoder's own."""

import pytest
import torch

from difflm.models.injector import PooledInjector, SlotInjector, SoftPromptConfig


@pytest.mark.parametrize("prefix", [0, 3])
def test_one_soft_token_per_slot_of_the_embeddings_scale(prefix: int) -> None:
    torch.manual_seed(0)
    config = SoftPromptConfig(hidden_size=16, learned_prefix=prefix)
    injector = SlotInjector(config, slots=5, latent_per_slot=2, size=32, scale=0.07)
    prompt = injector(torch.randn(4, 10)).embeds_BKD
    assert prompt.shape == (4, 5 + prefix, 32)
    assert injector.count == 5 + prefix
    roots = prompt[:, prefix:].square().mean(dim=-1).sqrt()
    torch.testing.assert_close(roots, torch.full_like(roots, 0.07), rtol=1e-2, atol=0)


def test_a_slot_of_the_latent_moves_only_its_own_soft_token() -> None:
    torch.manual_seed(0)
    injector = SlotInjector(SoftPromptConfig(hidden_size=16), slots=5, latent_per_slot=2, size=32, scale=1.0)
    latents = torch.randn(1, 10)
    moved = latents.clone()
    moved[0, 4:6] += 1.0
    difference = (injector(latents).embeds_BKD - injector(moved).embeds_BKD).abs().amax(dim=-1)[0]
    assert (difference > 1e-4).tolist() == [False, False, True, False, False]


def test_pooled_latents_make_as_many_soft_tokens_as_configured() -> None:
    torch.manual_seed(0)
    config = SoftPromptConfig(soft_tokens=6, learned_prefix=2, hidden_size=16)
    injector = PooledInjector(config, latent_size=9, size=32, scale=0.5)
    prompt = injector(torch.randn(3, 9)).embeds_BKD
    assert prompt.shape == (3, 8, 32)
    assert injector.count == 8
    roots = prompt[:, 2:].square().mean(dim=-1).sqrt()
    torch.testing.assert_close(roots, torch.full_like(roots, 0.5), rtol=1e-2, atol=0)
    torch.testing.assert_close(prompt[0, :2], prompt[1, :2])
