"""Denoiser networks: every choice, conditions that change nothing at first, and what a prior's file says of them."""

import math

import pytest
import torch

from difflm.diffusion.network import (
    FourierEmbedding,
    MlpDenoiserConfig,
    NetworkConfig,
    NoiseEmbedding,
    TransformerDenoiserConfig,
    build_network,
)
from difflm.diffusion.priors import network_facts, read_network

TRANSFORMER = TransformerDenoiserConfig(part_size=4, heads=2)


def _config(denoiser: MlpDenoiserConfig | TransformerDenoiserConfig, noise: NoiseEmbedding) -> NetworkConfig:
    return NetworkConfig(width=16, blocks=2, denoiser=denoiser, noise_embedding=noise)


@pytest.mark.parametrize("noise", ["positional", "fourier"])
@pytest.mark.parametrize("denoiser", [MlpDenoiserConfig(), TRANSFORMER])
def test_every_network_reads_latents_noise_and_conditions(
    denoiser: MlpDenoiserConfig | TransformerDenoiserConfig, noise: NoiseEmbedding
) -> None:
    config = _config(denoiser, noise)
    torch.manual_seed(0)
    plain = build_network(config, latent_size=10)  # no multiple of the parts
    taught = build_network(config, latent_size=10, conditions=3)
    taught.load_state_dict({**taught.state_dict(), **plain.state_dict()})
    generator = torch.Generator().manual_seed(0)
    for network in (plain, taught):
        for name, value in network.named_parameters():
            if "outer" in name:  # zero at first, so that blocks would change nothing
                value.data = torch.randn(value.shape, generator=generator.manual_seed(len(name)))
    latents, levels, condition = torch.randn(5, 10), torch.linspace(-1, 1, 5), torch.randn(5, 3)
    with torch.no_grad():
        found = plain(latents, levels)
        assert found.shape == (5, 10)
        torch.testing.assert_close(taught(latents, levels, condition), found, atol=0, rtol=0)
        assert not torch.allclose(plain(latents, levels + 0.1), found, atol=1e-3)
        moved = latents.clone()
        moved[:, 9] += 1.0
        assert not torch.allclose(plain(moved, levels)[:, 0], found[:, 0], atol=1e-4)  # every part reads every other


def test_fourier_features_are_sines_of_fixed_random_frequencies() -> None:
    first, second = FourierEmbedding(64), FourierEmbedding(64)
    assert torch.equal(first.frequencies, second.frequencies)
    assert float(first.frequencies.std()) == pytest.approx(2 * math.pi * 16, rel=0.3)
    features = first(torch.tensor([0.0, 0.3]))
    torch.testing.assert_close(features[0], torch.cat([torch.ones(32), torch.zeros(32)]))
    torch.testing.assert_close(features.square().sum(dim=1), torch.full((2,), 32.0))


def test_a_priors_file_names_only_what_is_not_the_default() -> None:
    plain = NetworkConfig(width=8, blocks=1)
    assert network_facts(plain) == {"width": 8, "blocks": 1}
    other = _config(TRANSFORMER, "fourier")
    for config in (plain, other):
        assert read_network(network_facts(config)) == config
